"""Several evaluated runs side by side: scores, and paired differences between runs and between methods.

Shape suffixes: N questions, T trainings (seeds).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NotRequired, TypedDict, cast

import numpy as np

from polyprag.evaluation.columns import Column, f1_of, pool_seeds
from polyprag.evaluation.cost import Cost, break_evens
from polyprag.evaluation.differences import Contrast, Difference, adjusted, contrast
from polyprag.evaluation.papers_mean import PapersMean, papers_means
from polyprag.evaluation.recorded import EvaluatedRun
from polyprag.evaluation.results import macro_f1
from polyprag.evaluation.statistics import seeds_bootstrap_ci, seeds_difference


class Score(TypedDict):
    """What a method achieved and cost in a column: means over its runs, with the 95 % interval of F1.

    The interval is over questions, and where there are several seeds over seeds and questions. `f1_seeds` is F1 by seed
    and `f1_sd` their standard deviation. Costs are named and there as in `MethodResult`; break-evens are those of the
    means.
    """

    seeds: int
    n: int
    f1: float
    f1_ci95: list[float]
    em: float
    contains: float
    prag_f1: NotRequired[float]
    macro_f1: NotRequired[float]
    f1_seeds: NotRequired[list[float]]
    f1_sd: NotRequired[float]
    seconds_per_question: float
    bytes_per_passage: float
    seconds_to_first_token: NotRequired[float]
    tokens_in: NotRequired[float]
    tokens_out: NotRequired[float]
    retrievals: NotRequired[float]
    peak_memory_bytes: NotRequired[float]
    offline_seconds_per_passage: NotRequired[float]
    break_even: NotRequired[float | None]
    break_even_prag: NotRequired[float | None]
    judge: NotRequired[float]


IF_TOLD = (
    "prag_f1",
    *("seconds_to_first_token", "tokens_in", "tokens_out", "retrievals", "peak_memory_bytes"),
    *("offline_seconds_per_passage", "judge"),
)
"""What a score has if all results behind it tell."""


class RunDifference(Contrast):
    """The paired difference of a method between the columns labelled `a` and `b`."""

    method: str
    a: str
    b: str


@dataclass(frozen=True)
class Comparison:
    """All that comparing runs has found.

    Attributes:
        columns: what is compared.
        scores: for each column the scores of its methods.
        between: differences of the same method between columns of the same questions, adjusted together.
        within: for each column of several seeds, by its label, the differences between its methods, adjusted together.
        papers: for each base model with runs on all benchmarks, the papers' mean of each method.
        notes: what could not be compared, one line each.
    """

    columns: tuple[Column, ...]
    scores: tuple[dict[str, Score], ...]
    between: list[RunDifference]
    within: dict[str, list[Difference]]
    papers: dict[str, dict[str, PapersMean]]
    notes: list[str]


def compare(runs: Sequence[EvaluatedRun], resamples: int, seed: int) -> Comparison:
    """Compare evaluated runs.

    Args:
        runs: with different labels.
        resamples: bootstrap resamples behind each interval over seeds and each difference.
        seed: of the bootstrap.
    """
    columns, notes = pool_seeds(runs)
    papers, left_out = papers_means(columns, resamples, seed)
    return Comparison(
        columns=tuple(columns),
        scores=tuple(_scores(column, resamples, seed) for column in columns),
        between=_between(columns, resamples, seed),
        within={column.label: _within(column, resamples, seed) for column in columns if len(column.runs) > 1},
        papers=papers,
        notes=[*notes, *_question_notes(columns), *_missing_notes(columns), *_judge_notes(columns), *left_out],
    )


def _scores(column: Column, resamples: int, seed: int) -> dict[str, Score]:
    scores = {name: _score(column, name, resamples, seed) for name in column.methods}
    costs = {
        name: Cost(score["offline_seconds_per_passage"], score["seconds_per_question"])
        for name, score in scores.items()
        if "offline_seconds_per_passage" in score
    }
    for name, found in break_evens(costs).items():
        scores[name].update(cast(Score, found))
    return scores


def _score(column: Column, method: str, resamples: int, seed: int) -> Score:
    results = column.results(method)
    ends = results[0]["f1_ci95"]
    if len(results) > 1:
        ends = list(seeds_bootstrap_ci(column.f1(method), resamples, seed))
    score = Score(
        seeds=len(results),
        n=results[0]["n"],
        f1=_mean(result["f1"] for result in results),
        f1_ci95=ends,
        em=_mean(result["em"] for result in results),
        contains=_mean(result["contains"] for result in results),
        seconds_per_question=_mean(result["seconds_per_question"]["total"] for result in results),
        bytes_per_passage=_mean(result["bytes_per_passage"] for result in results),
    )
    if len(results) > 1:
        score["f1_seeds"] = [result["f1"] for result in results]
        score["f1_sd"] = float(np.std(score["f1_seeds"], ddof=1))
    for figure in IF_TOLD:
        told = [cast(dict[str, float], result)[figure] for result in results if figure in result]
        if len(told) == len(results):
            score.update(cast(Score, {figure: _mean(told)}))
    types = [result["by_type"] for result in results if result.get("by_type")]
    if types:
        score["macro_f1"] = _mean(map(macro_f1, types))
    return score


def _between(columns: Sequence[Column], resamples: int, seed: int) -> list[RunDifference]:
    found = []
    for ours, theirs in combinations(columns, 2):
        if ours.questions != theirs.questions:
            continue
        for method in (name for name in ours.methods if name in theirs.methods):
            pair = seeds_difference(ours.f1(method), theirs.f1(method, ours.questions), resamples, seed)
            found.append(RunDifference(method=method, a=ours.label, b=theirs.label, **contrast(pair)))
    return adjusted(found)


def _within(column: Column, resamples: int, seed: int) -> list[Difference]:
    """Differences between methods of the same trainings: a training is drawn for both at once."""
    found = []
    for a, b in combinations(column.methods, 2):
        runs = column.having(a, b)
        if runs:
            difference_TN = f1_of(runs, a, column.questions) - f1_of(runs, b, column.questions)
            pair = seeds_difference(difference_TN, np.zeros((1, difference_TN.shape[1])), resamples, seed)
            found.append(Difference(a=a, b=b, **contrast(pair)))
    return adjusted(found)


def _question_notes(columns: Sequence[Column]) -> list[str]:
    """A line on which columns have the same questions, where not all have."""
    groups: list[list[Column]] = []
    for column in columns:
        same = [group for group in groups if group[0].questions == column.questions]
        if same:
            same[0].append(column)
        else:
            groups.append([column])
    if len(groups) == 1:
        return []
    sets = "; ".join(", ".join(column.label for column in group) for group in groups)
    return [f"{len(groups)} different sets of questions, so differences only within each: {sets}"]


def _missing_notes(columns: Sequence[Column]) -> list[str]:
    """A line for each method that not all seeds of a column have."""
    return [
        f"{column.label}: {method} in only {len(column.having(method))} of {len(column.runs)} runs"
        for column in columns
        for method in column.methods
        if len(column.having(method)) < len(column.runs)
    ]


def _judge_notes(columns: Sequence[Column]) -> list[str]:
    """A line on the judges, where there were several."""
    judges: dict[str, list[str]] = {}
    for column in columns:
        for result in (result for method in column.methods for result in column.results(method)):
            if "judge_by" in result:
                judges.setdefault(result["judge_by"], []).append(column.label)
    if len(judges) < 2:
        return []
    said = "; ".join(f"{judge} in {', '.join(dict.fromkeys(labels))}" for judge, labels in judges.items())
    return [f"different judges, whose shares are not to be compared: {said}"]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
