"""Evaluated runs as they lie on disk: their results, and of each method the answers that these sum up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from polyprag.errors import ConfigError, DataError
from polyprag.evaluation.answers import Answer, answer_from_json, by_question
from polyprag.evaluation.results import ANSWERS, RESULTS, SCHEMA, MethodResult, Results
from polyprag.files import read_jsonl_tolerant

PLACES = (RESULTS, f"*/{RESULTS}", f"runs/*/*/{RESULTS}")
"""Where results lie below an evaluation's folder, a run's folder and a sweep's folder."""
USUAL = "evaluation"
TOLERANCE = 1e-9
_TEXTS = (("run", "base"), ("run", "quantisation"), ("data", "name"))
_NUMBERS: tuple[tuple[str | int, ...], ...] = (
    *(("n",), ("f1",), ("f1_ci95", 0), ("f1_ci95", 1), ("em",), ("contains",)),
    *(("seconds_per_question", "total"), ("bytes_per_passage",)),
)


@dataclass(frozen=True)
class EvaluatedRun:
    """One evaluation of one run.

    Attributes:
        label: names it among the others; see `labels`.
        folder: the evaluation's folder.
        results: its results.json.
        answers: for each method, the answers to all questions by question id.
    """

    label: str
    folder: Path
    results: Results
    answers: dict[str, dict[str, Answer]]

    @property
    def questions(self) -> dict[str, str]:
        """The questions' texts by id."""
        first = next(iter(self.answers.values()), {})
        return {id_: answer.question for id_, answer in first.items()}


def find_evaluations(paths: Iterable[Path]) -> list[Path]:
    """The folders of all evaluations that paths name, each once.

    Args:
        paths: folders of evaluations, of runs (all of whose evaluations count), or of sweeps.

    Raises:
        ConfigError: a path has no evaluation.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        below = [file.parent for place in PLACES for file in sorted(path.glob(place))]
        if not below:
            missing = "has no evaluation" if path.is_dir() else "is no folder"
            raise ConfigError(f"{path}: {missing}; name a run that `python evaluate.py run.dir=…` has evaluated")
        for folder in below:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def read_runs(folders: Sequence[Path], methods: Sequence[str] = ()) -> list[EvaluatedRun]:
    """Read evaluations.

    Args:
        folders: of the evaluations.
        methods: those that count; all by default. A run has those of them that have answered its questions.

    Raises:
        DataError: results or answers are damaged, of another schema, or do not belong together.
    """
    return [_read(label, folder, methods) for label, folder in zip(labels(folders), folders, strict=True)]


def labels(folders: Sequence[Path]) -> list[str]:
    """A name for each evaluation: its run's folder, and as much of the path as tells it from the others."""
    parts = [folder.resolve().parts for folder in folders]
    runs = [own[:-1] for own in parts]
    alone = [own[-1] == USUAL or runs.count(run) == 1 for own, run in zip(parts, runs, strict=True)]
    shown = [run if usual else own for own, run, usual in zip(parts, runs, alone, strict=True)]
    lengths = [1 if usual else 2 for usual in alone]
    while True:
        names = ["/".join(own[-length:]) for own, length in zip(shown, lengths, strict=True)]
        double = [at for at, name in enumerate(names) if names.count(name) > 1 and lengths[at] < len(shown[at])]
        if not double:
            return names
        for at in double:
            lengths[at] += 1


def read_results(path: Path) -> Results:
    """Read results.json, and check what comparisons rely on.

    Raises:
        DataError: the file cannot be read, or has another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); delete the file and evaluate again") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: expected results of schema {SCHEMA}, not {found!r}; evaluate again")
    wrong = _first_wrong(content)
    if wrong:
        raise DataError(f"{path}: {wrong} is missing or of the wrong type; delete the file and evaluate again")
    return cast(Results, content)


def rows_behind(result: MethodResult, method: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers that a result sums up; those of other settings lie in the same file under other keys.

    Args:
        result: of the method.
        method: its name.
        rows: all lines of answers.jsonl.

    Returns:
        A row for each question, the first that there is; none where no answers have this number and this mean F1.

    Raises:
        KeyError: a row lacks a key.
        TypeError: a row's value has the wrong type.
        ValueError: a row's value has the wrong type.
    """
    by_key: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["method"] == method:
            by_key.setdefault(row["key"], {}).setdefault(row["question_id"], dict(row))
    if "key" in result:
        by_key = {key: found for key, found in by_key.items() if key == result["key"]}
    for found in reversed(by_key.values()):
        total = math.fsum(float(row["scores"]["f1"]) for row in found.values())
        if len(found) == result["n"] and abs(total / len(found) - result["f1"]) < TOLERANCE:
            return list(found.values())
    return []


def _read(label: str, folder: Path, methods: Sequence[str]) -> EvaluatedRun:
    results = read_results(folder / RESULTS)
    path = folder / ANSWERS
    rows = read_jsonl_tolerant(path)
    answers = {
        name: answers_behind(result, name, rows, path)
        for name, result in results["methods"].items()
        if not methods or name in methods
    }
    for name in (name for name, own in answers.items() if not own):
        raise DataError(f"{path}: the answers of {name} are not those of {RESULTS}; evaluate the run again")
    asked = [{id_: answer.question for id_, answer in own.items()} for own in answers.values()]
    if any(questions != asked[0] for questions in asked):
        raise DataError(f"{path}: methods have answered different questions; delete {RESULTS} and evaluate again")
    return EvaluatedRun(label, folder, results, answers)


def _first_wrong(content: Mapping[str, Any]) -> str:
    """The dotted name of the first value that is missing or neither text nor number; empty if all is well."""
    for section, key in _TEXTS:
        if not isinstance(_get(content, (section, key)), str):
            return f"{section}.{key}"
    methods = content.get("methods")
    if not isinstance(methods, dict):
        return "methods"
    for name, result in methods.items():
        types = _get(result, ("by_type",)) or {}
        kinds = types if isinstance(types, dict) else ("",)
        for path in (*_NUMBERS, *(("by_type", kind, "f1") for kind in kinds)):
            if not _is_finite(_get(result, path)):
                return ".".join(("methods", name, *map(str, path)))
    return ""


def _get(content: Any, path: Iterable[str | int]) -> Any:
    """The value at the end of a path of keys and positions; None where it ends before."""
    for step in path:
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            return None
    return content


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def answers_behind(
    result: MethodResult, method: str, rows: Iterable[Mapping[str, Any]], path: Path
) -> dict[str, Answer]:
    """The answers that a result sums up, by question id; none where there are none. See `rows_behind`.

    Args:
        result: of the method.
        method: its name.
        rows: all lines of answers.jsonl.
        path: that file, for messages.

    Raises:
        DataError: a line is not an answer.
    """
    try:
        found = rows_behind(result, method, rows)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: a line is not an answer ({error!r}); delete the file and evaluate again") from None
    return by_question(answer_from_json(json.dumps(row), str(path)) for row in found)
