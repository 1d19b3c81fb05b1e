from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.errors import ConfigError
from polyprag.knowledge.selection import (
    count_types,
    describe,
    first_of_each,
    of_types,
    split_beyond,
    split_questions,
    stratified_sample,
    warn_without_test,
)
from polyprag.records import Knowledge, LoadCounts, Passage, Question

TYPES = st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=60)
SEEDS = st.integers(0, 5)


def questions_of(types: list[str]) -> list[Question]:
    return [Question(f"q{index}", f"question {index}", ("x",), type_) for index, type_ in enumerate(types)]


@pytest.mark.parametrize("asked", [0, 1])
def test_only_a_corpus_that_asks_nothing_is_warned_of(caplog, asked):
    warn_without_test(Knowledge((), {}, test=tuple(questions_of(["a"] * asked)), validation=tuple(questions_of(["a"]))))
    assert ("no test questions" in caplog.text) != bool(asked)
    assert ("name some in data.questions" in caplog.text) != bool(asked)


@settings(max_examples=80, deadline=None)
@given(types=TYPES, n=st.integers(0, 70), seed=SEEDS)
def test_a_draw_is_exact_ordered_and_in_proportion(types, n, seed):
    questions = questions_of(types)
    drawn = stratified_sample(questions, n, seed)
    assert drawn == stratified_sample(questions, n, seed)
    assert len(drawn) == min(n, len(questions))
    assert [question for question in questions if question in drawn] == drawn
    counts, quotas = Counter(types), Counter(question.type for question in drawn)
    if n >= len(counts):
        assert quotas.keys() == counts.keys()
    raised = sum(quotas[type_] == 1 and n * counts[type_] < len(types) for type_ in counts)
    for type_ in counts:
        exact = min(n, len(types)) * counts[type_] / len(types)
        assert exact - 1 - raised < quotas[type_] < max(exact + 1, 1.001)


def test_largest_remainders_get_the_rest():
    drawn = stratified_sample(questions_of(["a"] * 23 + ["b"] * 31 + ["c"] * 46), 10, seed=0)
    assert count_types(drawn) == {"a": 2, "b": 3, "c": 5}


def test_a_rare_type_gets_one_at_the_cost_of_the_others():
    drawn = stratified_sample(questions_of(["a"] * 98 + ["b", "c"]), 10, seed=0)
    assert count_types(drawn) == {"a": 8, "b": 1, "c": 1}


def test_sorted_files_are_drawn_evenly_and_seeds_differ():
    questions = questions_of([type_ for type_ in "abcd" for _ in range(75)])
    first, second = stratified_sample(questions, 30, 0), stratified_sample(questions, 30, 1)
    assert set(count_types(first).values()) == {7, 8}
    assert first != second
    assert {question.id for question in first} < {question.id for question in stratified_sample(questions, 60, 0)}


@settings(max_examples=60, deadline=None)
@given(types=TYPES, limit=st.integers(0, 70), validation=st.integers(0, 30), seed=SEEDS)
def test_validation_questions_are_never_scored(types, limit, validation, seed):
    questions = questions_of(types)
    test, apart = split_questions(questions, limit, validation, seed)
    assert not {question.id for question in test} & {question.id for question in apart}
    assert len(apart) <= validation
    if 0 < limit < len(questions):
        assert test == stratified_sample(questions, limit, seed)
        assert len(apart) == min(validation, len(questions) - limit)
    else:
        assert len(apart) == min(validation, len(questions) // 4)
        assert len(test) + len(apart) == len(questions)


def test_types_are_kept_or_refused():
    questions = questions_of(["a", "b", "a"])
    assert of_types(questions, []) == questions
    assert [question.id for question in of_types(questions, ["a"])] == ["q0", "q2"]
    with pytest.raises(ConfigError, match=r"data\.types: no question has type 'z'; there are a, b"):
        of_types(questions, ["a", "z"])


@settings(max_examples=60, deadline=None)
@given(types=TYPES, n=st.integers(0, 20), typed=st.booleans())
def test_the_first_of_each_type_are_cut_off_in_order(types, n, typed):
    questions = questions_of(types)
    first, beyond = first_of_each(questions, n, typed)
    assert sorted([*first, *beyond], key=questions.index) == questions
    strata = set(types) if typed else {None}
    for stratum in strata:
        own = [question for question in questions if stratum in {None, question.type}]
        assert [question for question in first if question in own] == (own[:n] if n else own)


@settings(max_examples=60, deadline=None)
@given(types=TYPES, n=st.integers(1, 20), limit=st.integers(0, 70), validation=st.integers(0, 30), seed=SEEDS)
def test_validation_comes_from_beyond_the_test_set_while_there_is_a_beyond(types, n, limit, validation, seed):
    first, beyond = first_of_each(questions_of(types), n, True)
    test, apart = split_beyond(first, beyond, limit, validation, seed)
    assert test == [question for question in first if question in test]
    assert not {question.id for question in test} & {question.id for question in apart}
    if beyond:
        assert test == stratified_sample(first, limit or len(first), seed)
        assert apart == stratified_sample(beyond, validation, seed)
    else:
        assert (test, apart) == split_questions(first, limit, validation, seed)


def test_what_was_loaded_reads_as_one_line():
    test = tuple(questions_of(["", "", "", "bridge"]))
    passages = tuple(Passage(f"p{index}", "", "text") for index in range(5))
    counts = LoadCounts(2, 0, {}, {"other types": 4})
    assert describe(Knowledge(passages, {}, test, (), counts)) == (
        "5 passages (2 duplicates collapsed); 4 test questions (untyped 3, bridge 1); "
        "0 validation questions; 4 dropped questions (other types 4)"
    )
    counts = LoadCounts(0, 3, {"no answers": 1}, {})
    assert describe(Knowledge(passages, {}, test, (), counts)).endswith(
        "; 0 dropped questions; 1 rows left out (no answers 1); 3 gold passages are not in the corpus"
    )
