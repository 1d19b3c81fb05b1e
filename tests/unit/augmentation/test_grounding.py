import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.augmentation.grounding import (
    contains_run,
    content_tokens,
    names_and_numbers,
    scripts,
    share_within,
    tokens,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dvořák's 1,234 SONGS", ["dvorak", "s", "1234", "songs"]),
        ("two or 2", ["2", "or", "2"]),
        ("1,23 and 12,345,678", ["1", "23", "and", "12345678"]),
        ("東京 2020", ["東", "京", "2020"]),
        ("", []),
    ],
)
def test_tokens(text, expected):
    assert tokens(text) == expected


def test_content_tokens_fall_back_on_all():
    assert content_tokens("in the year 1912") == ["year", "1912"]
    assert content_tokens("The Who") == ["the", "who"]


def test_runs_are_whole_words_in_order():
    text = tokens("The old mill of Arlen")
    assert contains_run(text, ["mill", "of", "arlen"])
    for run in ([], ["mil"], ["of", "mill"], ["mill", "arlen"]):
        assert not contains_run(text, run)


@given(st.text(), st.text(), st.text())
def test_a_text_contains_its_parts(before, inner, after):
    run = tokens(inner)
    assert contains_run(tokens(f"{before} . {inner} . {after}"), run) == bool(run)


def test_shares_allow_other_endings_of_long_words():
    assert share_within(["sailed", "founded", "x"], ["sailed", "founding"]) == pytest.approx(2 / 3)
    assert share_within(["cars"], ["cards"]) == 0


def test_names_and_numbers_pass_over_sentence_beginnings():
    found = names_and_numbers("Ships sailed from Arlen in 1912. They met Ann. “We did,” said Mr. Tolk, aged 41a.")
    assert found >= {"arlen", "1912", "ann", "41a"}
    assert not found & {"ships", "they", "we"}


def test_scripts():
    assert scripts("abc где 12") == {"LATIN": 3, "CYRILLIC": 3}
