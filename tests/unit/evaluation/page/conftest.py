"""Evaluations on disk with everything that a page shows, from scores that a test makes up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from made_answers import F1, TOLD, TYPES, answer

from polyprag.evaluation.answers import answer_to_json
from polyprag.evaluation.differences import differences
from polyprag.evaluation.results import merge_results
from polyprag.evaluation.summary import summarise
from polyprag.files import append_jsonl, write_json

Evaluated = Callable[..., Path]


@pytest.fixture
def evaluated(tmp_path: Path) -> Evaluated:
    """`evaluated(f1, types, said, change)` writes an evaluation and gives its folder; `change` edits its results."""

    def write(
        f1: Mapping[str, Sequence[float]] = F1,
        types: Sequence[str] = TYPES,
        said: Mapping[str, Any] | None = None,
        change: Callable[[dict[str, Any]], None] = lambda results: None,
        run: str = "run",
    ) -> Path:
        folder = tmp_path / run / "evaluation"
        answers = {
            method: [
                answer(method, at, value, types[at] if types else "", said or {}) for at, value in enumerate(values)
            ]
            for method, values in f1.items()
        }
        for method, own in answers.items():
            append_jsonl(
                folder / "answers.jsonl", [{"key": method, **json.loads(answer_to_json(entry))} for entry in own]
            )
        methods = {
            method: summarise(own, 100, 0, 1000.0 * len(method) * (method != "vanilla"), 5.0, {})
            for method, own in answers.items()
        }
        compared = differences(answers, combinations(answers, 2), 100, 0)
        sizes = {kind: types.count(kind) for kind in types}
        data = {"name": "made", "sha256": "0" * 64, "passages": 3, "questions": 6, "types": sizes, "validation": 2}
        results: dict[str, Any] = dict(merge_results(None, TOLD, data, methods, compared))
        change(results)
        write_json(folder / "results.json", results)
        return folder

    return write
