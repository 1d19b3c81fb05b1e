import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.errors import DataError
from polyprag.evaluation.results import (
    STEPS,
    Answer,
    MethodResult,
    answer_from_json,
    answer_to_json,
    differences,
    merge_results,
    summarise,
)
from polyprag.methods.workbench import Confidence
from polyprag.metrics import Scores

WHERE = "evaluation/answers.jsonl:7"
NEWER_KEYS = ("own_first", "confidence")


def answer(question_id: str = "q1", f1: float = 0.5, kind: str = "", method: str = "poly_prag") -> Answer:
    return Answer(
        method=method,
        question_id=question_id,
        question="Who painted it?",
        type=kind,
        gold=("Anna Berg", "Berg"),
        prediction="Anna",
        raw_prediction=" Anna\n",
        scores=Scores(f1=f1, em=float(f1 == 1.0), contains=0.25, prag_f1=0.75),
        retrieved=("p3", "p1"),
        top_experts=((4, 0.5), (0, 0.125)),
        prompt_tokens=30,
        new_tokens=2,
        seconds={"retrieve": 0.01, "route": 0.02, "load_merge": 0.0, "generate": 0.5},
    )


def summary(answers: list[Answer]) -> MethodResult:
    return summarise(
        answers, resamples=200, seed=0, bytes_per_passage=96.0, train_seconds=12.5, choice={"combine": "sum"}
    )


def row(changes: dict[str, Any]) -> str:
    return json.dumps(json.loads(answer_to_json(answer())) | changes)


class TestAnswerLines:
    def test_a_line_holds_exactly_the_promised_keys(self) -> None:
        line = answer_to_json(answer())
        assert "\n" not in line
        assert list(json.loads(line)) == [
            *("method", "question_id", "question", "type", "gold", "prediction", "raw_prediction", "scores"),
            *("retrieved", "top_experts", "prompt_tokens", "new_tokens", "seconds", "own_first", "confidence"),
        ]
        assert list(json.loads(line)["seconds"]) == list(STEPS)

    @settings(max_examples=60, deadline=None)
    @given(text=st.text(st.characters(), max_size=20), f1=st.floats(0.0, 1.0), weight=st.floats(0.0, 10.0))
    def test_round_trip_through_a_utf8_file(self, text: str, f1: float, weight: float) -> None:
        written = replace(
            answer(question_id=text, f1=f1, kind=text), raw_prediction=text, gold=(text,), top_experts=((1, weight),)
        )
        line = answer_to_json(written).encode("utf-8").decode("utf-8")
        assert line.count("\n") == line.count("\r") == 0
        assert answer_from_json(line + "\n", WHERE) == written

    def test_a_lone_surrogate_survives(self) -> None:
        written = replace(answer(), raw_prediction="\ud800 Anna")
        assert answer_from_json(answer_to_json(written).encode("utf-8").decode("utf-8"), WHERE) == written

    def test_total_seconds_is_the_sum_of_the_steps(self) -> None:
        assert answer().total_seconds == pytest.approx(0.53)

    def test_other_keys_are_passed_over(self) -> None:
        assert answer_from_json(row({"note": 1}), WHERE) == answer()

    @pytest.mark.parametrize("own_first", [True, False, None])
    @pytest.mark.parametrize("confidence", [Confidence(0.25, 0.5, True), Confidence(0.0, 1.0, False), None])
    def test_what_a_routing_said_of_itself_comes_back(
        self, own_first: bool | None, confidence: Confidence | None
    ) -> None:
        written = replace(answer(), own_first=own_first, confidence=confidence)
        assert answer_from_json(answer_to_json(written), WHERE) == written

    def test_lines_of_the_first_version_lack_what_is_unknown(self) -> None:
        old = json.loads(answer_to_json(answer()))
        for key in NEWER_KEYS:
            del old[key]
        assert answer_from_json(json.dumps(old), WHERE) == answer()

    @pytest.mark.parametrize("key", [key for key in json.loads(answer_to_json(answer())) if key not in NEWER_KEYS])
    def test_each_key_is_required(self, key: str) -> None:
        broken = json.loads(answer_to_json(answer()))
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
            ({"new_tokens": -1}, "'new_tokens' must be a whole number from 0, not -1"),
            ({"seconds": {"retrieve": 0, "route": 0, "load_merge": 0}}, "key 'generate' is missing"),
            ({"seconds": dict.fromkeys(STEPS, float("inf"))}, "'retrieve'"),
            ({"seconds": dict.fromkeys(STEPS, 10**400)}, "'retrieve'"),
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
    def test_a_wrong_value_is_refused_by_name_and_place(self, changes: dict[str, Any], named: str) -> None:
        with pytest.raises(DataError) as caught:
            answer_from_json(row(changes), WHERE)
        message = str(caught.value)
        assert message.startswith(f"{WHERE}: {named}")
        assert "\n" not in message
        assert len(message) < 200

    @pytest.mark.parametrize("line", ["", "{", '{"method": "poly', "[1]", "3", "[" * 100000, "1" * 5000])
    def test_a_line_that_is_no_object_is_refused(self, line: str) -> None:
        with pytest.raises(DataError, match=f"^{WHERE}: "):
            answer_from_json(line, WHERE)

    def test_a_number_that_json_lacks_is_not_written(self) -> None:
        with pytest.raises(ValueError, match="JSON"):
            answer_to_json(answer(f1=float("nan")))


class TestSummary:
    def test_schema(self) -> None:
        result = summary([answer("q1", 1.0, "bridge"), answer("q2", 0.5, "comparison")])
        assert set(result) == {
            *("n", "f1", "em", "contains", "prag_f1", "f1_ci95", "by_type", "seconds_per_question"),
            *("prompt_tokens", "new_tokens", "bytes_per_passage", "train_seconds", "choice"),
        }
        assert set(result["by_type"]) == {"bridge", "comparison"}
        assert set(result["by_type"]["bridge"]) == {"n", "f1", "em", "contains", "f1_ci95"}
        assert set(result["seconds_per_question"]) == {"total", *STEPS}
        assert json.loads(json.dumps(result, allow_nan=False)) == result

    def test_means(self) -> None:
        slow = replace(answer("q2", 0.5), seconds=dict.fromkeys(STEPS, 1.0), prompt_tokens=50, new_tokens=5)
        result = summary([answer("q1", 1.0), slow])
        assert (result["n"], result["f1"], result["em"]) == (2, 0.75, 0.5)
        assert (result["contains"], result["prag_f1"]) == (0.25, 0.75)
        assert (result["prompt_tokens"], result["new_tokens"]) == (40.0, 3.5)
        assert (result["bytes_per_passage"], result["train_seconds"]) == (96.0, 12.5)
        assert result["seconds_per_question"] == pytest.approx(
            {"total": 2.265, "retrieve": 0.505, "route": 0.51, "load_merge": 0.5, "generate": 0.75}
        )

    def test_types_partition_the_questions(self) -> None:
        answers = [answer(f"q{i}", i / 10, "even" if i % 2 == 0 else "odd") for i in range(11)]
        result = summary(answers)
        parts = result["by_type"].values()
        assert sum(part["n"] for part in parts) == result["n"]
        assert sum(part["n"] * part["f1"] for part in parts) == pytest.approx(result["n"] * result["f1"])
        for part in (result, *parts):
            assert part["f1_ci95"][0] <= part["f1"] <= part["f1_ci95"][1]

    def test_first_choices_count_where_they_are_known(self) -> None:
        known = [replace(answer(f"q{at}", kind="bridge"), own_first=at < 3) for at in range(4)]
        result = summary([*known, answer("q4", kind="bridge"), answer("q5", kind="comparison")])
        assert result["own_first"] == 0.75
        assert result["by_type"]["bridge"]["own_first"] == 0.75
        assert "own_first" not in result["by_type"]["comparison"]
        assert "own_first" not in summary([answer()])

    def test_so_do_answers_of_the_fall_back(self) -> None:
        routed = [replace(answer(f"q{at}"), confidence=Confidence(0.5, 0.1, at == 0)) for at in range(4)]
        assert summary([*routed, answer("q4")])["abstained"] == 0.25
        assert "abstained" not in summary([answer()])

    def test_a_set_without_types_has_no_such_block(self) -> None:
        assert "by_type" not in summary([answer("q1"), answer("q2")])

    def test_a_question_without_type_among_others_is_not_lost(self) -> None:
        result = summary([answer("q1", kind="bridge"), answer("q2")])
        assert {kind: part["n"] for kind, part in result["by_type"].items()} == {"bridge": 1, "untyped": 1}

    def test_a_question_answered_twice_is_refused(self) -> None:
        with pytest.raises(DataError, match="poly_prag answers question 'q1' twice"):
            summary([answer("q1"), answer("q1", 0.9)])

    def test_no_answers_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="without answers"):
            summary([])


class TestDifferences:
    def test_pairs_are_formed_by_question_whatever_the_order(self) -> None:
        a = [answer(f"q{i}", 0.1 * i + 0.2) for i in range(8)]
        b = [answer(f"q{i}", 0.1 * i) for i in reversed(range(8))]
        (entry,) = differences({"a": a, "b": b}, [("a", "b")], resamples=300, seed=0)
        assert (entry["a"], entry["b"]) == ("a", "b")
        assert entry["mean"] == pytest.approx(0.2)
        assert entry["ci95"] == pytest.approx([0.2, 0.2])
        assert entry["p"] < 0.05

    def test_only_shared_questions_count(self) -> None:
        a = [answer("q1", 0.75), answer("q2", 0.0)]
        b = [answer("q3", 1.0), answer("q1", 0.25)]
        (entry,) = differences({"a": a, "b": b}, [("a", "b")], resamples=10, seed=0)
        assert (entry["mean"], entry["ci95"], entry["p"]) == (0.5, [0.5, 0.5], 1.0)

    def test_pairs_that_share_nothing_are_left_out(self) -> None:
        answers = {"a": [answer("q1")], "b": [answer("q2")]}
        assert differences(answers, [("a", "b"), ("a", "missing")], resamples=10, seed=0) == []


class TestMerging:
    data = {"sha256": "aa", "questions": 2}  # noqa: RUF012

    def test_first_call(self) -> None:
        result = summary([answer()])
        merged = merge_results(None, {"dir": "runs/demo"}, self.data, {"prag": result}, [])
        assert merged == {
            **{"schema": 1, "run": {"dir": "runs/demo"}, "data": self.data},
            **{"methods": {"prag": result}, "differences": []},
        }

    def test_methods_of_several_calls_merge_and_the_latest_wins(self) -> None:
        old, new = summary([answer("q1", 0.2)]), summary([answer("q1", 0.8)])
        first = merge_results(None, {"call": 1}, self.data, {"prag": old, "vanilla": old}, [])
        second = merge_results(first, {"call": 2}, self.data, {"poly_prag": new, "prag": new}, [])
        assert second["run"] == {"call": 2}
        assert list(second["methods"]) == ["prag", "vanilla", "poly_prag"]
        assert [result["f1"] for result in second["methods"].values()] == [0.8, 0.2, 0.8]
        assert list(first["methods"]) == ["prag", "vanilla"]

    def test_a_difference_goes_when_one_of_its_methods_has_run_again(self) -> None:
        answers = {name: [answer("q1", f1)] for name, f1 in {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}.items()}
        entries = differences(answers, [("a", "b"), ("c", "d"), ("b", "c")], resamples=10, seed=0)
        methods = {name: summary(found) for name, found in answers.items()}
        first = merge_results(None, {}, self.data, methods, entries)
        (again,) = differences(answers, [("d", "c")], resamples=10, seed=0)
        second = merge_results(first, {}, self.data, {"a": methods["a"]}, [again])
        assert [(entry["a"], entry["b"]) for entry in second["differences"]] == [("b", "c"), ("d", "c")]

    def test_other_data_is_refused(self) -> None:
        first = merge_results(None, {}, self.data, {"prag": summary([answer()])}, [])
        with pytest.raises(
            DataError, match=r"data\.sha256 is 'aa', but these results are on 'bb'; use another run\.dir"
        ):
            merge_results(first, {}, {"sha256": "bb"}, {}, [])

    @pytest.mark.parametrize(("change", "named"), [({"schema": 2}, "schema is 2"), ({}, "key 'methods' is missing")])
    def test_another_schema_is_refused(self, change: dict[str, Any], named: str) -> None:
        existing: Any = {"schema": 1, "run": {}, "data": self.data, "differences": []}
        if change:
            existing = {**existing, "methods": {}, **change}
        with pytest.raises(DataError, match=named):
            merge_results(existing, {}, self.data, {}, [])
