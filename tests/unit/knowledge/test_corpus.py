import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyprag.config import DataConfig, DataName
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge.corpus import load_knowledge, read_augmentation, read_corpus, read_questions
from polyprag.knowledge.records import Augmentation, Knowledge, Passage, QAPair, Question

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
KEYS = ["id", "title", "text", "qas", "question", "answer", "answers", "passages", "passage_ids", "qa", "type"]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def error_of(read: Callable[[Path], object], path: Path) -> DataError | None:
    try:
        read(path)
    except DataError as error:
        return error
    return None


def pairs(*numbers: int) -> list[dict[str, str]]:
    return [{"question": f"question {number}?", "answer": f"answer {number}"} for number in numbers]


def qa(*numbers: int) -> tuple[QAPair, ...]:
    return tuple(QAPair(f"question {number}?", f"answer {number}") for number in numbers)


def load(tmp_path: Path, corpus=(), questions=(), augmentation=(), require_training=False, **settings) -> Knowledge:
    data = DataConfig(name=DataName.JSONL, **settings)
    for key, rows in (("path", corpus), ("questions", questions), ("augmentation", augmentation)):
        if rows:
            setattr(data, key, str(write(tmp_path / f"{key}.jsonl", *rows)))
    return load_knowledge(data, require_training)


class TestReadCorpus:
    def test_rows_become_passages_with_stable_ids(self, tmp_path):
        rows = [{"id": "a", "title": "T", "text": " one "}, {"text": "two"}, {"id": "", "title": None, "text": "three"}]
        corpus = read_corpus(write(tmp_path / "c.jsonl", *rows))
        assert corpus.passages[0] == Passage("a", "T", "one")
        for passage in corpus.passages[1:]:
            assert passage.id == "p-" + passage.content_hash[:16]
        assert corpus.passages[1:] == read_corpus(write(tmp_path / "d.jsonl", *rows[1:])).passages

    def test_gzip_reads_alike(self, tmp_path):
        plain = write(tmp_path / "c.jsonl", {"text": "one"})
        (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
        assert read_corpus(tmp_path / "c.jsonl.gz") == read_corpus(plain)

    def test_duplicates_collapse_and_their_pairs_merge(self, tmp_path):
        corpus = read_corpus(
            write(
                tmp_path / "c.jsonl",
                {"id": "a", "text": "one", "qas": pairs(1, 2)},
                {"id": "b", "text": "two"},
                {"id": "c", "text": "one", "qas": pairs(2, 3, 3)},
                {"text": "one"},
                {"id": "b", "text": "two"},
            )
        )
        assert [passage.id for passage in corpus.passages] == ["a", "b"]
        assert corpus.duplicates == 3
        assert {corpus.canonical[id_] for id_ in ("a", "c")} == {"a"}
        assert corpus.augmentations == {"a": Augmentation("a", qa=qa(1, 2, 3))}

    def test_titles_distinguish_passages(self, tmp_path):
        rows = [{"title": title, "text": "same"} for title in ("A", "B")]
        assert len(read_corpus(write(tmp_path / "c.jsonl", *rows)).passages) == 2

    def test_a_given_id_never_hides_another_passages_content(self, tmp_path):
        made = read_corpus(write(tmp_path / "c.jsonl", {"text": "two"})).passages[0].id
        with pytest.raises(DataError, match=f"c.jsonl:2: id '{made}' belongs to another passage above"):
            read_corpus(write(tmp_path / "c.jsonl", {"id": made, "text": "one"}, {"text": "two"}))

    @pytest.mark.parametrize(
        ("row", "complaint"),
        [
            ({"title": "T"}, '"text" is missing'),
            ({"text": "  "}, '"text" is blank'),
            ({"text": ["x"]}, '"text" must be a string'),
            ({"text": "x", "id": 7.5}, r'"id" must be a string, not 7\.5'),
            ({"text": "x", "qas": {"question": "q"}}, '"qas" must be a list'),
            ({"text": "x", "qas": [{"question": "q"}]}, r'"qas"\[0\]: "answer" is missing'),
            ({"text": "x", "qas": [{"question": "q", "answer": ""}]}, r'"qas"\[0\]: "answer" is blank'),
            ({"text": "other", "id": "a"}, "id 'a' belongs to another passage above; give each passage its own id"),
        ],
    )
    def test_bad_rows(self, tmp_path, row, complaint):
        with pytest.raises(DataError, match=r"c\.jsonl:2: " + complaint):
            read_corpus(write(tmp_path / "c.jsonl", {"id": "a", "text": "first"}, row))

    @pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", gzip.compress(b"")])
    def test_an_empty_corpus(self, tmp_path, content):
        (tmp_path / "c.jsonl").write_bytes(content)
        with pytest.raises(DataError, match=r"c\.jsonl: holds no passages; write one"):
            read_corpus(tmp_path / "c.jsonl")


class TestReadQuestions:
    CORPUS = ({"id": "a", "text": "one"}, {"id": "b", "text": "two"}, {"id": "c", "text": "one"})

    def read(self, tmp_path, *rows):
        corpus = read_corpus(write(tmp_path / "c.jsonl", *self.CORPUS))
        return read_questions(write(tmp_path / "q.jsonl", *rows), corpus)

    def test_gold_passages_are_redirected_to_distinct_ones(self, tmp_path):
        asked = self.read(
            tmp_path,
            {"id": "q", "question": "?", "answers": ["x", "y", "x"], "type": "t", "passage_ids": ["c", "b", "a"]},
        )
        assert asked.questions == (Question("q", "?", ("x", "y"), "t", ("a", "b")),)

    def test_missing_ids_are_made_from_the_content(self, tmp_path):
        rows = [{"question": "?", "answers": ["x"]}, {"question": "?", "answers": ["y"]}]
        first, second = self.read(tmp_path, *rows).questions
        assert first.id.startswith("q-")
        assert first.id != second.id
        assert self.read(tmp_path, rows[1]).questions == (second,)

    def test_whole_numbers_are_ids_too(self, tmp_path):
        corpus = read_corpus(write(tmp_path / "c.jsonl", {"id": 0, "text": "one"}, {"id": "1", "text": "two"}))
        row = {"id": 5, "question": "?", "answers": ["x"], "passage_ids": [0, "1", 1]}
        asked = read_questions(write(tmp_path / "q.jsonl", row), corpus)
        assert asked.questions == (Question("5", "?", ("x",), "", ("0", "1")),)
        path = write(tmp_path / "a.jsonl", {"passage_id": 0, "rewrites": ["r"]})
        assert read_augmentation(path, corpus.canonical) == {"0": Augmentation("0", ("r",))}

    def test_repeated_questions_collapse(self, tmp_path):
        row = {"id": "q", "question": "?", "answers": ["x"]}
        assert len(self.read(tmp_path, row, row).questions) == 1

    def test_passages_of_a_question_are_found_in_a_given_corpus(self, tmp_path):
        passages = [{"text": "two", "is_support": True}, {"text": "unknown", "is_support": True}, {"text": "one"}]
        asked = self.read(tmp_path, {"id": "q", "question": "?", "answers": ["x"], "passages": passages})
        assert asked.questions[0].passage_ids == ("b",)
        assert len(asked.corpus.passages) == 2
        assert asked.carried == {}

    @pytest.mark.parametrize(
        ("row", "complaint"),
        [
            ({"answers": ["x"]}, '"question" is missing'),
            ({"question": " ", "answers": ["x"]}, '"question" is blank'),
            ({"question": "?"}, '"answers" holds none'),
            ({"question": "?", "answers": []}, "\"answers\" holds none for '\\?'; give at least one"),
            ({"question": "?", "answers": ["x", ""]}, r'"answers"\[1\] is blank'),
            ({"question": "?", "answers": "x"}, '"answers" must be a list'),
            ({"question": "?", "answers": [1963]}, r'"answers"\[0\] must be a string, not 1963'),
            ({"question": "?", "answers": ["x"], "passage_ids": ["z"]}, "passage id 'z' is not in the corpus"),
            (
                {"question": "?", "answers": ["x"], "passage_ids": [True]},
                r'"passage_ids"\[0\] must be a string, not True',
            ),
            ({"question": "?", "answers": ["x"], "type": 1}, '"type" must be a string'),
            (
                {"question": "?", "answers": ["x"], "passages": [{"text": "t", "is_support": 1}]},
                r'"passages"\[0\]: "is_s',
            ),
            ({"id": "q", "question": "other?", "answers": ["x"]}, "id 'q' belongs to another question above"),
        ],
    )
    def test_bad_rows(self, tmp_path, row, complaint):
        with pytest.raises(DataError, match=r"q\.jsonl:2: " + complaint):
            self.read(tmp_path, {"id": "q", "question": "?", "answers": ["x"]}, row)

    def test_passages_that_come_with_questions_form_the_corpus(self, tmp_path):
        shared = {"title": "S", "text": "shared", "is_support": True}
        rows = [
            {
                "id": "q1",
                "question": "?",
                "answers": ["x"],
                "passages": [{"text": "one"}, shared],
                "passage_ids": ["l"],
            },
            {"id": "q2", "question": "?", "answers": ["x"], "passages": [shared, {"id": "l", "text": "later"}]},
        ]
        asked = read_questions(write(tmp_path / "q.jsonl", *rows))
        assert [passage.text for passage in asked.corpus.passages] == ["one", "shared", "later"]
        one, shared_id, later = [passage.id for passage in asked.corpus.passages]
        assert asked.questions[0].passage_ids == ("l", shared_id)
        assert asked.questions[1].passage_ids == (shared_id,)
        assert asked.carried == {"q1": (one, shared_id), "q2": (shared_id, later)}

    def test_no_questions_and_no_passages(self, tmp_path):
        with pytest.raises(DataError, match=r"q\.jsonl: holds no questions"):
            self.read(tmp_path)
        with pytest.raises(
            DataError, match=r"q\.jsonl: no question comes with passages; name the corpus in data\.path"
        ):
            read_questions(write(tmp_path / "q.jsonl", {"question": "?", "answers": ["x"]}))


class TestReadAugmentation:
    def test_rows_merge_by_distinct_passage(self, tmp_path):
        path = write(
            tmp_path / "a.jsonl",
            {"passage_id": "a", "rewrites": ["r", "s"], "qa": pairs(1), "by": "model", "prompt_version": 2},
            {"passage_id": "c", "rewrites": ["s", "t"]},
            {"passage_id": "b", "qa": [{"question": "q", "answer": "a", "full_answer": "It is a."}]},
        )
        assert read_augmentation(path, {"a": "a", "b": "b", "c": "a"}) == {
            "a": Augmentation("a", ("r", "s", "t"), qa(1)),
            "b": Augmentation("b", (), (QAPair("q", "a", "It is a."),)),
        }

    @pytest.mark.parametrize(
        ("row", "complaint"),
        [
            ({"rewrites": ["r"]}, '"passage_id" is missing'),
            (
                {"passage_id": "z", "rewrites": ["r"]},
                "passage id 'z' is not in the corpus; correct it or add the passage",
            ),
            ({"passage_id": "a"}, 'neither "rewrites" nor "qa" holds anything'),
            ({"passage_id": "a", "rewrites": "r"}, '"rewrites" must be a list'),
            (
                {"passage_id": "a", "qa": [{"question": "q", "answer": 3}]},
                r'"qa"\[0\]: "answer" must be a string, not 3',
            ),
        ],
    )
    def test_bad_rows(self, tmp_path, row, complaint):
        with pytest.raises(DataError, match=r"a\.jsonl:1: " + complaint):
            read_augmentation(write(tmp_path / "a.jsonl", row), {"a": "a"})


class TestLoadKnowledge:
    def test_pairs_are_split_into_training_and_questions(self, tmp_path):
        corpus = [{"id": "a", "text": "one", "qas": pairs(1, 2, 3, 4, 5)}, {"id": "b", "text": "two", "qas": pairs(6)}]
        knowledge = load(tmp_path, corpus, train_qas=3, validation_questions=0)
        assert knowledge.augmentations == {"a": Augmentation("a", qa=qa(1, 2, 3)), "b": Augmentation("b", qa=qa(6))}
        assert knowledge.test == (
            Question("a-q3", "question 4?", ("answer 4",), "", ("a",)),
            Question("a-q4", "question 5?", ("answer 5",), "", ("a",)),
        )

    def test_named_questions_take_the_place_of_left_over_pairs(self, tmp_path):
        corpus = [{"id": "a", "text": "one", "qas": pairs(1, 2)}]
        knowledge = load(tmp_path, corpus, [{"id": "q", "question": "?", "answers": ["x"]}], train_qas=1)
        assert [question.id for question in knowledge.test] == ["q"]
        assert knowledge.augmentations["a"].qa == qa(1)

    def test_a_named_augmentation_joins_the_passages_own_pairs(self, tmp_path):
        corpus = [{"id": "a", "text": "one", "qas": pairs(1, 2)}, {"id": "b", "text": "two"}]
        augmentation = [{"passage_id": "a", "rewrites": ["r"], "qa": pairs(9)}]
        knowledge = load(tmp_path, corpus, augmentation=augmentation, train_qas=1)
        assert knowledge.augmentations == {"a": Augmentation("a", ("r",), qa(1, 9))}

    def test_no_training_pairs_are_refused_where_they_are_needed(self, tmp_path):
        corpus = [{"text": "one", "qas": pairs(1, 2)}]
        assert load(tmp_path, corpus, train_qas=0).augmentations == {}
        with pytest.raises(
            DataError, match=r"path\.jsonl: no passage has question-answer pairs to train on; give rows"
        ):
            load(tmp_path, corpus, train_qas=0, require_training=True)
        assert load(tmp_path, corpus, train_qas=1, require_training=True).passages

    def test_a_configuration_without_files(self, tmp_path):
        with pytest.raises(ConfigError, match=r"data\.path and data\.questions are both empty"):
            load(tmp_path)

    def test_max_passages_drops_questions_without_gold(self, tmp_path, caplog):
        corpus = [{"id": id_, "text": id_, "qas": pairs(1)} for id_ in "abc"]
        gold = {"q1": ["a"], "q2": ["b", "c"], "q3": ["c"], "q4": []}
        questions = [{"id": id_, "question": id_, "answers": ["x"], "passage_ids": ids} for id_, ids in gold.items()]
        with caplog.at_level(logging.INFO, "polyprag"):
            knowledge = load(tmp_path, corpus, questions, max_passages=2, validation_questions=0)
        assert [passage.id for passage in knowledge.passages] == ["a", "b"]
        assert knowledge.augmentations.keys() == {"a", "b"}
        assert {question.id: question.passage_ids for question in knowledge.test} == {
            "q1": ("a",), "q2": ("b",), "q4": (),
        }  # fmt: skip
        assert "1 dropped questions (gold passages cut 1)" in caplog.text
        with pytest.raises(DataError, match=r"no question is left: data\.max_passages=2 cuts all gold passages"):
            load(tmp_path, corpus, questions[2:3], max_passages=2)

    def test_types_limit_and_validation(self, tmp_path):
        questions = [
            {"id": f"{type_}{index}", "question": f"{type_}{index}", "answers": ["x"], "type": type_}
            for type_ in "abc"
            for index in range(20)
        ]
        options = {"types": ["a", "b"], "limit": 10, "validation_questions": 6, "limit_seed": 3}
        knowledge = load(tmp_path, [{"text": "one"}], questions, **options)
        assert [question.type for question in knowledge.test] == ["a"] * 5 + ["b"] * 5
        assert [question.type for question in knowledge.validation] == ["a"] * 3 + ["b"] * 3
        assert load(tmp_path, [{"text": "one"}], questions, **options) == knowledge
        assert load(tmp_path, [{"text": "one"}], questions, **{**options, "limit_seed": 4}).test != knowledge.test
        with pytest.raises(ConfigError, match=r"data\.types: no question has type 'z'"):
            load(tmp_path, [{"text": "one"}], questions, types=["z"])

    def test_only_passages_of_drawn_questions_stay(self, tmp_path):
        questions = [
            {
                "id": f"q{index}",
                "question": f"{index}?",
                "answers": ["x"],
                "passages": [
                    {"text": f"gold {index}", "is_support": True},
                    {"text": f"other {index}"},
                    {"text": "everywhere"},
                ],
            }
            for index in range(8)
        ]
        knowledge = load(tmp_path, questions=questions, limit=2, validation_questions=1)
        drawn = {question.id[1:] for question in (*knowledge.test, *knowledge.validation)}
        assert len(drawn) == 3
        expected = {f"{word} {number}" for word in ("gold", "other") for number in drawn} | {"everywhere"}
        assert {passage.text for passage in knowledge.passages} == expected
        assert len(knowledge.passages) == 7
        texts = {passage.id: passage.text for passage in knowledge.passages}
        assert [texts[question.passage_ids[0]] for question in knowledge.test] == [
            f"gold {question.id[1:]}" for question in knowledge.test
        ]

    def test_the_demo_world_is_cut_and_filtered_too(self, monkeypatch):
        passages = tuple(Passage(id_, id_, "text") for id_ in "abc")

        def questions(prefix: str) -> tuple[Question, ...]:
            return tuple(
                Question(f"{prefix}{index}{id_}", "?", ("x",), "t" if index % 2 else "u", (id_,))
                for index in range(6)
                for id_ in "abc"
            )

        world = Knowledge(passages, {id_: Augmentation(id_, qa=qa(1)) for id_ in "abc"}, questions("q"), questions("v"))
        monkeypatch.setattr("polyprag.knowledge.corpus.generate_world", lambda config: world)
        assert load_knowledge(DataConfig(), require_training=True) == world
        cut = load_knowledge(DataConfig(max_passages=2, types=["t"], limit=4))
        assert cut.passages == passages[:2]
        assert cut.augmentations.keys() == {"a", "b"}
        assert len(cut.test) == 4
        assert len(cut.validation) == 6
        assert {question.type for question in (*cut.test, *cut.validation)} == {"t"}


@settings(max_examples=80, deadline=None)
@given(st.one_of(st.binary(max_size=100), st.lists(st.dictionaries(st.sampled_from(KEYS), JSON), max_size=3)))
@example([{"text": "\ud800"}])
@example([{"question": "?", "answers": ["x"], "passages": [{"text": "t", "is_support": True}]}])
def test_any_file_gives_records_or_a_data_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "f.jsonl"
    path.write_bytes(
        content if isinstance(content, bytes) else b"".join(json.dumps(row).encode() + b"\n" for row in content)
    )
    for read in (read_corpus, read_questions, lambda path: read_augmentation(path, {"": ""})):
        error = error_of(read, path)
        assert error is None or (str(error).startswith(str(path)) and "\n" not in str(error))
