import json
import random
from pathlib import Path

import pytest

from polyprag.config import DataConfig, DataName, DataPart, OnBadRow
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge.loading import load_knowledge
from polyprag.knowledge.overlap import QuestionIndex
from polyprag.metrics import normalise
from polyprag.records import Knowledge

PUBLISHED = Path(__file__).parents[1] / "published"


def question(index: int, type_: str = "bridge", text: str = "", **more: object) -> dict[str, object]:
    context = [[f"Other {index}", ["Nothing."]], [f"Gold {index}", [f"Person {index} made glass."]]]
    asked = text or f"What did person{index} of town{index} make in year{index}?"
    facts = [[f"Gold {index}", 0]]
    row = {"_id": f"q{index}", "question": asked, "answer": f"glass {index}", "type": type_}
    return row | {"context": context, "supporting_facts": facts} | more


@pytest.fixture
def load(tmp_path):
    def loaded(*rows: dict[str, object], train=(), part=DataPart.OUTSIDE, **settings) -> Knowledge:
        (tmp_path / "hotpot_dev_distractor_v1.json").write_text(json.dumps(rows))
        if train:
            (tmp_path / "hotpot_train_v1.1.json").write_text(json.dumps(train))
        settings = {"per_type": 5, "validation_questions": 0} | settings
        return load_knowledge(DataConfig(name=DataName.HOTPOTQA, path=str(tmp_path), part=part, **settings))

    return loaded


def questions_in(knowledge: Knowledge) -> list[str]:
    return [pair.question for own in knowledge.augmentations.values() for pair in own.qa]


def test_each_question_is_a_task_with_its_gold_passage(load):
    knowledge = load(*map(question, range(7)))
    assert [(passage.title, passage.text) for passage in knowledge.passages] == [
        ("Gold 5", "Person 5 made glass."),
        ("Gold 6", "Person 6 made glass."),
    ]
    for passage in knowledge.passages:
        (pair,) = knowledge.augmentations[passage.id].qa
        assert pair.answer == f"glass {passage.title[-1]}"
    assert (knowledge.test, knowledge.validation) == ((), ())
    assert knowledge.counts.dropped_questions == {"in the test set or for validation": 5}


def test_without_gold_it_is_the_first_passage_and_without_any_the_question(load):
    first = question(5, supporting_facts=[])
    none = question(6, context=[], supporting_facts=[["Gold 6", 0]])
    knowledge = load(*map(question, range(5)), first, none)
    assert [(passage.title, passage.text) for passage in knowledge.passages] == [
        ("Other 5", "Nothing."),
        ("", "What did person6 of town6 make in year6?"),
    ]


def test_pairs_of_one_passage_are_one_task(load):
    shared = {"context": [["Shared", ["Both."]]], "supporting_facts": [["Shared", 0]]}
    knowledge = load(*map(question, range(5)), question(5, **shared), question(6, **shared))
    (augmentation,) = knowledge.augmentations.values()
    assert [pair.answer for pair in augmentation.qa] == ["glass 5", "glass 6"]


@pytest.mark.parametrize(
    "copy",
    [
        "What did person1 of town1 make in year1?",
        "what did the Person1 of Town1 make in Year1",
        "In year1, what did person1 of town1 make then?",
    ],
)
def test_copies_of_what_is_tested_are_left_out(load, copy):
    knowledge = load(*map(question, range(5)), question(5), question(6, text=copy))
    assert questions_in(knowledge) == ["What did person5 of town5 make in year5?"]
    assert knowledge.counts.dropped_questions["copies of test or validation questions"] == 1


@pytest.mark.parametrize(
    "settings", [{}, {"types": ["comparison"]}, {"limit": 3, "limit_seed": 4}, {"max_passages": 3}]
)
def test_nothing_outside_is_tested_or_chosen_on(load, settings):
    rows = [question(index, random.Random(index).choice(["bridge", "comparison"])) for index in range(60)]
    own = {key: value for key, value in settings.items() if key != "max_passages"}
    asked = load(*rows, part=DataPart.TEST, per_type=9, validation_questions=8, **own)
    whole = load(*rows, part=DataPart.TEST, per_type=9, validation_questions=8, limit_seed=own.get("limit_seed", 0))
    outside = questions_in(load(*rows, per_type=9, validation_questions=8, **settings))
    apart = {normalise(one.text) for one in (*asked.test, *asked.validation, *whole.test)}
    assert outside
    assert not apart & {normalise(text) for text in outside}
    assert not any(QuestionIndex((*asked.test, *asked.validation)).near(text) for text in outside)


def test_the_number_is_drawn_over_types(load):
    rows = [question(index, "bridge" if index < 30 else "comparison") for index in range(60)]
    for settings in ({"limit": 10}, {"max_passages": 10}, {"limit": 30, "max_passages": 10}):
        drawn = load(*rows, **settings)
        numbers = [int(passage.title.split()[1]) for passage in drawn.passages]
        assert len(numbers) == 10
        assert sum(number < 30 for number in numbers) == 5


def test_the_training_file_is_read_where_the_test_file_leaves_too_few(load):
    rows, train = list(map(question, range(8))), [question(index) for index in range(100, 110)]
    assert len(load(*rows, train=train).passages) == 3
    assert len(load(*rows, train=train, limit=3).passages) == 3
    assert {passage.title for passage in load(*rows, train=train, limit=13).passages} == {
        f"Gold {index}" for index in (5, 6, 7, *range(100, 110))
    }
    copied = question(200, text="What did person0 of town0 make in year0?")
    assert {passage.title for passage in load(*rows[:5], train=[*train, rows[0], copied]).passages} == {
        f"Gold {index}" for index in range(100, 110)
    }


def test_bad_rows_of_either_file(load):
    rows, bad = list(map(question, range(7))), question(9, answer=None)
    with pytest.raises(DataError, match=r"distractor_v1\.json: \[7\]: \"answers\" holds none"):
        load(*rows, bad)
    with pytest.raises(DataError, match=r"train_v1\.1\.json: \[1\]: \"answers\" holds none"):
        load(*rows, train=[question(100), bad], limit=9)
    knowledge = load(*rows, bad, train=[question(100), bad], limit=9, on_bad_row=OnBadRow.SKIP)
    assert len(knowledge.passages) == 3
    assert knowledge.counts.dropped_rows == {"no answers": 2}


def test_nothing_outside_and_types_that_are_not_there(load):
    rows = list(map(question, range(5)))
    with pytest.raises(DataError, match=r"no question is outside the test set; lower data\.per_type, or put hotpot_tr"):
        load(*rows)
    with pytest.raises(ConfigError, match=r"data\.types: no question has type 'z'"):
        load(*rows, question(5), types=["z"])


@pytest.mark.parametrize("name", [DataName.POPQA, DataName.CWQ])
def test_sets_without_passages_teach_the_form_of_answers(name):
    path = str(PUBLISHED / name)
    data = DataConfig(name=name, path=path, part=DataPart.OUTSIDE, per_type=3, validation_questions=0)
    knowledge = load_knowledge(data)
    assert questions_in(knowledge) == [passage.text for passage in knowledge.passages]
    assert all(passage.title == "" for passage in knowledge.passages)
    assert len(knowledge.passages) == {DataName.POPQA: 3, DataName.CWQ: 2}[name]
