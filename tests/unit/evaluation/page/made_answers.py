"""Answers that tests of pages make up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyprag.evaluation.answers import Answer
from polyprag.methods.workbench import STEPS
from polyprag.metrics import Scores

F1 = {
    "vanilla": [0.0, 0.0, 0.25, 0.0, 0.5, 0.0],
    "standard_rag": [0.0, 0.5, 0.25, 1.0, 0.5, 0.0],
    "prag": [1.0, 0.5, 0.0, 0.0, 1.0, 0.0],
    "poly_prag": [1.0, 0.5, 0.0, 1.0, 1.0, 0.0],
    "poly_prag_query": [1.0, 1.0, 0.5, 1.0, 1.0, 0.0],
    "poly_prag_oracle": [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    "poly_prag_uniform": [0.0, 0.25, 0.0, 0.0, 0.5, 0.0],
    "format_lora": [0.0, 0.25, 0.0, 0.0, 0.0, 0.0],
}
TYPES = ["one_hop", "two_hop"] * 3
TOLD = {"dir": "runs/made", "base": "tiny", "quantisation": "none", "seed": 0, "store": "", "router": ""}


def answer(method: str, number: int, f1: float, kind: str, said: Mapping[str, Any]) -> Answer:
    """A made-up answer; `said` replaces some of its texts."""
    return Answer(
        method=method,
        question_id=f"q{number}.x",
        question=said.get("question", f"What is number {number}?"),
        type=kind,
        gold=said.get("gold", ("this", "that one")),
        prediction=said.get("prediction", f"{method} says {f1}"),
        raw_prediction="raw",
        scores=Scores(f1=f1, em=float(f1 == 1.0), contains=f1, prag_f1=f1),
        retrieved=said.get("retrieved", ()),
        top_experts=(),
        prompt_tokens=10 + number,
        new_tokens=2,
        seconds=dict.fromkeys(STEPS, 0.0123 * (1 + len(method))),
    )
