import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.errors import DataError
from polyprag.evaluation.answers import Answer, answer_from_json, answer_to_json
from polyprag.methods.workbench import STEPS, Confidence
from polyprag.metrics import Scores

WHERE = "evaluation/answers.jsonl:7"
NEWER_KEYS = (
    *("own_first", "confidence", "retrievals", "generated_tokens"),
    *("first_token_seconds", "peak_memory_bytes"),
)
ANSWER = Answer(
    method="poly_prag",
    question_id="q1",
    question="Who painted it?",
    type="",
    gold=("Anna Berg", "Berg"),
    prediction="Anna",
    raw_prediction=" Anna\n",
    scores=Scores(f1=0.5, em=0.0, contains=0.25, prag_f1=0.75),
    retrieved=("p3", "p1"),
    top_experts=((4, 0.5), (0, 0.125)),
    prompt_tokens=30,
    new_tokens=2,
    seconds={"retrieve": 0.01, "route": 0.02, "load_merge": 0.0, "generate": 0.5},
)


def row(changes: dict[str, Any]) -> str:
    return json.dumps(json.loads(answer_to_json(ANSWER)) | changes)


def test_a_line_holds_exactly_the_promised_keys() -> None:
    line = answer_to_json(ANSWER)
    assert "\n" not in line
    assert list(json.loads(line)) == [
        *("method", "question_id", "question", "type", "gold", "prediction", "raw_prediction", "scores"),
        *("retrieved", "top_experts", "prompt_tokens", "new_tokens", "seconds", "own_first", "confidence"),
        *("retrievals", "generated_tokens", "first_token_seconds", "peak_memory_bytes"),
    ]
    assert list(json.loads(line)["seconds"]) == list(STEPS)


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(), max_size=20), f1=st.floats(0.0, 1.0), weight=st.floats(0.0, 10.0))
def test_round_trip_through_a_utf8_file(text: str, f1: float, weight: float) -> None:
    scores = replace(ANSWER.scores, f1=f1)
    written = replace(ANSWER, question_id=text, type=text, raw_prediction=text, gold=(text,), scores=scores)
    written = replace(written, top_experts=((1, weight),))
    line = answer_to_json(written).encode("utf-8").decode("utf-8")
    assert line.count("\n") == line.count("\r") == 0
    assert answer_from_json(line + "\n", WHERE) == written


def test_a_lone_surrogate_survives() -> None:
    written = replace(ANSWER, raw_prediction="\ud800 Anna")
    assert answer_from_json(answer_to_json(written).encode("utf-8").decode("utf-8"), WHERE) == written


def test_total_seconds_is_the_sum_of_the_steps() -> None:
    assert ANSWER.total_seconds == pytest.approx(0.53)


def test_other_keys_are_passed_over() -> None:
    assert answer_from_json(row({"note": 1}), WHERE) == ANSWER


@pytest.mark.parametrize("own_first", [True, False, None])
@pytest.mark.parametrize("confidence", [Confidence(0.25, 0.5, True), Confidence(0.0, 1.0, False), None])
def test_what_a_routing_said_of_itself_comes_back(own_first: bool | None, confidence: Confidence | None) -> None:
    written = replace(ANSWER, own_first=own_first, confidence=confidence)
    assert answer_from_json(answer_to_json(written), WHERE) == written


@pytest.mark.parametrize(("retrievals", "generated_tokens"), [(0, 2), (3, 41), (None, None)])
def test_what_retrieving_and_generating_took_comes_back(retrievals: int | None, generated_tokens: int | None) -> None:
    written = replace(ANSWER, retrievals=retrievals, generated_tokens=generated_tokens)
    assert answer_from_json(answer_to_json(written), WHERE) == written


@pytest.mark.parametrize(("first", "peak"), [(0.25, 3 << 30), (0.0, None), (None, 0)])
def test_first_token_and_memory_come_back(first: float | None, peak: int | None) -> None:
    written = replace(ANSWER, first_token_seconds=first, peak_memory_bytes=peak)
    assert answer_from_json(answer_to_json(written), WHERE) == written


def test_lines_of_the_first_version_lack_what_is_unknown() -> None:
    old = json.loads(answer_to_json(ANSWER))
    for key in NEWER_KEYS:
        del old[key]
    assert answer_from_json(json.dumps(old), WHERE) == ANSWER


@pytest.mark.parametrize("key", [key for key in json.loads(answer_to_json(ANSWER)) if key not in NEWER_KEYS])
def test_each_key_is_required(key: str) -> None:
    broken = json.loads(answer_to_json(ANSWER))
    del broken[key]
    with pytest.raises(DataError, match=rf"^{WHERE}: key '{key}' is missing; delete the line"):
        answer_from_json(json.dumps(broken), WHERE)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method": 3}, "'method' must be a text, not 3"),
        ({"gold": "Anna"}, "'gold' must be a list of texts, not 'Anna'"),
        ({"retrieved": ["p1", 2]}, "'retrieved'"),
        ({"scores": [1]}, "'scores' must be an object"),
        (
            {"scores": {"f1": 1.5, "em": 0, "contains": 0, "prag_f1": 0}},
            "'f1' must be a number from 0 to 1, not 1.5",
        ),
        ({"scores": {"f1": float("nan"), "em": 0, "contains": 0, "prag_f1": 0}}, "'f1'"),
        ({"scores": {"f1": 1, "em": True, "contains": 0, "prag_f1": 0}}, "'em'"),
        ({"scores": {"f1": 1, "em": 1, "contains": 0}}, "key 'prag_f1' is missing"),
        ({"top_experts": [[1, 0.5, 2]]}, "'top_experts'"),
        ({"top_experts": [[0.5, 1]]}, "'top_experts'"),
        ({"prompt_tokens": True}, "'prompt_tokens'"),
        ({"first_token_seconds": -1}, "'first_token_seconds' must be a number from 0 or null, not -1"),
        ({"peak_memory_bytes": 1.5}, "'peak_memory_bytes' must be a whole number from 0 or null, not 1.5"),
        ({"new_tokens": -1}, "'new_tokens' must be a whole number from 0, not -1"),
        ({"seconds": {"retrieve": 0, "route": 0, "load_merge": 0}}, "key 'generate' is missing"),
        ({"seconds": dict.fromkeys(STEPS, float("inf"))}, "'retrieve'"),
        ({"seconds": dict.fromkeys(STEPS, 10**400)}, "'retrieve'"),
        ({"retrievals": 0.5}, "'retrievals' must be a whole number from 0 or null, not 0.5"),
        ({"generated_tokens": -1}, "'generated_tokens' must be a whole number from 0 or null, not -1"),
        ({"own_first": 1}, "'own_first' must be true, false or null, not 1"),
        ({"confidence": 0.5}, "'confidence' must be an object or null, not 0.5"),
        ({"confidence": {"entropy": 0.5, "abstained": False}}, "key 'margin' is missing"),
        (
            {"confidence": {"entropy": "x", "margin": 0.5, "abstained": False}},
            "'entropy' must be a number, not 'x'",
        ),
        ({"confidence": {"entropy": 0.5, "margin": 0.5, "abstained": "no"}}, "'abstained' must be true, false or"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_place(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError) as caught:
        answer_from_json(row(changes), WHERE)
    message = str(caught.value)
    assert message.startswith(f"{WHERE}: {named}")
    assert "\n" not in message
    assert len(message) < 200


@pytest.mark.parametrize("line", ["", "{", '{"method": "poly', "[1]", "3", "[" * 100000, "1" * 5000])
def test_a_line_that_is_no_object_is_refused(line: str) -> None:
    with pytest.raises(DataError, match=f"^{WHERE}: "):
        answer_from_json(line, WHERE)


def test_a_number_that_json_lacks_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        answer_to_json(replace(ANSWER, scores=replace(ANSWER.scores, f1=float("nan"))))
