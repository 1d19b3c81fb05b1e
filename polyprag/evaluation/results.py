"""The typed results of an evaluation, one `Results` a results.json."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from polyprag.errors import DataError
from polyprag.evaluation.cost import break_evens, cost_of
from polyprag.evaluation.differences import Difference, adjusted
from polyprag.evaluation.judge import Judged

ANSWERS, RESULTS = "answers.jsonl", "results.json"
SCHEMA = 1


class TypeResult(TypedDict):
    """Means over the questions of one type, with the 95 % interval of F1.

    `prag_f1` is not in results of earlier versions.

    `own_first` is the share of questions whose first chosen passage is a gold one, where that is known.
    """

    n: int
    f1: float
    em: float
    contains: float
    prag_f1: NotRequired[float]
    f1_ci95: list[float]
    own_first: NotRequired[float]


class MethodResult(Judged):
    """What a method achieved and what it cost, in means per question.

    `f1` is the micro mean, over questions; `macro_f1` that over the types of questions, each with equal weight.
    `generated_tokens` counts discarded tokens as well; it and `retrievals` are there where the answers tell. So are

    - `seconds_to_first_token`: from the beginning of a question's batch to its first generated token;
    - `tokens_in`, `tokens_out`: of all prompts and all that was generated;
    - `peak_memory_bytes`: the most while the method answered; on CUDA what PyTorch had allocated on the device,
      elsewhere the resident memory of the whole process, models that other methods have loaded included;
    - `offline_seconds_per_passage`: augmentation, training and index, as far as they were measured;
    - `break_even`, `break_even_prag`: questions per passage from which on the method costs no more seconds in all than
      `standard_rag`, or `prag`; None means never;
    - `judge` and what goes with it: see `polyprag.evaluation.judge.Judged`;
    - `key`: under which the answers stand in answers.jsonl; `grounds`: see `polyprag.evaluation.grounds`.
    """

    n: int
    f1: float
    em: float
    contains: float
    prag_f1: float
    f1_ci95: list[float]
    own_first: NotRequired[float]
    abstained: NotRequired[float]
    macro_f1: NotRequired[float]
    by_type: NotRequired[dict[str, TypeResult]]
    seconds_per_question: dict[str, float]
    prompt_tokens: float
    new_tokens: float
    generated_tokens: NotRequired[float]
    retrievals: NotRequired[float]
    bytes_per_passage: float
    train_seconds: float
    choice: dict[str, Any]
    seconds_to_first_token: NotRequired[float]
    tokens_in: NotRequired[float]
    tokens_out: NotRequired[float]
    peak_memory_bytes: NotRequired[float]
    offline_seconds_per_passage: NotRequired[float]
    break_even: NotRequired[float | None]
    break_even_prag: NotRequired[float | None]
    key: NotRequired[str]
    grounds: NotRequired[str]


class Results(TypedDict):
    """results.json as a whole."""

    schema: int
    run: dict[str, Any]
    data: dict[str, Any]
    methods: dict[str, MethodResult]
    differences: list[Difference]


def with_break_evens(methods: Mapping[str, MethodResult]) -> dict[str, MethodResult]:
    """The same results, with the break-even of each method against those that stand beside it."""
    costs = {name: cost for name, result in methods.items() if (cost := cost_of(result)) is not None}
    found = break_evens(costs)
    changed: dict[str, MethodResult] = {}
    for name, result in methods.items():
        copy = result.copy()
        copy.pop("break_even", None)
        copy.pop("break_even_prag", None)
        copy.update(cast(MethodResult, found.get(name, {})))
        changed[name] = copy
    return changed


def macro_f1(by_type: Mapping[str, TypeResult]) -> float:
    """The mean of the types' F1, each with equal weight, whatever their numbers of questions."""
    return float(np.mean([found["f1"] for found in by_type.values()]))


def merge_results(
    existing: Results | None,
    run: Mapping[str, Any],
    data: Mapping[str, Any],
    methods: Mapping[str, MethodResult],
    comparisons: Iterable[Difference],
) -> Results:
    """Add one call's results to those of earlier calls on the same data.

    Args:
        existing: results.json as it stands; None when there is none.
        run: what this call says about the run; replaces what stands.
        data: what this call says about the data, with its fingerprint under "sha256".
        methods: this call's methods; each replaces an earlier entry of that name.
        comparisons: this call's differences; earlier ones stay unless a method of theirs has run again. All of them
            are adjusted together.

    Raises:
        DataError: the existing results have another schema or belong to other data.
    """
    if existing is not None:
        _check_same_data(existing, data)
    earlier = existing["methods"] if existing is not None else {}
    fresh = list(comparisons)
    compared = {frozenset((entry["a"], entry["b"])) for entry in fresh}
    kept = [
        entry
        for entry in (existing["differences"] if existing is not None else [])
        if methods.keys().isdisjoint((entry["a"], entry["b"])) and frozenset((entry["a"], entry["b"])) not in compared
    ]
    return Results(
        schema=SCHEMA,
        run=dict(run),
        data=dict(data),
        methods=with_break_evens({**earlier, **methods}),
        differences=adjusted(kept + fresh),
    )


def without_methods(results: Results, names: Collection[str]) -> Results:
    """The results but for some methods and what they were compared with."""
    kept: Results = {**results}
    kept["methods"] = {name: result for name, result in results.get("methods", {}).items() if name not in names}
    kept["differences"] = adjusted(
        [entry for entry in results.get("differences", []) if entry["a"] not in names and entry["b"] not in names]
    )
    return kept


def _check_same_data(existing: Results, data: Mapping[str, Any]) -> None:
    """Refuse results that cannot be put into one table with this call's."""
    remedy = "set another evaluation.dir, or move the old folder away"
    missing = [key for key in Results.__annotations__ if key not in existing]
    if missing or existing["schema"] != SCHEMA:
        found = f"key {missing[0]!r} is missing" if missing else f"schema is {existing['schema']!r}"
        raise DataError(f"results.json: {found}, expected schema {SCHEMA} with all its keys; {remedy}")
    before, now = existing["data"].get("sha256"), data["sha256"]
    if before != now:
        raise DataError(f"results.json: data.sha256 is {before!r}, but these results are on {now!r}; {remedy}")
