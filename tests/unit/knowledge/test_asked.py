import pytest

from polyprag.config import DataConfig, DataName
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge.asked import Split, draw
from polyprag.records import Question

MIXED = [Question(f"q{index}", f"{index}?", ("x",), "abc"[index % 3]) for index in range(60)]


def drawn(name: DataName, **settings) -> Split:
    return draw(MIXED, DataConfig(name=name, path="dev.json", **settings))


def ids(questions) -> list[int]:
    return [int(question.id[1:]) for question in questions]


def test_the_first_of_each_type_are_the_test_set():
    split = drawn(DataName.WIKI2, per_type=4, validation_questions=6)
    assert ids(split.test) == list(range(12))
    assert len(split.validation) == 6
    assert min(ids(split.validation)) >= 12
    assert split.dropped == {"other types": 0, "beyond data.per_type": 42, "beyond the limit": 0}


@pytest.mark.parametrize("name", [DataName.POPQA, DataName.CWQ])
def test_where_the_papers_report_no_types_the_first_of_all_are(name):
    assert ids(drawn(name, per_type=4, validation_questions=6).test) == [0, 1, 2, 3]


def test_types_and_limit_choose_among_the_test_set():
    split = drawn(DataName.HOTPOTQA, per_type=8, types=["a", "b"], limit=6, validation_questions=4)
    assert [question.type for question in split.test].count("a") == 3
    assert max(ids(split.test)) < 24
    assert {question.type for question in split.validation} == {"a", "b"}
    assert min(ids(split.validation)) >= 24
    assert split.dropped == {"other types": 20, "beyond data.per_type": 20, "beyond the limit": 10}
    assert sum(split.dropped.values()) + len(split.all) == len(MIXED)


def test_the_test_set_does_not_depend_on_validation():
    tests = [drawn(DataName.WIKI2, per_type=8, limit=9, validation_questions=n).test for n in (0, 5, 20)]
    assert tests[0] == tests[1] == tests[2]


def test_without_a_beyond_validation_comes_from_what_the_limit_leaves_or_a_quarter():
    limited = drawn(DataName.WIKI2, per_type=0, limit=50, validation_questions=40)
    assert (len(limited.test), len(limited.validation)) == (50, 10)
    whole = drawn(DataName.WIKI2, per_type=300, validation_questions=40)
    assert (len(whole.test), len(whole.validation)) == (45, 15)
    for split in (limited, whole):
        assert not set(ids(split.test)) & set(ids(split.validation))


def test_types_that_do_not_exist_or_come_too_late():
    with pytest.raises(ConfigError, match=r"data\.types: no question has type 'z'; there are a, b, c"):
        drawn(DataName.WIKI2, types=["z"])
    with pytest.raises(DataError, match=r"dev\.json: no question of type c is among the first 2; raise data\.per_type"):
        drawn(DataName.POPQA, types=["c"], per_type=2)


def test_files_of_your_own_have_no_first_questions():
    split = draw(MIXED, DataConfig(name=DataName.JSONL, per_type=1, validation_questions=0))
    assert list(split.test) == MIXED
