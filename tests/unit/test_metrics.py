import string
from collections.abc import Callable, Sequence
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.metrics import Scores, contains, exact_match, f1, normalise, prag_f1, score

Metric = Callable[[str, Sequence[str]], float]

METRICS = [exact_match, f1, contains, prag_f1]
WORDS = ["a", "the", "Paris", "paris,", "St.", "Louis", "yes", "no", "Élan", "1963", "\n"]

texts = st.one_of(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), st.text(max_size=15))
answer_lists = st.lists(texts, min_size=1, max_size=3)
light = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  U.S.\tArmy!", "us army"),
        ("An apple a day", "apple day"),
        ("theatre and band", "theatre and band"),
        ("A", ""),
        ("Gödel’s “Proof”", "gödel’s “proof”"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@light
@given(text=texts)
def test_normal_form_has_no_ascii_punctuation_and_single_spaces(text: str) -> None:
    normal = normalise(text)
    assert not set(normal) & set(string.punctuation)
    assert normal == " ".join(normal.split())


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("Anna Berg", ("Anna Berg",), 1.0),
        ("Anna", ("Anna Berg",), 2 / 3),
        ("Anna Anna", ("Anna Berg",), 1 / 2),
        ("Berg, the Anna", ("Anna Berg",), 1.0),
        ("Karl", ("Anna Berg", "karl"), 1.0),
        ("no idea", ("no",), 2 / 3),
        ("", ("Anna",), 0.0),
        ("", ("the",), 1.0),
        ("Anna", ("the",), 0.0),
    ],
)
def test_f1(prediction: str, answers: tuple[str, ...], expected: float) -> None:
    assert f1(prediction, answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("She was born in the town of Lund.", ("Lund",), 1.0),
        ("Lundby", ("Lund",), 0.0),
        ("New York City", ("York New", "new york"), 1.0),
        ("York, New", ("New York",), 0.0),
        ("Lund", ("in Lund",), 0.0),
        ("anything", ("the",), 0.0),
        ("a", ("the",), 1.0),
    ],
)
def test_contains_looks_for_a_run_of_whole_tokens(prediction: str, answers: tuple[str, ...], expected: float) -> None:
    assert contains(prediction, answers) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("Anna Berg. She was born in Lund", ("Anna Berg",), 1.0),
        ("Anna Berg\nQuestion", ("Anna Berg",), 1.0),
        ("\n Anna Berg, a painter", ("Anna Berg",), 1.0),
        ("St. Louis", ("St. Louis",), 2 / 3),
        ("August 25, 1963", ("August 25, 1963",), 4 / 5),
        ("no idea", ("no",), 0.0),
        ("no", ("no way",), 0.0),
        ("No.", ("no",), 1.0),
        (". Anna", ("Anna",), 0.0),
    ],
)
def test_prag_f1_cuts_the_prediction_but_not_the_answers(
    prediction: str, answers: tuple[str, ...], expected: float
) -> None:
    assert prag_f1(prediction, answers) == pytest.approx(expected)


@light
@given(prediction=texts, answers=answer_lists)
def test_scores_lie_between_0_and_1_and_equality_implies_the_rest(prediction: str, answers: list[str]) -> None:
    scores = score(prediction, answers)
    assert all(0.0 <= value <= 1.0 for value in astuple(scores))
    assert scores.em <= scores.f1
    assert scores.em <= scores.contains


@light
@given(prediction=texts, answers=answer_lists, other=texts)
def test_another_accepted_answer_never_lowers_a_score(prediction: str, answers: list[str], other: str) -> None:
    before, after = astuple(score(prediction, answers)), astuple(score(prediction, [*answers, other]))
    assert all(new >= old for old, new in zip(before, after, strict=True))


@light
@given(answer=texts)
def test_the_answer_itself_scores_1(answer: str) -> None:
    assert (exact_match(answer, [answer]), f1(answer, [answer]), contains(answer, [answer])) == (1.0, 1.0, 1.0)


def test_score_gathers_the_four_metrics() -> None:
    prediction, answers = "St. Louis, Missouri", ("St. Louis",)
    assert score(prediction, answers) == Scores(f1=pytest.approx(4 / 5), em=0.0, contains=1.0, prag_f1=2 / 3)


@pytest.mark.parametrize("metric", METRICS)
def test_no_accepted_answers_is_an_error(metric: Metric) -> None:
    with pytest.raises(ValueError, match="gold answers"):
        metric("Paris", ())
