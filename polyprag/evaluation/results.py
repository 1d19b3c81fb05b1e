"""The typed results of an evaluation: what all answers come to, one `Results` a results.json."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np

from polyprag.errors import DataError
from polyprag.evaluation.answers import Answer, by_question
from polyprag.evaluation.differences import Difference, adjusted
from polyprag.evaluation.statistics import Values, bootstrap_ci
from polyprag.methods.workbench import STEPS

SCHEMA = 1
UNTYPED = "untyped"  # where a set has types, the questions that carry none


class TypeResult(TypedDict):
    """Means over the questions of one type, with the 95 % interval of F1.

    `own_first` is the share of questions whose first chosen passage is a gold one, where that is known.
    """

    n: int
    f1: float
    em: float
    contains: float
    f1_ci95: list[float]
    own_first: NotRequired[float]


class MethodResult(TypedDict):
    """What a method achieved and what it cost, in means per question.

    `f1` is the micro mean, over questions; `macro_f1` that over the types of questions, each with equal weight.
    `generated_tokens` counts discarded tokens as well; it and `retrievals` are there where the answers tell.
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


class Results(TypedDict):
    """results.json as a whole."""

    schema: int
    run: dict[str, Any]
    data: dict[str, Any]
    methods: dict[str, MethodResult]
    differences: list[Difference]


def summarise(
    answers: Sequence[Answer],
    resamples: int,
    seed: int,
    bytes_per_passage: float,
    train_seconds: float,
    choice: Mapping[str, Any],
) -> MethodResult:
    """Condense one method's answers to its entry in results.json.

    Args:
        answers: of one method, each question once, at least one.
        resamples: bootstrap resamples behind each interval.
        seed: of the bootstrap.
        bytes_per_passage: storage that the method needs for each passage.
        train_seconds: what training the method took.
        choice: the settings chosen on validation questions, with what was tried under "tried".

    Returns:
        The entry; "by_type" and "macro_f1" are there only when the questions have types.

    Raises:
        ValueError: no answers.
        DataError: a question is answered twice.
    """
    if not answers:
        raise ValueError("there is nothing to summarise without answers")
    by_question(answers)
    overall = _means(answers, resamples, seed)
    result = MethodResult(
        n=overall["n"],
        f1=overall["f1"],
        em=overall["em"],
        contains=overall["contains"],
        prag_f1=_mean(answer.scores.prag_f1 for answer in answers),
        f1_ci95=overall["f1_ci95"],
        seconds_per_question=_seconds(answers),
        prompt_tokens=_mean(answer.prompt_tokens for answer in answers),
        new_tokens=_mean(answer.new_tokens for answer in answers),
        bytes_per_passage=bytes_per_passage,
        train_seconds=train_seconds,
        choice=dict(choice),
    )
    if "own_first" in overall:
        result["own_first"] = overall["own_first"]
    routed = [answer.confidence for answer in answers if answer.confidence is not None]
    if routed:
        result["abstained"] = _mean(confidence.abstained for confidence in routed)
    counted = [answer.generated_tokens for answer in answers if answer.generated_tokens is not None]
    if counted:
        result["generated_tokens"] = _mean(counted)
    searched = [answer.retrievals for answer in answers if answer.retrievals is not None]
    if searched:
        result["retrievals"] = _mean(searched)
    groups = _by_type(answers)
    if groups:
        result["by_type"] = {name: _means(groups[name], resamples, seed) for name in sorted(groups)}
        result["macro_f1"] = macro_f1(result["by_type"])
    return result


def macro_f1(by_type: Mapping[str, TypeResult]) -> float:
    """The mean of the types' F1, each with equal weight, whatever their numbers of questions."""
    return _mean(found["f1"] for found in by_type.values())


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
        methods={**earlier, **methods},
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
    remedy = "use another run.dir, or move the old evaluation folder away"
    missing = [key for key in Results.__annotations__ if key not in existing]
    if missing or existing["schema"] != SCHEMA:
        found = f"key {missing[0]!r} is missing" if missing else f"schema is {existing['schema']!r}"
        raise DataError(f"results.json: {found}, expected schema {SCHEMA} with all its keys; {remedy}")
    before, now = existing["data"].get("sha256"), data["sha256"]
    if before != now:
        raise DataError(f"results.json: data.sha256 is {before!r}, but these results are on {now!r}; {remedy}")


def _means(answers: Sequence[Answer], resamples: int, seed: int) -> TypeResult:
    f1_N = _f1(answers)
    result = TypeResult(
        n=len(answers),
        f1=_mean(f1_N),
        em=_mean(answer.scores.em for answer in answers),
        contains=_mean(answer.scores.contains for answer in answers),
        f1_ci95=list(bootstrap_ci(f1_N, resamples, seed)),
    )
    known = [answer.own_first for answer in answers if answer.own_first is not None]
    if known:
        result["own_first"] = _mean(known)
    return result


def _seconds(answers: Sequence[Answer]) -> dict[str, float]:
    steps = {step: _mean(answer.seconds[step] for answer in answers) for step in STEPS}
    return {"total": sum(steps.values()), **steps}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _f1(answers: Iterable[Answer]) -> Values:
    return np.array([answer.scores.f1 for answer in answers], dtype=np.float64)


def _by_type(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """Answers by question type; empty when no question has one."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.type or UNTYPED, []).append(answer)
    return {} if groups.keys() == {UNTYPED} else groups
