import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.knowledge.overlap import EXAMPLES, QuestionIndex, measure_overlap
from polyprag.metrics import normalise
from polyprag.records import Augmentation, QAPair, Question

STOP_WORDS = {"of", "is"}
WORDS = ["who", "when", "was", "of", "is", "arlen", "brask", "corva", "built", "mill", "river", "long", "the"]


def questions(*texts: str) -> list[Question]:
    return [Question(f"t{at}", text, ("x",)) for at, text in enumerate(texts)]


def trained(*texts: str) -> dict[str, Augmentation]:
    return {"p": Augmentation("p", qa=tuple(QAPair(text, "x") for text in texts))}


def likeness(a: str, b: str) -> float:
    """The Jaccard index, written out anew."""
    ours, theirs = ({word for word in normalise(text).split() if word not in STOP_WORDS} for text in (a, b))
    ours, theirs = ours - {"was"}, theirs - {"was"}
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0


class TestCopies:
    def test_exact_copies_are_equal_in_the_normal_form(self):
        index = QuestionIndex(questions("Who built the Mill of Arlen?", "Who built it?"))
        assert index.exact("who built a mill, of arlen") == "t0"
        assert index.exact("Who built the mills of Arlen?") is None

    def test_near_copies_may_differ_in_one_word_of_five(self):
        index = QuestionIndex(questions("When did Ada Renn build Orsin Mill?"))  # seven words beside stop words
        assert index.near("When did Ada Renn, the miller, build Orsin Mill?") == "t0"
        assert index.near("Ada Renn: when did she build Orsin Mill?") == "t0"
        assert index.near("When did Ada Renn build Corvel Mill?") is None  # 6 of 8

    @pytest.mark.parametrize(
        "text",
        [
            "Where is Arlen?",  # of "Who is Arlen?"
            "Arlen?",
            "When was the mill of Brask built?",  # another name in the same form
            "Do both films Kolo and Vast have the directors that share the same nationality?",
            "",
            "of the",
        ],
    )
    def test_questions_of_one_form_are_no_copies(self, text):
        index = QuestionIndex(
            questions(
                "Who is Arlen?",
                "When was the mill of Arlen built?",
                "Do both films Mire and Tarn have the directors that share the same nationality?",
            )
        )
        assert index.near(text) is None
        assert index.exact(text) is None

    def test_the_most_alike_is_named_and_the_first_of_equals(self):
        index = QuestionIndex(questions("a1 b2 c3 d4 e5", "a1 b2 c3 d4", "d4 c3 b2 a1"))
        assert index.near("a1 b2 c3 d4") == "t1"
        assert index.near("a1 b2 c3 d4 e5") == "t0"
        assert [question.id for question in index.alike("a1 b2 c3 d4")] == ["t1", "t2", "t0"]

    def test_exact_copies_are_near_ones(self):
        index = QuestionIndex(questions("Who led the U.S. army?"))
        assert index.near("who led us army") == index.exact("who led us army") == "t0"

    def test_what_normalises_to_nothing_still_equals_itself(self):
        index = QuestionIndex(questions("?!", "the?"))
        assert index.exact(" ?! ") == "t0"
        assert index.exact("!?") is None

    def test_without_questions_there_are_no_copies(self):
        assert QuestionIndex([]).near("Who built it?") is None


texts_of_words = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(test=st.lists(texts_of_words, max_size=12), asked=st.lists(texts_of_words, max_size=12))
def test_the_index_finds_what_comparing_all_pairs_finds(test, asked):
    index = QuestionIndex(questions(*test))
    for text in asked:
        rated = sorted((-likeness(text, other), at) for at, other in enumerate(test))
        expected = [f"t{at}" for rating, at in rated if -rating >= 0.8]
        assert [question.id for question in index.alike(text)] == expected
        assert index.near(text) == (expected[0] if expected else None)
        same = [f"t{at}" for at, other in enumerate(test) if (normalise(other) or other) == (normalise(text) or text)]
        assert [question.id for question in index.equal(text)] == same


def test_so_it_does_for_long_questions_over_many_words():
    draw = random.Random(0)
    words = ["".join(draw.choices(string.ascii_lowercase, k=5)) for _ in range(60)]
    test = [" ".join(draw.sample(words, draw.randint(1, 30))) for _ in range(150)]

    def altered(text: str) -> str:
        kept = text.split()
        for _ in range(draw.randint(0, 4)):
            kept[draw.randrange(len(kept))] = draw.choice(words)
        return " ".join(kept)

    index = QuestionIndex(questions(*test))
    found = 0
    for text in map(altered, test):
        expected = {f"t{at}" for at, other in enumerate(test) if likeness(text, other) >= 0.8}
        assert {question.id for question in index.alike(text)} == expected
        found += len(expected)
    assert 20 < found < 140  # the draw holds both near copies and others


class TestOverlap:
    def test_it_counts_on_both_sides(self):
        test = questions("Who built Orsin Mill?", "When did Ada Renn die?", "Where does Ada Renn live now, today?")
        training = trained(
            *("who built Orsin mill", "Who built the Orsin Mill?!"),
            *("Where does the old Ada Renn live now, today?", "Who built up Orsin Mill long ago?", "Who sang?"),
        )
        overlap = measure_overlap(training, test)
        assert (overlap.training, overlap.exact, overlap.near) == (5, 2, 1)
        assert (overlap.test_exact, overlap.test_near) == (1, 1)
        assert [(copy.test_id, copy.exact) for copy in overlap.examples] == [("t0", True), ("t0", True), ("t2", False)]
        assert overlap.examples[2].training == "Where does the old Ada Renn live now, today?"
        assert overlap.examples[2].passage_id == "p"

    def test_every_test_question_of_the_same_text_is_counted(self):
        overlap = measure_overlap(trained("Who sang?"), questions("Who sang?", "who sang", "Who danced?"))
        assert (overlap.exact, overlap.test_exact) == (1, 2)

    def test_exact_copies_come_first_among_the_examples(self):
        near = [f"a1 b2 c3 d4 e{at}" for at in range(EXAMPLES)]
        overlap = measure_overlap(trained(*near, "a1 b2 c3 d4"), questions("a1 b2 c3 d4"))
        assert [copy.exact for copy in overlap.examples] == [True] + [False] * (EXAMPLES - 1)
        assert overlap.near == EXAMPLES

    def test_nothing_overlaps_with_nothing(self):
        overlap = measure_overlap({}, questions("Who sang?"))
        assert (overlap.training, overlap.exact, overlap.near, overlap.examples) == (0, 0, 0, ())
