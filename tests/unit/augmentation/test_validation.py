from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.augmentation.validation import validate
from polyprag.config import AugmentationConfig, Grounding
from polyprag.knowledge.overlap import QuestionIndex
from polyprag.records import Augmentation, Passage, QAPair, Question

PASSAGE = Passage(
    "p",
    "Mira Tolk",
    "Mira Tolk was a maker of glass who was born in Arlen in 1867. She founded the Brask Works with her brother Jon. "
    "Some 1,200 people worked there when she sold it for lack of money.",
)
LONG = "In which part of the old country did the well known maker Mira Tolk found her works"
TEST = QuestionIndex(
    (
        Question("t1", "Where was Mira Tolk born?", ("Arlen",)),
        Question("t2", f"{LONG}?", ("x",)),
    )
)
GOOD = QAPair("When was Mira Tolk born?", "1867", "Mira Tolk was born in 1867.")


def judged(
    *qa, rewrites=(), grounding=Grounding.EXPLAINED, passage=PASSAGE, **settings
) -> tuple[Augmentation, Counter]:
    config = AugmentationConfig(grounding=grounding, **settings)
    return validate(passage, Augmentation("p", tuple(rewrites), qa), config, TEST)


def reason_of(pair, **options) -> str:
    kept, rejected = judged(pair, **options)
    assert len(kept.qa) + rejected.total() == 1
    return next(iter(rejected), "")


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("When was Mira Tolk born?", "1867", ""),
        ("How many people worked at the Brask Works?", "1200", ""),
        ("What was the brother of Mira Tolk called?", "JON.", ""),
        ("Was Mira Tolk born in Arlen or in Corvo?", "Arlen", ""),
        ("Name the brother of Mira Tolk.", "Jon", ""),
        ("Fill in the blank: She founded the ____ with her brother.", "Brask Works", ""),
        ("When born?", "1867", "question too short"),
        (f"When was {'very ' * 60}Mira Tolk born?", "1867", "question too long"),
        ("Mira Tolk had a brother.", "Jon", "no question"),
        ("What did Mira Tolk make?", "!!", "answer empty"),
        ("What did Mira Tolk make?", "glass " * 17, "answer too long"),
        ("According to the passage, when was Mira Tolk born?", "1867", "question refers to the passage"),
        ("What does the author say of Mira Tolk?", "glass", "question refers to the passage"),
        ("When was she born?", "1867", "question does not name its subject"),
        ("When did Ada Lovelace publish in London?", "1867", "question about something else"),
        ("Где родилась она и когда это было?", "Арлен", "other script"),
        ("Was the Brask Works founded by Mira?", "Brask Works", "question holds the answer"),
        ("What did Mira Tolk do?", "She founded the Brask Works with her brother Jon.", "answer is a whole sentence"),
        ("Where did Mira Tolk die?", "Corvo", "answer not in passage"),
        ("where was Mira Tolk born", "Arlen", "copy of a test question"),
        (f"{LONG.replace('maker ', '')}?", "Arlen", "near copy of a test question"),
    ],
)  # fmt: skip
def test_pairs_are_left_out_for_a_reason(question, answer, reason):
    assert reason_of(QAPair(question, answer)) == reason


@pytest.mark.parametrize(
    ("answer", "full", "explained"),
    [
        ("poverty", "Mira Tolk sold the works because of poverty, for lack of money.", True),
        ("yes", "Yes, Mira Tolk founded the Brask Works with Jon.", True),
        ("poverty", "", False),
        ("poverty", "Many makers of those days ended in bankruptcy and poverty.", False),
        ("in 1870", "Mira Tolk sold the works for lack of money in 1870.", False),
        ("Corvo", "Mira Tolk sold the works for lack of money in Corvo.", False),
        ("Corvo", "Mira Tolk sold the works for lack of money.", False),
    ],
)
def test_answers_that_are_not_in_the_passage_must_be_explained(answer, full, explained):
    pair = QAPair("Why did Mira Tolk sell the Brask Works?", answer, full)
    expected = "" if explained else "answer not in passage"
    assert reason_of(pair) == expected
    assert reason_of(pair, grounding=Grounding.STRICT) == "answer not in passage"
    assert reason_of(pair, grounding=Grounding.OFF) == ""


def test_a_limit_on_answers_is_configured():
    pair = QAPair("With whom did Mira Tolk found the Brask Works?", "her brother Jon")
    assert reason_of(pair, max_answer_words=3) == ""
    assert reason_of(pair, max_answer_words=2) == "answer too long"


def test_repeats_are_counted_by_kind():
    kept, rejected = judged(GOOD, QAPair("when was MIRA TOLK born", "1867"), QAPair(GOOD.question, "Arlen"))
    assert kept.qa == (GOOD,)
    assert rejected == {"duplicate pair": 1, "duplicate question": 1}


def test_small_faults_are_mended():
    kept, _ = judged(QAPair("Who was  the brother of Mira Tolk.", ' "Jon" ', " Jon  was."))
    assert kept.qa == (QAPair("Who was the brother of Mira Tolk?", "Jon", "Jon was."),)
    assert judged(QAPair("What did Mira Tolk make?", "glass."))[0].qa[0].answer == "glass"


def test_letters_without_spaces_are_compared_one_by_one():
    passage = Passage("p", "東京", "東京は1603年に江戸と呼ばれ、日本の首都になった。")
    config = AugmentationConfig(grounding=Grounding.STRICT)
    for answer, fit in (("江戸", True), ("京都", False)):
        qa = (QAPair("東京は昔 何と 呼ばれた か?", answer),)
        assert bool(validate(passage, Augmentation("p", (), qa), config, TEST)[0].qa) == fit


REWRITE = (
    "Born in Arlen in 1867, Mira Tolk made glass. Together with Jon, her brother, she founded the Brask Works, which "
    "had about 1,200 workers when she had to sell it because money was short."
)
VAGUE = "She was a maker of things who was born in a town. She founded a company with somebody and sold it."


@pytest.mark.parametrize(
    ("rewrite", "reason"),
    [
        (REWRITE, ""),
        ("", "empty"),
        (PASSAGE.text.upper(), "copy of the passage"),
        ("Mira Tolk of Arlen made glass.", "too short"),
        (REWRITE * 4, "too long"),
        ("Мира Толк делала стекло. " * 6, "other script"),
        (VAGUE, "loses names and numbers"),
        (f"{REWRITE[:100]}. {REWRITE[:100]}. {REWRITE[:100]}.", "repeats itself"),
        (REWRITE[:-6], "cut off"),
    ],
)  # fmt: skip
def test_rewrites_are_left_out_for_a_reason(rewrite, reason):
    kept, rejected = judged(rewrites=[rewrite])
    assert kept.rewrites == (() if reason else (rewrite,))
    assert rejected == ({f"rewrite: {reason}": 1} if reason else {})


def test_a_rewrite_counts_once():
    kept, rejected = judged(rewrites=[REWRITE, REWRITE.replace(",", "")])
    assert kept.rewrites == (REWRITE,)
    assert rejected == {"duplicate rewrite": 1}


@given(st.lists(st.builds(QAPair, st.text(max_size=30), st.text(max_size=20), st.text(max_size=30)), max_size=4))
def test_nothing_is_lost_and_nothing_is_judged_twice(pairs):
    kept, rejected = judged(*pairs)
    assert len(kept.qa) + rejected.total() == len(pairs)
    again, none = judged(*kept.qa)
    assert again == kept
    assert not none
