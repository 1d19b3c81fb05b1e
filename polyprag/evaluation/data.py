"""What results say of their data: the data card of an evaluation, recall of its retriever, and both in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyprag.knowledge.card_report import write_card
from polyprag.knowledge.data_card import reasons
from polyprag.methods.workbench import Workbench
from polyprag.retrieval.recall import recall_at
from polyprag.training.run_card import card_of_run

RECALL_AT = (1, 3, 5, 10)
"""Numbers of retrieved passages for which recall is told."""


def measure_data(bench: Workbench, folder: Path) -> dict[str, Any]:
    """Measure what an evaluation is on, and write its data card.

    Args:
        bench: corpus, questions, retriever and tokenizer.
        folder: the evaluation's folder.

    Returns:
        `card`, the numbers of the data card, and, if gold passages of test questions are known, `recall`: the mean
        share of gold passages among the first k, `at` each k of `RECALL_AT`, and the number of `questions`.
    """
    asked = [question for question in bench.knowledge.test if question.passage_ids]
    recall: dict[int, float] = {}
    if asked:
        found = bench.retrieve(asked, max(RECALL_AT))
        ranked = [[bench.passages[hit.position].id for hit in hits] for hits in found]
        recall = recall_at(ranked, [question.passage_ids for question in asked], RECALL_AT)
    card = card_of_run(bench.config, bench.folder, bench.knowledge, bench.base.tokenizer, recall)
    write_card(card, folder)
    measured: dict[str, Any] = {"card": card.summary()}
    if recall:
        measured["recall"] = {"questions": len(asked), "at": card.recall}
    return measured


def data_lines(data: Mapping[str, Any]) -> list[str]:
    """What `measure_data` has found, one line a fact; none for results without it."""
    if "card" not in data:
        return []
    card = data["card"]
    near, overlap = card["near_duplicates"], card["overlap"]
    lines = [
        f"{card['passages']:,} passages; {card['duplicates']:,} duplicates collapsed, "
        f"{near['found']:,} near duplicates among {near['looked_at']:,}",
        *(f"left out ({what}): {reasons(counts)}" for what, counts in card["left_out"].items()),
    ]
    if overlap["training"]:
        lines.append(
            f"{overlap['exact']:,} of {overlap['training']:,} training questions equal a test question, "
            f"{overlap['near']:,} more are near copies"
        )
    if "recall" in data:
        shares = ", ".join(f"@{k} {share:.3f}" for k, share in data["recall"]["at"].items())
        lines.append(f"recall of the retriever: {shares} ({data['recall']['questions']:,} questions)")
    return lines + [f"note: {warning}" for warning in card["warnings"]]
