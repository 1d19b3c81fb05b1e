"""The results of a sweep as a whole: a score for each combination and method, a table, and a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyprag.config.keys import config_values
from polyprag.errors import DataError
from polyprag.evaluation.grids import Grid, format_seconds
from polyprag.evaluation.statistics import Values, seeds_bootstrap_ci
from polyprag.sweeps.definition import METHODS, SEED
from polyprag.sweeps.grid import Group, Point, Run, Sweep
from polyprag.sweeps.outcomes import Outcome

NONE = "–"
MEASURES = (
    "n",
    "f1",
    "f1_low",
    "f1_high",
    "em",
    "contains",
    "seconds_per_question",
    "train_seconds",
    "bytes_per_passage",
)
COSTS = (
    "tokens_in",
    "tokens_out",
    "retrievals",
    "seconds_to_first_token",
    "offline_seconds_per_passage",
    "peak_memory_bytes",
)
"""What the CSV file tells of a method where it is known."""
NOTE = "Mean F1 over seeds and its 95 % interval, by a bootstrap over questions and seeds."


@dataclass(frozen=True)
class Score:
    """F1 of a method at one combination: the mean over seeds and questions, with its 95 % interval."""

    mean: float
    low: float
    high: float
    questions: int


@dataclass(frozen=True)
class Line:
    """A combination with what its finished runs have shown.

    Attributes:
        point: the combination.
        outcomes: of its finished runs.
        scores: by method; empty where no run is finished.
    """

    point: Point
    outcomes: tuple[Outcome, ...]
    scores: dict[str, Score]


def summarise_sweep(sweep: Sweep, outcomes: Mapping[Run, Outcome]) -> list[tuple[Group, list[Line]]]:
    """Score every combination of every group.

    Args:
        sweep: the groups.
        outcomes: finished runs.

    Raises:
        DataError: seeds of a combination have answered different questions.
    """
    evaluation = sweep.base.evaluation
    summed: dict[tuple[Run, ...], Line] = {}  # groups share their centre

    def line(point: Point) -> Line:
        """The line of a combination, scored once however many groups it is in."""
        if point.runs not in summed:
            found = tuple(outcomes[run] for run in point.runs if run in outcomes)
            scores = {
                method: _score(found, method, evaluation.bootstrap, evaluation.seed)
                for method in (found[0].methods if found else ())
            }
            summed[point.runs] = Line(point, found, scores)
        return Line(point, summed[point.runs].outcomes, summed[point.runs].scores)

    return [(group, [line(point) for point in group.points]) for group in sweep.groups]


def methods_of(lines: Sequence[Line]) -> list[str]:
    """The methods that any of the combinations has results of, in their order."""
    return list(dict.fromkeys(method for line in lines for method in line.scores))


def sweep_grids(summary: Sequence[tuple[Group, Sequence[Line]]]) -> list[Grid]:
    """A table for each group, a row for each combination; a row for each method where nothing is swept."""
    return [_method_grid(lines[0]) if not group.keys else _key_grid(group, lines) for group, lines in summary]


def sweep_csv(sweep: Sweep, outcomes: Mapping[Run, Outcome]) -> str:
    """A row for each finished run and method: swept keys, scores, costs, then every other key of the configuration."""
    swept = [*dict.fromkeys(key for group in sweep.groups for key in group.keys if key != METHODS), SEED]
    others = [key for key in config_values(sweep.base) if key not in swept]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "method", *swept, *MEASURES, *COSTS, "passages", *others])
    for run in sweep.runs:
        if run in outcomes:
            writer.writerows(_csv_rows(outcomes[run], swept, others))
    return text.getvalue()


def _csv_rows(outcome: Outcome, swept: Sequence[str], others: Sequence[str]) -> list[list[Any]]:
    values = config_values(outcome.run.config)
    return [
        [
            *(outcome.folder.name, method, *(value_text(values[key]) for key in swept)),
            *(result["n"], result["f1"], *result["f1_ci95"], result["em"], result["contains"]),
            *(result["seconds_per_question"]["total"], result["train_seconds"], result["bytes_per_passage"]),
            *(result.get(cost, "") for cost in COSTS),
            *(outcome.passages, *(value_text(values[key]) for key in others)),
        ]
        for method, result in outcome.methods.items()
    ]


def _score(outcomes: Sequence[Outcome], method: str, resamples: int, seed: int) -> Score:
    values_TN = scores_of(outcomes, method, list(outcomes[0].f1[method]))
    low, high = seeds_bootstrap_ci(values_TN, resamples, seed)
    return Score(float(values_TN.mean()), low, high, values_TN.shape[1])


def scores_of(outcomes: Sequence[Outcome], method: str, questions: Sequence[str]) -> Values:
    """F1 of every question in a row for each training, [T, N].

    Raises:
        DataError: one of them has answered other questions.
    """
    for outcome in outcomes:
        if outcome.f1[method].keys() != set(questions):
            raise DataError(
                f"{outcome.folder}: has answered other questions than the runs beside it, so their scores cannot be "
                "put together; the data has changed meanwhile: move the older folders away"
            )
    return np.array([[outcome.f1[method][question] for question in questions] for outcome in outcomes])


def _key_grid(group: Group, lines: Sequence[Line]) -> Grid:
    methods = methods_of(lines)
    rows = tuple(
        (
            *map(value_text, line.point.values),
            _seeds(line),
            *(cell(line.scores.get(method)) for method in methods),
            _training(line),
        )
        for line in lines
    )
    head = (*group.keys, "seeds", *methods, "training")
    return Grid(f"F1 by {' and '.join(group.keys)}", head, rows, names=len(group.keys), note=NOTE)


def _method_grid(line: Line) -> Grid:
    rows = tuple((method, _seeds(line), str(score.questions), cell(score)) for method, score in line.scores.items())
    return Grid("F1 by method", ("method", "seeds", "n", "F1"), rows, note=NOTE)


def cell(score: Score | None) -> str:
    """A score as a table shows it."""
    return NONE if score is None else f"{score.mean:.3f} ({score.low:.2f}–{score.high:.2f})"


def _seeds(line: Line) -> str:
    done, asked = len(line.outcomes), len(line.point.runs)
    return str(done) if done == asked else f"{done} of {asked}"


def _training(line: Line) -> str:
    seconds = [outcome.train_seconds for outcome in line.outcomes]
    return format_seconds(sum(seconds) / len(seconds)) if seconds else NONE


def value_text(value: Any) -> str:
    """A value as YAML would write it."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
