"""Exact match and F1 against torchmetrics' SQuAD, which reports them on a scale of 100."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.text import SQuAD

from polyprag.metrics import exact_match, f1

# torchmetrics computes in float32.
TOLERANCE = 1e-6

CASES = [
    ("Norman", ["Norman"]),
    ("the Normans", ["Norman", "Normans", "A Norman"]),
    ("August 25, 1963", ["25 August 1963", "August 1963"]),
    ("St. Louis", ["Saint Louis", "St Louis, Missouri"]),
    ("", ["the"]),
    ("", ["Paris"]),
    ("A.", ["an"]),
    ("...", ["Paris"]),
    ("Paris", ["!?"]),
    ("yes", ["yes, it is"]),
    ("no", ["yes"]),
    ("to be or not to be", ["to be", "be be be"]),
    ("the theatre of the athens", ["theatre of Athens"]),
    ("İstanbul’da  Éclair", ["i̇stanbul’da éclair"]),
    ("A–the–an", ["the–A–an"]),
    ("東京\u3000大学", ["東京 大学", "東京大学"]),
]

WORDS = ["a", "the", "An", "Paris", "paris,", "St.", "St", "Louis", "U.S.", "1963", "'t", "é"]

texts = st.one_of(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), st.text(max_size=20))


def reference(prediction: str, answers: list[str]) -> dict[str, float]:
    target = {"id": "1", "answers": {"answer_start": [0] * len(answers), "text": answers}}
    scores = SQuAD()([{"id": "1", "prediction_text": prediction}], [target])
    return {name: float(value) / 100 for name, value in scores.items()}


def assert_agrees(prediction: str, answers: list[str]) -> None:
    expected = reference(prediction, answers)
    assert f1(prediction, answers) == pytest.approx(expected["f1"], abs=TOLERANCE)
    assert exact_match(prediction, answers) == pytest.approx(expected["exact_match"], abs=TOLERANCE)


@pytest.mark.parametrize(("prediction", "answers"), CASES)
def test_agrees_on_hand_picked_cases(prediction: str, answers: list[str]) -> None:
    assert_agrees(prediction, answers)


@settings(max_examples=60, deadline=None)
@given(prediction=texts, answers=st.lists(texts, min_size=1, max_size=3))
def test_agrees_on_generated_cases(prediction: str, answers: list[str]) -> None:
    assert_agrees(prediction, answers)
