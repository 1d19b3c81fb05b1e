"""What a comparison has side by side: evaluated runs, those that differ only in their seed as one.

Shape suffixes: N questions, T trainings (seeds).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from polyprag.evaluation.recorded import EvaluatedRun
from polyprag.evaluation.results import MethodResult
from polyprag.evaluation.statistics import Values

FREE_KEYS = (
    *("run.", "logging.", "evaluation.methods", "evaluation.dir", "evaluation.question", "evaluation.bootstrap"),
    "evaluation.judge",
)
"""Keys in which trainings may differ and still be the same but for their seed."""

Scorer = Literal["f1", "prag_f1"]
"""By whose rules an answer's F1 is measured: SQuAD's or PRAG's."""


@dataclass(frozen=True)
class Column:
    """What is compared: a run, or several that differ only in `run.seed`.

    Attributes:
        label: names it among the others.
        runs: one for each seed.
    """

    label: str
    runs: tuple[EvaluatedRun, ...]

    @property
    def questions(self) -> dict[str, str]:
        """Texts of the questions by id."""
        return self.runs[0].questions

    @property
    def methods(self) -> list[str]:
        """Methods that any of the runs has."""
        return list(dict.fromkeys(method for run in self.runs for method in run.answers))

    @property
    def base(self) -> str:
        """Base model and quantisation."""
        first = self.runs[0].results["run"]
        return f"{first['base']}, {first['quantisation']}"

    @property
    def data(self) -> str:
        """Name of the data."""
        return str(self.runs[0].results["data"]["name"])

    @property
    def benchmark(self) -> str:
        """Name of the benchmark that the data are of, also where they are read from PRAG's released files."""
        told = self.runs[0].results["data"]
        return str(told.get("benchmark") or told["name"])

    def having(self, *methods: str) -> tuple[EvaluatedRun, ...]:
        """The runs that have answered by all of these methods."""
        return tuple(run for run in self.runs if run.answers.keys() >= set(methods))

    def f1(self, method: str, ids: Iterable[str] | None = None, scorer: Scorer = "f1") -> Values:
        """F1 of questions by a method, a row for each run that has it, [T, N].

        Args:
            method: its name.
            ids: the questions in their order; all in the column's own order by default.
            scorer: by whose rules.
        """
        return f1_of(self.having(method), method, self.questions if ids is None else ids, scorer)

    def results(self, method: str) -> list[MethodResult]:
        """A method's results, one for each run that has it."""
        return [run.results["methods"][method] for run in self.having(method)]


def pool_seeds(runs: Iterable[EvaluatedRun]) -> tuple[list[Column], list[str]]:
    """Put runs that differ only in `run.seed` into one column each, and say which could not be for equal seeds.

    Runs whose results do not tell their configuration, as those of earlier versions, stay by themselves, which a note
    says.
    """
    runs = list(runs)
    groups: dict[Any, list[EvaluatedRun]] = {}
    for run in runs:
        groups.setdefault(_but_for_seed(run), []).append(run)
    columns, notes = [], _untold(runs)
    for group in groups.values():
        seeds = {run.results["run"]["seed"] for run in group if len(group) > 1}
        if len(group) == len(seeds):
            columns.append(Column(f"{group[0].label} ({len(group)} seeds)", tuple(group)))
            continue
        columns += [Column(run.label, (run,)) for run in group]
        if len(group) > 1:
            names = ", ".join(run.label for run in group)
            notes.append(f"{names}: same configuration, and some have the same seed; not taken together")
    return columns, notes


def _untold(runs: Sequence[EvaluatedRun]) -> list[str]:
    """A line on the runs whose results do not tell their configuration, where that matters."""
    untold = [run.label for run in runs if "config" not in run.results["run"]]
    if not untold or len(runs) == 1:
        return []
    return [
        f"{', '.join(untold)}: evaluated by an earlier version, whose results do not tell the configuration, so that "
        "runs which differ only in their seed are not taken together; evaluate again, which answers nothing anew"
    ]


def f1_of(runs: Iterable[EvaluatedRun], method: str, ids: Iterable[str], scorer: Scorer = "f1") -> Values:
    """F1 of questions by a method, a row for each run, [T, N]."""
    order = list(ids)
    return np.array([[getattr(run.answers[method][id_].scores, scorer) for id_ in order] for run in runs])


def _but_for_seed(run: EvaluatedRun) -> Any:
    """What runs share that differ only in their seed; the run itself where its configuration is unknown."""
    config = run.results["run"].get("config")
    if not isinstance(config, dict) or "seed" not in run.results["run"]:
        return id(run)
    fixed = {key: value for key, value in config.items() if not key.startswith(FREE_KEYS)}
    return json.dumps([fixed, run.results["data"].get("sha256"), run.questions], sort_keys=True)
