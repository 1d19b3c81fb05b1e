import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyprag.config import SplittingConfig, SplitUnit
from polyprag.errors import ConfigError
from polyprag.knowledge.splitting import Splitter

TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(["One", "two.", "e.g.", "Dr.", "J.", "end!", '"So?"', "你好。", "\n", "a" * 9]), max_size=60
    ).map(" ".join),
)
SETTINGS = st.builds(SplittingConfig, unit=st.sampled_from(SplitUnit), size=st.integers(1, 20), sentences=st.booleans())


def tokens(text: str) -> list[int]:
    """One token for each run of at most three word characters, spaces or others, with white space never free."""
    return [len(part) for part in re.findall(r" ?\w{1,3}|\s|[^\w\s]", text)]


def split(text: str, size: int, unit: SplitUnit = SplitUnit.WORDS, sentences: bool = True) -> list[str]:
    return list(Splitter(SplittingConfig(unit=unit, size=size, sentences=sentences), tokens).split(text))


@settings(max_examples=300, deadline=None)
@given(TEXTS, SETTINGS)
@example("a\n\n\n\n\n\nb", SplittingConfig(unit=SplitUnit.TOKENS, size=3))
@example("x" * 100, SplittingConfig(unit=SplitUnit.TOKENS, size=2))
def test_no_character_but_white_space_is_lost_or_doubled(text, splitting):
    parts = list(Splitter(splitting, tokens).split(text))
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part == part.strip() and part in text for part in parts)
    if splitting.unit is SplitUnit.WORDS:
        assert [word for part in parts for word in part.split()] == text.split()
        assert all(len(part.split()) <= splitting.size for part in parts)
    if splitting.unit is SplitUnit.TOKENS:
        assert all(len(tokens(part)) <= splitting.size for part in parts)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["one", "two.", "Three", "four!", "Five"]), max_size=80), st.integers(1, 20))
def test_passages_are_as_long_as_they_may_be_up_to_a_sentence_end(words, size):
    """An independent reading of the rule, word by word."""
    parts = [part.split() for part in split(" ".join(words), size)]
    start = 0
    for part in parts[:-1]:
        halves = (end for end in range(1, size + 1) if 2 * end >= size)
        ends = [end for end in halves if words[start + end - 1][-1] in ".!" and words[start + end][0].isupper()]
        assert len(part) == (ends[-1] if ends else size)
        start += len(part)
    unaware = split(" ".join(words), size, sentences=False)
    assert [len(part.split()) for part in unaware[:-1]] == [size] * (len(unaware) - 1 if unaware else 0)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("aa bb cc. Dd ee ff gg hh", "aa bb cc."),
        ("aa bb cc! Dd ee ff gg hh", "aa bb cc!"),
        ('aa bb "cc?" Dd ee ff gg hh', 'aa bb "cc?"'),
        ('aa bb "cc?" dd ee ff gg hh', 'aa bb "cc?" dd ee'),
        ("aa bb cc. 12 ee ff gg", "aa bb cc."),
        ("aa bb Dr. Dd ee ff gg", "aa bb Dr. Dd ee"),
        ("aa (b e.g. Dd ee ff gg", "aa (b e.g. Dd ee"),
        ("aa bb J. Dd ee ff gg", "aa bb J. Dd ee"),
        ("aa bb U.S. Dd ee ff gg", "aa bb U.S. Dd ee"),
        ("aa. Bb cc dd ee ff gg", "aa. Bb cc dd ee"),
        ("aa bb cc\ndd ee ff gg", "aa bb cc"),
        ("aa bb cc. Dd\nee ff gg", "aa bb cc."),
        ("aa bb 是。 dd ee ff gg", "aa bb 是。"),
        ("aa bb cc. Dd ee. Ff gg", "aa bb cc. Dd ee."),
    ],
)
def test_where_a_passage_of_five_words_ends(text, first):
    assert split(text, 5)[0] == first


def test_inner_white_space_stays():
    assert split("  a  b\n\nc d e\t", 3) == ["a  b", "c d e"]
    assert split("  a  b\n\nc d e\t", 3, SplitUnit.OFF) == ["a  b\n\nc d e"]
    assert [split(" \n", 3, unit) for unit in SplitUnit] == [[], [], []]


def test_a_text_without_white_space_is_cut_in_tokens_at_its_sentence_ends():
    text = "山高。水长！人在哪里？在这里。"
    assert split(text, 4, SplitUnit.TOKENS) == ["山高。水长！", "人在哪里？", "在这里。"]
    assert split(text, 4) == [text]


def test_the_tokens_of_a_real_tokenizer(tiny_tokenizer):
    splitting = SplittingConfig(unit=SplitUnit.TOKENS, size=12)
    splitter = Splitter(splitting, lambda text: tiny_tokenizer.encode(text, add_special_tokens=False))
    text = "The city of Arlen was founded in 1867.\n\nWho wrote the passage? " * 5
    parts = list(splitter.split(text))
    assert " ".join(parts).split() == text.split()
    assert max(len(tiny_tokenizer.encode(part, add_special_tokens=False)) for part in parts) <= 12


def test_tokens_need_a_tokenizer():
    with pytest.raises(ConfigError, match=r"data\.splitting\.unit is tokens, but no tokenizer"):
        Splitter(SplittingConfig(unit=SplitUnit.TOKENS))
