"""The data card of a run, and its place in Weights & Biases beside the training curves."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from polyprag.augmentation.stage import REPORT
from polyprag.config import Config
from polyprag.errors import DataError
from polyprag.knowledge.data_card import DataCard, make_card
from polyprag.records import Knowledge
from polyprag.runs import AUGMENTATION, run_data

COLUMNS = ("what", "number")


def card_of_run(
    config: Config, folder: Path, knowledge: Knowledge, tokenizer: Any, recall: Mapping[int, float] | None = None
) -> DataCard:
    """The data card of what a run has loaded; see `polyprag.knowledge.data_card.make_card`.

    Args:
        config: the whole configuration.
        folder: the run's folder, whose own augmentation counts if the configuration names no other.
        knowledge: what was loaded.
        tokenizer: the base model's; None leaves lengths out.
        recall: share of gold passages found among the first k, by k.

    Raises:
        DataError: the report of the run's own augmentation is damaged.
    """
    report = own_augmentation_report(config, folder)
    return make_card(dataclasses.replace(config, data=run_data(config, folder)), knowledge, tokenizer, report, recall)


def own_augmentation_report(config: Config, folder: Path) -> dict[str, Any] | None:
    """The report of a run's own augmentation; None where it has none, or uses another.

    Args:
        config: the whole configuration.
        folder: the run's folder.

    Raises:
        DataError: the report is damaged.
    """
    own = run_data(config, folder).augmentation == str(folder / AUGMENTATION)
    return _read_report(folder / REPORT) if own else None


def log_card(card: DataCard, loggers: Iterable[Logger]) -> None:
    """Log the card's numbers to Weights & Biases, as a table and as summary values; other loggers get nothing."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            numbers = card_numbers(card.summary())
            rows = [[name, value] for name, value in numbers.items()]
            logger.log_table("data/card", columns=list(COLUMNS), data=rows)
            logger.experiment.summary.update({f"data/{name}": value for name, value in numbers.items()})


def card_numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """All numbers of a card's summary under names such as `overlap/near`; texts are left out."""
    numbers: dict[str, float] = {}
    for name, value in summary.items():
        if isinstance(value, Mapping):
            numbers |= {f"{name}/{inner}": number for inner, number in card_numbers(value).items()}
        elif isinstance(value, int | float):
            numbers[name] = float(value)
    return numbers


def _read_report(path: Path) -> dict[str, Any] | None:
    """The report of the run's own augmentation; None where there is none."""
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); delete the file, or run train.py augment again") from None
    if not isinstance(report, dict):
        raise DataError(f"{path}: not a JSON object; delete the file, or run train.py augment again")
    return report
