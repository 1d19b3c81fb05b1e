"""From what was written about each passage to the rows that training reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from polyprag.augmentation.extractive import extract
from polyprag.augmentation.report import AugmentationReport
from polyprag.augmentation.validation import validate
from polyprag.config import AugmentationConfig, AugmentBy, Fill
from polyprag.knowledge.overlap import QuestionIndex
from polyprag.records import Augmentation, Passage, QAPair

Written = Callable[[Passage], Augmentation]
"""What has been written about a passage, not yet validated."""


def augmentation_rows(
    passages: Iterable[Passage],
    written: Written,
    asked: QuestionIndex,
    config: AugmentationConfig,
    report: AugmentationReport,
) -> Iterator[dict[str, Any]]:
    """The rows of `augmentation.jsonl`: what is valid of each passage, and extractive pairs where none is.

    Args:
        passages: in the order of the rows; those with nothing get no row.
        written: what has been written about a passage.
        asked: all test and validation questions.
        config: the augmentation section.
        report: counts along; it knows who wrote.
    """
    may_fill = config.pairs > 0 and config.fill is Fill.EXTRACTIVE and config.by is not AugmentBy.EXTRACTIVE
    for passage in passages:
        kept, rejected = validate(passage, written(passage), config, asked)
        report.rejected += rejected
        by = report.by
        if may_fill and not kept.qa:
            extracted, _ = validate(passage, extract(passage, 0, config.pairs), config, asked)
            if extracted.qa:
                kept, by = dataclasses.replace(kept, qa=extracted.qa), f"{by}+{AugmentBy.EXTRACTIVE}"
                report.filled += 1
                report.filled_pairs += len(extracted.qa)
        if config.pairs and not kept.qa:
            report.without_pairs += 1
            report.first_without = report.first_without or passage.id
        report.rewrites += len(kept.rewrites)
        report.pairs += len(kept.qa)
        if kept.rewrites or kept.qa:
            yield _row(kept, by, report.prompt_version)


def _row(augmentation: Augmentation, by: str, prompt_version: str) -> dict[str, Any]:
    return {
        "passage_id": augmentation.passage_id,
        "rewrites": list(augmentation.rewrites),
        "qa": [_pair(pair) for pair in augmentation.qa],
        "by": by,
        "prompt_version": prompt_version,
    }


def _pair(pair: QAPair) -> dict[str, str]:
    full = {"full_answer": pair.full_answer} if pair.full_answer else {}
    return {"question": pair.question, "answer": pair.answer, **full}
