import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.augmentation.answers import LONGEST_NAME, Candidate, candidates
from polyprag.records import Passage


def found(text: str, title: str = "", count: int = 9) -> list[tuple[str, str]]:
    return [(one.answer, one.opening) for one in candidates(Passage("p", title, text), count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The school was founded in 1867.", [("1867", "In which year")]),
        ("She died on 7 January 1943 at home.", [("7 January 1943", "When")]),
        ("It opened in April 1991 again.", [("April 1991", "When")]),
        ("The town has 12,500 inhabitants.", [("12,500", "How many inhabitants")]),
        ("It was painted by Mira Tolk.", [("Mira Tolk", "Who")]),
        ("The artist lived in the Hague.", [("Hague", "Where")]),
        ("The river passes Arlen.", [("Arlen", "")]),
    ],
)
def test_the_kind_of_an_answer_decides_how_its_question_begins(text, expected):
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "It lies by the sea.",
        "Arlen lies by the sea.",
        "That was Mira's idea.",
        "She liked German food and so did I.",
        "It cost $12 dollars and 1.5 cents more, 50% of it.",
        "The 1860s were years of growth, as were 1870-75.",
        "They met the Royal Northern Academy of Arts Letters Science.",
    ],
)
def test_what_is_no_answer(text):
    assert not [answer for answer, _ in found(text) if answer != "1.5"]


def test_answers_with_an_opening_come_first_and_sentences_take_turns():
    text = (
        "The first bridge crosses Om and stood in 1702. The second was built by Jon Veld, whom Ilse Quarn paid in 1711."
    )
    assert found(text) == [
        ("1702", "In which year"),
        ("1711", "In which year"),
        ("Jon Veld", "Who"),
        ("Om", ""),
        ("Ilse Quarn", ""),
    ]
    assert found(text, count=2) == [("1702", "In which year"), ("1711", "In which year")]
    assert found(text, count=0) == []


def test_no_two_questions_of_a_sentence_begin_alike():
    assert found("The town grew from 1702 to 1711 and to 1750.") == [("1702", "In which year")]


def test_neither_the_title_nor_a_part_of_it_is_an_answer():
    text = "In Paris the physicist Tesla met Nikola Tesla."
    assert found(text, title="Nikola Tesla") == []
    assert found(text, title="Tesl") == [("Tesla", ""), ("Nikola Tesla", "")]


def test_no_answer_comes_twice():
    assert found("The river passes Arlen. The road passes Arlen.") == [("Arlen", "")]


@given(st.text(max_size=300), st.text(max_size=20), st.integers(0, 5))
def test_answers_stand_in_their_sentences_whatever_the_text(text, title, count):
    chosen = candidates(Passage("p", title, text), count)
    assert len(chosen) <= count
    assert len({one.answer.casefold() for one in chosen}) == len(chosen)
    for one in chosen:
        assert isinstance(one, Candidate)
        assert one.answer in one.sentence
        assert len(one.answer.split()) <= LONGEST_NAME
