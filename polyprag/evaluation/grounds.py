"""What answers depend on: by it they are found again, and results of other settings leave the table."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from polyprag.config import Config
from polyprag.config.keys import config_values, keys
from polyprag.methods.method import Method

SHARED_KEYS = (
    *("base.", "answering.max_new_tokens", "answering.expand_index"),
    *("retrieval.backend", "retrieval.titles", "retrieval.encoder"),
)
"""Configuration on which every method's answers depend."""
LATER_KEYS = ("answering.prompt",)
"""More of it, which counts where it is not at its default, so that earlier answers are still recognised."""
OWN_KEYS = {"prag": ("prag.", "warm_up."), "flare": ("flare.",), "dragin": ("dragin.",)}
"""Configuration on which the answers of some methods depend, by the beginning of their names."""


def answers_key(config: Config, method: Method, data_sha: str, detail: str) -> str:
    """A hash (16 hex digits) of all that a method's answers depend on.

    Args:
        config: of the call.
        method: whose identity counts.
        data_sha: of questions and passages.
        detail: the setting, or whatever else tells these answers from others.
    """
    parts = [method.name.value, detail, method.identity, data_sha, config.evaluation.seed, _shared(config)]
    return _digest(parts)


def grounds(config: Config, name: str) -> str:
    """A hash (16 hex digits) of the configuration on which a method's answers depend, whatever setting was chosen.

    Args:
        config: of the call.
        name: of the method.
    """
    own = next((own for family, own in OWN_KEYS.items() if name == family or name.startswith(f"{family}_")), ())
    values = {key: str(value) for key, value in config_values(config).items() if own and key.startswith(own)}
    return _digest([_shared(config), config.evaluation.seed, values])


def _shared(config: Config) -> dict[str, str]:
    values = config_values(config)
    counted = (*SHARED_KEYS, *(key for key in LATER_KEYS if values[key] != keys()[key].default))
    return {key: str(value) for key, value in values.items() if key.startswith(counted)}


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
