import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.retrieval.recall import recall_at

FOUND = [["a", "b", "c"], ["c", "d"], [], ["e"]]
GOLD = [{"b", "c"}, ["x", "c"], ["e"], ()]


def test_it_is_the_mean_share_of_gold_over_questions_that_have_gold():
    assert recall_at(FOUND, GOLD, [1, 2, 3, 9]) == pytest.approx({1: 0.5 / 3, 2: 1 / 3, 3: 0.5, 9: 0.5})


def test_without_gold_there_is_nothing_to_say():
    assert recall_at([["a"]], [()], [1]) == recall_at([], [], [1]) == {}


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 9), unique=True), st.sets(st.integers(0, 9), min_size=1)), min_size=1)
)
def test_it_rises_with_k_to_at_most_all(pairs):
    found, gold = zip(*pairs, strict=True)
    share = recall_at(found, gold, range(1, 11))
    assert list(share.values()) == sorted(share.values())
    assert all(0 <= share[k] <= 1 + 1e-12 for k in share)
    everything = [list(range(10))] * len(gold)
    assert recall_at(everything, gold, [10]) == {10: 1.0}
