"""What the stages before an evaluation were given, for the commands that make its results again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyprag.config import Config
from polyprag.config.keys import config_difference, config_values
from polyprag.config.loading import load_config
from polyprag.errors import ConfigError
from polyprag.runs import FIXED_KEYS
from polyprag.training.controls import asked_of_controls
from polyprag.translator_store import FOLDER as TRANSLATOR


def trained_with(folder: Path, config: Config, has_pool: bool) -> dict[str, dict[str, Any]]:
    """What the stages before an evaluation were given, as far as their files tell.

    Args:
        folder: the run's folder.
        config: of the evaluation.
        has_pool: whether the run has a trained pool, which the other stages start from.

    Returns:
        Values by dotted key: under `pool` all that the pool was trained with, under `controls` and `translator` what
        these were trained with otherwise than the pool, or without a pool otherwise than the evaluation.
    """
    own = folder / "config.yaml"
    is_told = has_pool and own.is_file()
    pool = load_config(own) if is_told else config
    later = {
        "controls": _told(asked_of_controls, folder, pool),
        "translator": _told(_asked_of_translator, folder, pool),
    }
    if has_pool:
        later = {
            stage: {key: value for key, value in asked.items() if not key.startswith(FIXED_KEYS)}
            for stage, asked in later.items()
        }
    return {"pool": config_values(pool), **later} if is_told else later


def _told(asked: Callable[[Path, Config], dict[str, Any]], folder: Path, pool: Config) -> dict[str, Any]:
    """What a stage was asked for; nothing where another version has written what this one cannot read."""
    try:
        return asked(folder, pool)
    except ConfigError:
        return {}


def _asked_of_translator(folder: Path, pool: Config) -> dict[str, Any]:
    path = folder / TRANSLATOR / "config.yaml"
    if not path.is_file():
        return {}
    own = load_config(path)
    values = config_values(own)
    return {key: values[key] for key in config_difference(pool, own)}
