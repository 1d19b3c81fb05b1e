import json

import pytest

from polyprag.evaluation.answers import Answer
from polyprag.evaluation.differences import adjusted, contrast, differences
from polyprag.evaluation.statistics import PairedDifference
from polyprag.methods.workbench import STEPS
from polyprag.metrics import Scores


def answer(question_id: str, f1: float = 0.5) -> Answer:
    return Answer(
        method="poly_prag",
        question_id=question_id,
        question="Who?",
        type="",
        gold=("Berg",),
        prediction="Anna",
        raw_prediction="Anna",
        scores=Scores(f1=f1, em=0.0, contains=0.0, prag_f1=0.0),
        retrieved=(),
        top_experts=(),
        prompt_tokens=1,
        new_tokens=1,
        seconds=dict.fromkeys(STEPS, 0.0),
    )


def test_pairs_are_formed_by_question_whatever_the_order() -> None:
    a = [answer(f"q{i}", 0.1 * i + 0.2) for i in range(8)]
    b = [answer(f"q{i}", 0.1 * i) for i in reversed(range(8))]
    (entry,) = differences({"a": a, "b": b}, [("a", "b")], resamples=300, seed=0)
    assert (entry["a"], entry["b"]) == ("a", "b")
    assert entry["mean"] == pytest.approx(0.2)
    assert entry["ci95"] == pytest.approx([0.2, 0.2])
    assert entry["p"] < 0.05


def test_only_shared_questions_count() -> None:
    a = [answer("q1", 0.75), answer("q2", 0.0)]
    b = [answer("q3", 1.0), answer("q1", 0.25)]
    (entry,) = differences({"a": a, "b": b}, [("a", "b")], resamples=10, seed=0)
    assert (entry["mean"], entry["ci95"], entry["p"]) == (0.5, [0.5, 0.5], 1.0)


def test_pairs_that_share_nothing_are_left_out() -> None:
    answers = {"a": [answer("q1")], "b": [answer("q2")]}
    assert differences(answers, [("a", "b"), ("a", "missing")], resamples=10, seed=0) == []


def test_an_entry_says_how_large_and_how_sure() -> None:
    a = [answer(f"q{i}", f1) for i, f1 in enumerate((1.0, 1.0, 0.5, 0.0))]
    b = [answer(f"q{i}", f1) for i, f1 in enumerate((0.0, 1.0, 0.5, 0.5))]
    (entry,) = differences({"a": a, "b": b}, [("a", "b")], resamples=50, seed=0)
    assert (entry["won"], entry["tied"], entry["lost"]) == (0.25, 0.5, 0.25)
    assert entry["d_z"] == pytest.approx(0.125 / ((0.875**2 + 2 * 0.125**2 + 0.625**2) / 3) ** 0.5)
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry


def test_adjusting_leaves_the_given_entries_alone() -> None:
    pairs = [PairedDifference(0.1, 0.0, 0.2, p, None, 1.0, 0.0, 0.0) for p in (0.04, 0.01)]
    entries = [contrast(pair) for pair in pairs]
    assert [entry["p_holm"] for entry in adjusted(entries)] == [0.04, 0.02]
    assert "p_holm" not in entries[0]
    assert adjusted([]) == []
