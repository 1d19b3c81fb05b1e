"""Evaluations on disk, as a harness leaves them, from scores that a test makes up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from polyprag.evaluation.answers import Answer, answer_to_json
from polyprag.evaluation.recorded import EvaluatedRun, read_runs
from polyprag.evaluation.results import merge_results
from polyprag.evaluation.summary import summarise
from polyprag.files import append_jsonl, write_json
from polyprag.methods.workbench import STEPS
from polyprag.metrics import Scores

Evaluate = Callable[..., Path]
OWN: Mapping[str, Any] = {}


def scored(method: str, number: int, f1: float, kind: str, about: str) -> Answer:
    """An answer whose F1 by PRAG's scorer is half of that by SQuAD's."""
    return Answer(
        method=method,
        question_id=f"q{number}",
        question=f"What is {about} {number}?",
        type=kind,
        gold=("this",),
        prediction="that",
        raw_prediction="that",
        scores=Scores(f1=f1, em=float(f1 == 1.0), contains=f1, prag_f1=f1 / 2),
        retrieved=(),
        top_experts=(),
        prompt_tokens=10,
        new_tokens=2,
        seconds=dict.fromkeys(STEPS, 0.25),
    )


@pytest.fixture
def evaluate(tmp_path) -> Evaluate:
    """`evaluate("run", {"prag": [0.5, 1.0]}, …)` writes an evaluation with an F1 for each question; gives its folder.

    `config` is the configuration that the results tell, one of the run's own by default; None is that of an earlier
    version, which told none.
    """

    def write(
        run: str,
        f1: Mapping[str, Sequence[float]],
        types: Sequence[str] = (),
        about: str = "number",
        config: Mapping[str, Any] | None = OWN,
        **facts: Any,
    ) -> Path:
        folder = tmp_path / run / "evaluation"
        config = {"data.path": run} if config is OWN else config
        answers = {
            method: [scored(method, at, value, types[at] if types else "", about) for at, value in enumerate(values)]
            for method, values in f1.items()
        }
        for method, own in answers.items():
            rows = [{"key": f"{method}-1", **json.loads(answer_to_json(answer))} for answer in own]
            append_jsonl(folder / "answers.jsonl", rows)
        methods = {method: summarise(own, 200, 0, 100.0, 5.0, {}) for method, own in answers.items()}
        told = {"base": facts.get("base", "tiny"), "quantisation": "none", "seed": facts.get("seed", 0)}
        told |= {"config": {"run.seed": told["seed"], **config}} if config is not None else {}
        data = {"name": facts.get("data", "demo"), "sha256": about, "passages": 3}
        data |= {"benchmark": facts["benchmark"]} if "benchmark" in facts else {}
        write_json(folder / "results.json", merge_results(None, told, data, methods, []))
        return folder

    return write


@pytest.fixture
def recorded(evaluate) -> Callable[..., EvaluatedRun]:
    """The same evaluation, read."""
    return lambda *args, **kwargs: read_runs([evaluate(*args, **kwargs)])[0]
