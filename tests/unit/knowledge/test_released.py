import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.config import DataConfig, DataName, OnBadRow
from polyprag.errors import DataError
from polyprag.knowledge.augmentations import read_augmentation
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.loading import benchmark_of, load_knowledge
from polyprag.knowledge.released import is_released, read_released, released_questions
from polyprag.records import Augmentation, Passage, QAPair

TEXTS = ['Ann "Sea" sailed in 1912; it was cold.', "Jon stayed in Arlen.", "Ilse built a mill."]
MODEL = "llama3.2-1b-instruct"


def qa(number: int) -> list[dict[str, object]]:
    return [{"question": f"q{number}?", "answer": f"a{number}", "full_answer": f"It is a{number}."}]


def augment(*numbers: int, model: str = MODEL) -> list[dict[str, object]]:
    return [
        {"pid": pid, "passage": TEXTS[number], f"{model}_rewrite": f"rewrite {number}", f"{model}_qa": qa(number)}
        for pid, number in enumerate(numbers)
    ]


def entry(test_id: int, *numbers: int, **more: object) -> dict[str, object]:
    return {
        "qid": f"x{test_id}",
        "test_id": test_id,
        "question": f"question {test_id}?",
        "answer": "Ann",
        "augment": augment(*numbers),
        "passages": [TEXTS[number] for number in numbers],
        **more,
    }


def write(path: Path, entries: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=4), encoding="utf-8")
    return path


def passages(*numbers: int) -> list[Passage]:
    return [Passage(f"p{number}", f"title {number}", TEXTS[number]) for number in numbers]


def expected(*numbers: int) -> dict[str, Augmentation]:
    return {
        f"p{number}": Augmentation(
            f"p{number}", (f"rewrite {number}",), (QAPair(f"q{number}?", f"a{number}", f"It is a{number}."),)
        )
        for number in numbers
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two question types and their index, as PRAG writes them."""
    model = tmp_path / "2wikimultihopqa" / MODEL
    write(model / "comparison.json", [entry(0, 0, 1), entry(2, 1)])
    write(model / "inference.json", [entry(1, 2, answer=["Ilse", "Ilse Quarn"], type="inference")])
    write(model / "total.json", [{"qid": f"x{n}", "test_id": n, "question": "?", "answer": "x"} for n in range(3)])
    return model


def test_a_folder_of_types_is_read_with_its_index(folder):
    for path in (folder, folder.parent):
        assert is_released(path)
        assert read_augmentation(path, passages(0, 1, 2)) == expected(0, 1, 2)
    assert read_released(folder / "inference.json", passages(2)) == expected(2)


def test_passages_are_compared_by_their_words(folder):
    other = [Passage("p0", "", "Ann 'Sea' sailed in 1912 —  it was cold"), Passage("p1", "Jon", "stayed in Arlen.")]
    assert read_released(folder, other) == expected(0, 1)


def test_passages_that_are_not_in_the_corpus_are_counted(folder, caplog):
    with caplog.at_level(logging.WARNING, "polyprag"):
        assert read_released(folder, passages(1)) == expected(1)
    assert "2 of its passages are not in the corpus and are passed over" in caplog.text
    with pytest.raises(DataError, match="none of its 3 passages is in the corpus; name the passages"):
        read_released(folder, [Passage("z", "", "nothing of this")])


def test_the_model_that_wrote_most_is_taken(tmp_path, caplog):
    both = [{**augment(0)[0], **augment(0, model="big")[0]}, *augment(1, model="big")]
    both[0]["big_rewrite"] = "by another"
    path = write(tmp_path / "total.json", [entry(0, augment=both)])
    with caplog.at_level(logging.INFO, "polyprag"):
        read = read_released(path, passages(0, 1))
    assert read["p0"].rewrites == ("by another",)
    assert f"big of the models big, {MODEL} is taken" in caplog.text


def test_several_models_folders_are_not_mixed(folder):
    write(folder.parent / "other" / "total.json", [entry(0, 0)])
    with pytest.raises(DataError, match=rf"folders of several models \({MODEL}, other\); name one of them"):
        read_augmentation(folder.parent, passages(0))


def test_answers_of_other_kinds_become_text(tmp_path):
    pairs = [
        {"question": "list?", "answer": ["a", 1]},
        {"question": "number?", "answer": 12, "full_answer": 12.5},
        {"question": "none?", "answer": None},
        "no pair",
    ]
    entries = [entry(0, augment=[{"passage": TEXTS[0], "m_qa": pairs}, {"passage": TEXTS[1], "m_qa": "failed"}])]
    read = read_released(write(tmp_path / "total.json", entries), passages(0, 1))
    assert read == {"p0": Augmentation("p0", (), (QAPair("list?", "a, 1"), QAPair("number?", "12", "12.5")))}


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ({"augment": "x"}, r'total\.json: \[0\]: "augment" must be a list'),
        ({"augment": [3]}, r'"augment"\[0\] must be an object'),
        ({"augment": [{"passage": 3, "m_rewrite": "r"}]}, '"passage" must be a string'),
        ({"augment": [{"passage": "t", "m_qa": [{"answer": "x"}]}]}, r'm: "qa"\[0\]: "question" is missing'),
    ],
)
def test_broken_entries_are_errors_or_counted(tmp_path, broken, complaint):
    path = write(tmp_path / "total.json", [broken, entry(1, 1)])
    with pytest.raises(DataError, match=complaint):
        read_released(path, passages(1))
    bad = BadRows(OnBadRow.SKIP)
    assert read_released(path, passages(1), bad) == expected(1)
    assert bad.counts.total() == 1


@pytest.mark.parametrize("content", ["[]", "[{}]", '[{"augment": []}]', '[{"augment": [{"passage": "t"}]}]'])
def test_files_without_anything_are_refused(tmp_path, content):
    (tmp_path / "total.json").write_text(content)
    with pytest.raises(DataError, match=r"no entry has"):
        read_augmentation(tmp_path, passages(0))
    (tmp_path / "total.json").unlink()
    with pytest.raises(DataError, match="holds no JSON files"):
        read_augmentation(tmp_path, passages(0))


def test_other_files_are_not_mistaken(tmp_path):
    assert not is_released(tmp_path / "missing.json")
    assert not is_released(tmp_path)
    assert not is_released(write(tmp_path / "own.json", [{"passage_id": "a", "rewrites": ["augment"]}]))
    (tmp_path / "lines.jsonl").write_text('{"augment": []}\n')
    assert not is_released(tmp_path / "lines.jsonl")


def test_questions_come_with_their_passages_and_types(folder):
    rows = list(released_questions(folder, BadRows()))
    assert [row.values for row in rows] == [
        {"id": f"x{id_}", "question": f"question {id_}?", "answers": answers, "type": type_, "passages": own}
        for id_, answers, type_, own in [
            (0, ["Ann"], "comparison", [{"text": TEXTS[0]}, {"text": TEXTS[1]}]),
            (2, ["Ann"], "comparison", [{"text": TEXTS[1]}]),
            (1, ["Ilse", "Ilse Quarn"], "inference", [{"text": TEXTS[2]}]),
        ]
    ]
    total = write(folder.parent / "total.json", [entry(4, 0)])
    assert [row.values["type"] for row in released_questions(total, BadRows())] == [""]


@pytest.mark.parametrize("key", ["path", "questions"])
def test_one_name_gives_passages_questions_and_augmentation(folder, key):
    data = DataConfig(name=DataName.JSONL, validation_questions=0, **{key: str(folder)})
    if key == "questions":
        data.augmentation = str(folder)
    knowledge = load_knowledge(data)
    assert [passage.text for passage in knowledge.passages] == TEXTS
    assert [question.id for question in knowledge.test] == ["x0", "x2", "x1"]
    ids = {passage.text: passage.id for passage in knowledge.passages}
    assert knowledge.augmentations[ids[TEXTS[2]]].rewrites == ("rewrite 2",)
    assert len(knowledge.augmentations) == 3


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["augment", "passage", "m_qa", "m_rewrite", "question", "answer"]), inner),
    ),
    max_leaves=12,
)


def error_of(read: Callable[..., object], path: Path) -> DataError | None:
    try:
        list(read(path, BadRows()) if read is released_questions else read(path, passages(0)))
    except DataError as error:
        return error
    return None


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"augment": JSON, "question": JSON, "answer": JSON}), max_size=3))
def test_any_content_gives_records_or_a_data_error(tmp_path_factory, entries):
    path = write(tmp_path_factory.mktemp("any") / "f.json", entries)
    for read in (read_released, released_questions):
        error = error_of(read, path)
        assert error is None or (str(error).startswith(str(path)) and "\n" not in str(error))


@pytest.mark.parametrize("named", ["", MODEL, f"{MODEL}/bridge.json"])
def test_files_are_of_the_set_that_their_folder_is_named_after(tmp_path, named):
    folder = tmp_path / "popqa" / "data_aug" / "hotpotqa"
    write(folder / MODEL / "bridge.json", [entry(0, 0)])
    assert benchmark_of(DataConfig(name=DataName.JSONL, path=str(folder / named))) == "hotpotqa"


def test_the_folder_counts_from_where_it_is_called(tmp_path, monkeypatch):
    write(tmp_path / "2wikimultihopqa" / MODEL / "bridge.json", [entry(0, 0)])
    monkeypatch.chdir(tmp_path / "2wikimultihopqa")
    assert benchmark_of(DataConfig(name=DataName.JSONL, path=MODEL)) == "2wikimultihopqa"


def test_other_files_and_questions_are_of_no_benchmark(tmp_path):
    released = write(tmp_path / "hotpotqa" / MODEL / "bridge.json", [entry(0, 0)])
    unnamed = write(tmp_path / "mine" / MODEL / "bridge.json", [entry(0, 0)])
    corpus = write(tmp_path / "hotpotqa" / "corpus.jsonl", {"title": "Ann", "text": TEXTS[0]})
    assert benchmark_of(DataConfig(name=DataName.JSONL, path=str(unnamed))) == ""
    assert benchmark_of(DataConfig(name=DataName.JSONL, path=str(corpus))) == ""
    assert benchmark_of(DataConfig(name=DataName.JSONL, path=str(released), questions="gold.jsonl")) == ""
    assert benchmark_of(DataConfig(name=DataName.DEMO)) == ""
    assert benchmark_of(DataConfig(name=DataName.POPQA)) == "popqa"
