"""What results say of their data: the data card of an evaluation, recall of its retriever, and both in a few lines."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polyprag.augmentation.stage import REPORT
from polyprag.files import sha256_of
from polyprag.knowledge.card_report import CARD_JSON, CARD_MARKDOWN, write_card
from polyprag.knowledge.data_card import reasons
from polyprag.methods.workbench import Workbench
from polyprag.passages import facts_of
from polyprag.records import Passage, Question
from polyprag.retrieval.recall import recall_at
from polyprag.runs import AUGMENTATION
from polyprag.training.run_card import card_of_run

RECALL_AT = (1, 3, 5, 10)
"""Numbers of retrieved passages for which recall is told."""
LARGE_CORPUS = 100_000
"""Passages from which the hash of a corpus, which a store knows, stands for it, so that it need not be read."""
MEASURED = ("card", "recall", "measured_on")
"""What is measured, as results call it."""


def data_sha(test: Sequence[Question], passages: Sequence[Passage]) -> str:
    """What tells the data of an evaluation from others: sha256 (hex) over test questions and passages."""
    corpus: object = tuple(passages) if len(passages) < LARGE_CORPUS else facts_of(passages).sha256
    return hashlib.sha256(repr((tuple(test), corpus)).encode()).hexdigest()


def measure_data(bench: Workbench, folder: Path, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Measure what an evaluation is on, and write its data card, unless both are known.

    Args:
        bench: corpus, questions, retriever and tokenizer.
        folder: the evaluation's folder.
        earlier: what earlier results say of their data, which is taken over if it was measured on the same.

    Returns:
        `card`, the numbers of the data card, `measured_on`, a hash of what they depend on, and, if gold passages of
        test questions are known, `recall`: the mean share of gold passages among the first k, `at` each k of
        `RECALL_AT`, and the number of `questions`.
    """
    measured_on = _measured_on(bench)
    known = {key: value for key, value in (earlier or {}).items() if key in MEASURED}
    if (
        known.get("measured_on") == measured_on
        and "card" in known
        and all((folder / name).exists() for name in (CARD_JSON, CARD_MARKDOWN))
    ):
        return known
    asked = [question for question in bench.knowledge.test if question.passage_ids]
    recall: dict[int, float] = {}
    if asked:
        found = bench.retrieve(asked, max(RECALL_AT))
        ranked = [[bench.passages[hit.position].id for hit in hits] for hits in found]
        recall = recall_at(ranked, [question.passage_ids for question in asked], RECALL_AT)
    card = card_of_run(bench.config, bench.folder, bench.knowledge, bench.base.tokenizer, recall)
    write_card(card, folder)
    measured: dict[str, Any] = {"card": card.summary(), "measured_on": measured_on}
    if recall:
        measured["recall"] = {"questions": len(asked), "at": card.recall}
    return measured


def _measured_on(bench: Workbench) -> str:
    """A hash of corpus, questions, augmentation, and of what retrieves and counts tokens."""
    config, knowledge = bench.config, bench.knowledge
    retrieval = dataclasses.replace(config.retrieval, url="")
    parts = (config.data, retrieval, config.base.model, config.answering.expand_index, knowledge.counts)
    known = hashlib.sha256(repr(parts).encode())
    own = (bench.folder / name for name in (AUGMENTATION, REPORT))
    known.update(repr([sha256_of(path) for path in own if path.is_file()]).encode())
    known.update(facts_of(knowledge.passages).sha256.encode())
    for record in (*knowledge.test, *knowledge.validation, *knowledge.augmentations.values()):
        known.update(repr(record).encode())
    return known.hexdigest()


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
