"""The mean over eight columns that the papers report: 2WikiMultihopQA by type, HotpotQA by type, PopQA, CWQ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict, get_args

from polyprag.config import DataName
from polyprag.evaluation.columns import Column, Scorer
from polyprag.evaluation.statistics import mean_of_means_ci

PAPERS_COLUMNS = (
    *((DataName.WIKI2, kind) for kind in ("comparison", "bridge_comparison", "inference", "compositional")),
    *((DataName.HOTPOTQA, kind) for kind in ("bridge", "comparison")),
    *((DataName.POPQA, ""), (DataName.CWQ, "")),
)
"""The columns of the papers' mean, as data set and question type; an empty type is the whole set."""
PAPERS_HEAD = (
    *(f"2Wiki {kind}" for kind in ("comparison", "bridge_comparison", "inference", "compositional")),
    *("HotpotQA bridge", "HotpotQA comparison", "PopQA", "CWQ"),
)
"""The same columns as tables call them."""


class EightColumns(TypedDict):
    """F1 in each of `PAPERS_COLUMNS`, their mean and its 95 % interval."""

    columns: list[float]
    mean: float
    ci95: list[float]


class PapersMean(EightColumns):
    """F1 by SQuAD's rules in the papers' columns, and under `prag_f1` by PRAG's scorer."""

    prag_f1: EightColumns


def papers_means(
    columns: Sequence[Column], resamples: int, seed: int
) -> tuple[dict[str, dict[str, PapersMean]], list[str]]:
    """The mean over `PAPERS_COLUMNS`, the headline of Poly-PRAG (arXiv 2511.17044), for each base model.

    Args:
        columns: of which those on the four benchmarks count.
        resamples: bootstrap resamples behind each interval; questions are drawn within each of the eight columns.
        seed: of the bootstrap.

    Returns:
        By base model and method, for base models with a column on each benchmark; and why others with all four have
        none, one line each.
    """
    names = {name for name, _ in PAPERS_COLUMNS}
    found: dict[str, dict[str, PapersMean]] = {}
    notes = []
    for base in dict.fromkeys(column.base for column in columns):
        own = [column for column in columns if column.base == base and column.benchmark in names]
        if {column.benchmark for column in own} != names:
            continue
        if len(own) > len(names):
            twice = ", ".join(column.label for column in own)
            notes.append(f"{base}: no mean of the papers' columns, several runs on one benchmark among {twice}")
            continue
        by_data = {column.benchmark: column for column in own}
        empty = [f"{name} {kind}".strip() for name, kind in PAPERS_COLUMNS if not _ids(by_data[name], kind)]
        if empty:
            notes.append(f"{base}: no mean of the papers' columns, no questions of {', '.join(empty)}")
            continue
        shared = [name for name in own[0].methods if all(name in column.methods for column in own)]
        if shared:
            found[base] = {name: _papers_mean(by_data, name, resamples, seed) for name in shared}
    return found, notes


def _papers_mean(by_data: dict[str, Column], method: str, resamples: int, seed: int) -> PapersMean:
    squad, prag = (_eight_columns(by_data, method, scorer, resamples, seed) for scorer in get_args(Scorer))
    return PapersMean(**squad, prag_f1=prag)


def _eight_columns(by_data: dict[str, Column], method: str, scorer: Scorer, resamples: int, seed: int) -> EightColumns:
    groups = [by_data[name].f1(method, _ids(by_data[name], kind), scorer) for name, kind in PAPERS_COLUMNS]
    means = [float(group.mean()) for group in groups]
    ends = mean_of_means_ci(groups, resamples, seed)
    return EightColumns(columns=means, mean=sum(means) / len(means), ci95=list(ends))


def _ids(column: Column, kind: str) -> list[str]:
    """Ids of the questions of a type; of all for the empty type."""
    answers = next(iter(column.runs[0].answers.values()), {})
    return [id_ for id_, answer in answers.items() if not kind or answer.type == kind]
