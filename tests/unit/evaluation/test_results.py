import json
from dataclasses import replace
from typing import Any

import pytest

from polyprag.errors import DataError
from polyprag.evaluation.answers import Answer
from polyprag.evaluation.differences import Difference, differences
from polyprag.evaluation.results import MethodResult, merge_results, without_methods
from polyprag.evaluation.summary import summarise
from polyprag.methods.workbench import STEPS, Confidence
from polyprag.metrics import Scores


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


class TestSummary:
    def test_schema(self) -> None:
        result = summary([answer("q1", 1.0, "bridge"), answer("q2", 0.5, "comparison")])
        assert set(result) == {
            *("n", "f1", "em", "contains", "prag_f1", "f1_ci95", "macro_f1", "by_type", "seconds_per_question"),
            *("prompt_tokens", "new_tokens", "bytes_per_passage", "train_seconds", "choice", "tokens_in"),
        }
        assert set(result["by_type"]) == {"bridge", "comparison"}
        assert set(result["by_type"]["bridge"]) == {"n", "f1", "em", "contains", "prag_f1", "f1_ci95"}
        assert result["by_type"]["bridge"]["prag_f1"] == 0.75
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

    def test_costs_are_there_where_the_answers_tell(self) -> None:
        told = [
            replace(answer(f"q{at}"), first_token_seconds=0.5 * at, peak_memory_bytes=100 * at, generated_tokens=4 * at)
            for at in (1, 2)
        ]
        result = summarise([*told, answer("q3")], 200, 0, 96.0, 12.5, {}, offline_seconds=3.25)
        assert (result["seconds_to_first_token"], result["peak_memory_bytes"]) == (0.75, 200.0)
        assert (result["tokens_in"], result["tokens_out"]) == (30.0, 6.0)
        assert result["offline_seconds_per_passage"] == 3.25
        assert not {"seconds_to_first_token", "tokens_out", "peak_memory_bytes"} & set(summary([answer()]))

    def test_retrievals_and_discarded_tokens_count_where_the_answers_tell(self) -> None:
        told = [replace(answer(f"q{at}"), retrievals=at, generated_tokens=2 + at) for at in (0, 3)]
        result = summary([*told, answer("q4")])
        assert (result["retrievals"], result["generated_tokens"], result["new_tokens"]) == (1.5, 3.5, 2.0)
        assert not {"retrievals", "generated_tokens"} & summary([answer()]).keys()

    def test_types_partition_the_questions(self) -> None:
        answers = [answer(f"q{i}", i / 10, "even" if i % 2 == 0 else "odd") for i in range(11)]
        result = summary(answers)
        parts = result["by_type"].values()
        assert sum(part["n"] for part in parts) == result["n"]
        assert sum(part["n"] * part["f1"] for part in parts) == pytest.approx(result["n"] * result["f1"])
        for part in (result, *parts):
            assert part["f1_ci95"][0] <= part["f1"] <= part["f1_ci95"][1]

    def test_macro_gives_each_type_the_same_weight(self) -> None:
        answers = [answer(f"q{i}", 0.2, "often") for i in range(9)] + [answer("q9", 1.0, "once")]
        result = summary(answers)
        assert result["macro_f1"] == pytest.approx((0.2 + 1.0) / 2)
        assert result["f1"] == pytest.approx((9 * 0.2 + 1.0) / 10)

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
        assert summary([answer("q1"), answer("q2")]).keys().isdisjoint({"by_type", "macro_f1"})

    def test_a_question_without_type_among_others_is_not_lost(self) -> None:
        result = summary([answer("q1", kind="bridge"), answer("q2")])
        assert {kind: part["n"] for kind, part in result["by_type"].items()} == {"bridge": 1, "untyped": 1}

    def test_a_question_answered_twice_is_refused(self) -> None:
        with pytest.raises(DataError, match="poly_prag answers question 'q1' twice"):
            summary([answer("q1"), answer("q1", 0.9)])

    def test_no_answers_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="without answers"):
            summary([])


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

    def test_all_differences_are_adjusted_together_and_anew_each_time(self) -> None:
        def entry(a: str, b: str, p: float) -> Difference:
            return Difference(a=a, b=b, mean=0.1, ci95=[0.0, 0.2], p=p, p_holm=0.5)

        methods = {name: summary([answer()]) for name in "abc"}
        first = merge_results(None, {}, self.data, methods, [entry("a", "b", 0.01), entry("a", "c", 0.04)])
        assert [found["p_holm"] for found in first["differences"]] == [0.02, 0.04]
        second = merge_results(first, {}, self.data, {}, [entry("b", "c", 0.001)])
        assert [found["p_holm"] for found in second["differences"]] == [0.02, 0.04, 0.003]
        assert [found["p_holm"] for found in without_methods(second, {"c"})["differences"]] == [0.01]
        assert [found["p_holm"] for found in first["differences"]] == [0.02, 0.04]

    def test_differences_of_earlier_versions_stay_as_they_are(self) -> None:
        old = Difference(a="a", b="b", mean=0.1, ci95=[0.0, 0.2], p=0.01)
        existing = merge_results(None, {}, self.data, {}, [])
        existing["differences"] = [old]
        (kept,) = merge_results(existing, {}, self.data, {}, [])["differences"]
        assert kept == {**old, "p_holm": 0.01}

    def test_other_data_is_refused(self) -> None:
        first = merge_results(None, {}, self.data, {"prag": summary([answer()])}, [])
        with pytest.raises(
            DataError, match=r"data\.sha256 is 'aa', but these results are on 'bb'; set another evaluation\.dir"
        ):
            merge_results(first, {}, {"sha256": "bb"}, {}, [])

    @pytest.mark.parametrize(("change", "named"), [({"schema": 2}, "schema is 2"), ({}, "key 'methods' is missing")])
    def test_another_schema_is_refused(self, change: dict[str, Any], named: str) -> None:
        existing: Any = {"schema": 1, "run": {}, "data": self.data, "differences": []}
        if change:
            existing = {**existing, "methods": {}, **change}
        with pytest.raises(DataError, match=named):
            merge_results(existing, {}, self.data, {}, [])


def costing(offline: float, seconds: float) -> MethodResult:
    result = summarise([answer()], 100, 0, 96.0, 12.5, {}, offline)
    result["seconds_per_question"]["total"] = seconds
    return result


class TestBreakEven:
    def test_it_follows_the_methods_that_stand_beside_each_other(self) -> None:
        prag = {"prag": costing(12.0, 1.0), "poly_prag": costing(8.0, 0.5)}
        alone = merge_results(None, {}, {"sha256": "aa"}, prag, [])
        assert "break_even" not in alone["methods"]["prag"]
        assert alone["methods"]["poly_prag"]["break_even_prag"] == 0.0
        both = merge_results(alone, {}, {"sha256": "aa"}, {"standard_rag": costing(0.0, 2.0)}, [])
        assert {name: found.get("break_even") for name, found in both["methods"].items()} == {
            "prag": 12.0,
            "poly_prag": 8.0 / 1.5,
            "standard_rag": None,
        }
        assert "break_even" not in both["methods"]["standard_rag"]
        without = without_methods(both, {"standard_rag"})
        again = merge_results(without, {}, {"sha256": "aa"}, {}, [])
        assert "break_even" not in again["methods"]["prag"]

    def test_results_of_earlier_versions_have_none(self) -> None:
        old = {"prag": summary([answer()]), "standard_rag": costing(0.0, 2.0)}
        assert "break_even" not in merge_results(None, {}, {"sha256": "aa"}, old, [])["methods"]["prag"]
