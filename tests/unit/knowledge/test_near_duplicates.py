import random

from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.knowledge.near_duplicates import CANDIDATES, near_duplicates
from polyprag.metrics import normalise

WORDS = ["mill", "river", "stone", "north", "founded", "old", "town", "bridge", "year", "people"]


def shingles(text: str) -> set[tuple[str, ...]]:
    words = normalise(text).split()
    return {tuple(words[at : at + 5]) for at in range(max(1, len(words) - 4))} if words else set()


def likeness(a: str, b: str) -> float:
    ours, theirs = shingles(a), shingles(b)
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0


def check_against_all_pairs(texts: list[str]) -> int:
    """Compare with what all pairs say; returns how many texts repeat an earlier one."""
    expected = {
        at: {other for other in range(at) if likeness(text, texts[other]) >= 0.8} for at, text in enumerate(texts)
    }
    found = near_duplicates(texts)
    assert [at for at, _ in found] == [at for at, earlier in expected.items() if earlier]
    assert all(earlier == min(expected[at]) for at, earlier in found)
    return len(found)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), max_size=12))
def test_short_texts_of_few_words(texts):
    check_against_all_pairs(texts)


def test_long_texts_with_changes_here_and_there():
    draw = random.Random(0)
    texts: list[str] = []
    for _ in range(80):
        words = draw.choice(texts).split() if texts and draw.random() < 0.5 else draw.choices(WORDS, k=60)
        for _ in range(draw.randint(0, 3)):
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append(" ".join(words))
    assert 10 < check_against_all_pairs(texts) < 70


def test_case_punctuation_and_articles_make_no_difference():
    assert near_duplicates(["The mill stands.", "Another.", "mill, stands"]) == [(2, 0)]


def test_a_short_text_is_one_shingle():
    assert near_duplicates(["old town", "old town bridge", "old town"]) == [(2, 0)]


def test_texts_without_words_repeat_nothing():
    assert near_duplicates(["", "?", "the"]) == []
    assert near_duplicates([]) == []


def test_of_many_equal_texts_each_repeats_the_first():
    texts = ["old town bridge year people"] * (CANDIDATES + 20)
    assert near_duplicates(texts) == [(at, 0) for at in range(1, len(texts))]
