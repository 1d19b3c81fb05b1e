import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.augmentation.cloze import BLANK
from polyprag.augmentation.extractive import choose, extract
from polyprag.augmentation.grounding import contains_run, tokens
from polyprag.augmentation.sentences import repaired
from polyprag.augmentation.slot_patterns import Candidate
from polyprag.augmentation.slots import slot_questions
from polyprag.augmentation.statements import StatementReader
from polyprag.augmentation.validation import validate
from polyprag.config import AugmentationConfig, Grounding
from polyprag.knowledge.overlap import QuestionIndex
from polyprag.records import Passage

PASSAGES = [
    Passage(
        "a",
        "Mira Tolk",
        "Mira Tolk (7 May 1867 – 1940) was a German painter and writer. She was born in Arlen, Brask, the daughter of "
        "King Jon Tolk and Ilse Quarn. In 1890, she married Piet Lomax. She studied law at the University of Corvo and "
        'painted "The Blue Sea". Her brother, Abel Tolk, was a soldier. Tolk died in Drissa of fever.',
    ),
    Passage(
        "b",
        "Blue Sea (film)",
        "Blue Sea is a 1999 French drama film directed by Mira Tolk and written by Jon Veld and Abel Dorn. It stars "
        "Runa Hale. It is based on the novel Ships by Piet Lomax. The film was released on 7 May 1999 by Arlen "
        "Pictures. It won the Golden Sail in 2000.",
    ),
    Passage(
        "c",
        "Arlen",
        "Arlen is a town in Brask County, Corvo. It has a population of 12,500. The town was founded in 1312 by Duke "
        "Otto II. Its mayor is Ilse Quarn. Arlen is located near Lake Drissa and was the capital of Brask. The Old "
        "Bridge was built in 1890.",
    ),
]


def slots(passage: Passage) -> set[tuple[str, str]]:
    statements = StatementReader(passage).read()
    return {(one.question, one.answer) for statement in statements for one in slot_questions(statement)}


@pytest.mark.parametrize(
    ("passage", "expected"),
    [
        (
            PASSAGES[0],
            [
                ("When was Mira Tolk born?", "7 May 1867"),
                ("When did Mira Tolk die?", "1940"),
                ("Where was Mira Tolk born?", "Arlen, Brask"),
                ("Who was the father of Mira Tolk?", "King Jon Tolk"),
                ("Who was the mother of Mira Tolk?", "Ilse Quarn"),
                ("What was the nationality of Mira Tolk?", "German"),
                ("What was the profession of Mira Tolk?", "painter"),
                ("Who did Mira Tolk marry?", "Piet Lomax"),
                ("When did Mira Tolk marry Piet Lomax?", "1890"),
                ("What did Mira Tolk study?", "law"),
                ("What did Mira Tolk paint?", "The Blue Sea"),
                ("Who was the brother of Mira Tolk?", "Abel Tolk"),
                ("Where did Mira Tolk die?", "Drissa"),
            ],
        ),
        (
            PASSAGES[1],
            [
                ("Who directed the film Blue Sea?", "Mira Tolk"),
                ("Who wrote the film Blue Sea?", "Jon Veld and Abel Dorn"),
                ("When was the film Blue Sea released?", "7 May 1999"),
                ("By whom was the film Blue Sea released on 7 May 1999?", "Arlen Pictures"),
                ("What genre is the film Blue Sea?", "drama"),
                ("Who stars in the film Blue Sea?", "Runa Hale"),
                ("What is the film Blue Sea based on?", "the novel Ships by Piet Lomax"),
                ("What did the film Blue Sea win in 2000?", "the Golden Sail"),
            ],
        ),
        (
            PASSAGES[2],
            [
                ("Where is Arlen?", "Brask County, Corvo"),
                ("What is the population of Arlen?", "12,500"),
                ("When was Arlen founded?", "1312"),
                ("By whom was Arlen founded in 1312?", "Duke Otto II"),
                ("Who is the mayor of Arlen?", "Ilse Quarn"),
                ("Where is Arlen located?", "Lake Drissa"),
                ("When was the Old Bridge built?", "1890"),
            ],
        ),
    ],
    ids=["person", "work", "place"],
)
def test_sentences_become_questions(passage, expected):
    found = slots(passage)
    for pair in expected:
        assert pair in found


@pytest.mark.parametrize(
    "text",
    [
        "Her brother was Jon Veld. He was born in Corvo in 1850.",
        "She was born in New",
        "Tolk lived in the Arlen area. It was founded in 1912.",
        "Another film directed by Jon Veld was shown.",
    ],
)
def test_doubtful_sentences_give_no_questions_about_birth_and_founding(text):
    passage = Passage("p", "Mira Tolk", f"Mira Tolk was a painter. {text}")
    assert not [question for question, _ in slots(passage) if "born" in question or "founded" in question]


def test_fill_in_questions_take_over_where_patterns_find_nothing():
    passage = Passage("p", "Glass", "Around a third of all 1,200 makers had once come over the sea from Arlen.")
    augmentation = extract(passage, 0, 5)
    assert {pair.answer for pair in augmentation.qa} == {"1,200", "Arlen"}
    for pair in augmentation.qa:
        assert pair.question.startswith("Fill in the blank about Glass: ")
        assert pair.question.count(BLANK) == 1
        assert pair.full_answer == passage.text
        assert pair.question.split(": ", 1)[1].replace(BLANK, pair.answer) == passage.text


def test_questions_are_spread_over_sentences():
    chosen = extract(PASSAGES[2], 0, 4).qa
    assert len({pair.full_answer for pair in chosen}) == 4
    assert extract(PASSAGES[2], 0, 6).qa[:4] == chosen


def test_the_choice_takes_the_best_and_no_answer_twice():
    def candidate(question, answer, place, rank):
        return Candidate(question, answer, "s", place, rank)

    first, worse, spread = candidate("q1?", "A", 0, 0), candidate("q2?", "B", 0, 1), candidate("q3?", "C", 1, 2)
    same, leak = candidate("q4?", "a", 2, 0), candidate("Is it D?", "D", 3, 0)
    assert choose([worse, same, leak, spread, first], 3) == [same, worse, spread]
    assert choose([first, worse, spread], 2) == [first, spread]
    assert choose([first], 0) == []


def test_the_rewrite_reorders_and_names():
    (rewrite,) = extract(PASSAGES[2], 1, 0).rewrites
    assert rewrite.startswith("The Old Bridge was built in 1890. Arlen is located near")
    assert rewrite.endswith("Arlen is a town in Brask County, Corvo.")
    assert "Arlen was founded in 1312" in rewrite
    assert Counter(tokens(rewrite)) - Counter(tokens(PASSAGES[2].text)) <= Counter({"arlen": 4, "s": 1})
    assert extract(PASSAGES[2], 0, 0).rewrites == ()


@pytest.mark.parametrize("passage", PASSAGES)
def test_what_is_extracted_is_valid_by_the_strict_rules(passage):
    config = AugmentationConfig(grounding=Grounding.STRICT)
    augmentation = extract(passage, 1, 20)
    kept, rejected = validate(passage, augmentation, config, QuestionIndex(()))
    assert kept == augmentation
    assert not rejected
    assert len(kept.qa) >= 10


VOCABULARY = (
    "Mira Tolk She It was born in 1912 the film directed by Arlen , . ( ) \" ' – 's and of is a German painter died on "
    "7 May released The town 1,200 who é 東京 ! ? U.S. J. his"
)
WORDS = st.sampled_from(VOCABULARY.split())


@settings(deadline=None)
@given(
    st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=40).map(" ".join)).filter(str.strip),
    st.one_of(st.just("Mira Tolk"), st.just("Arlen (film)"), st.text(string.printable, max_size=12)),
    st.integers(0, 8),
)
def test_any_passage_gives_grounded_pairs(text, title, count):
    passage = Passage("p", title, text)
    augmentation = extract(passage, 1, count)
    assert augmentation == extract(passage, 1, count)
    assert len(augmentation.qa) <= count
    assert len({pair.question for pair in augmentation.qa}) == len(augmentation.qa)
    known = tokens(repaired(f"{title} {text}"))
    for pair in augmentation.qa:
        assert contains_run(known, tokens(pair.answer)) or contains_run(tokens(pair.full_answer), tokens(pair.answer))
        assert not contains_run(tokens(pair.question), tokens(pair.answer))
