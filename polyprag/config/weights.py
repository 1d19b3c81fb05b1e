"""Which keys trained weights and their store depend on, and whether these still say what they said then."""

from __future__ import annotations

from typing import Any

import yaml  # type: ignore[import-untyped]

from polyprag.config import Config
from polyprag.config.loading import to_yaml

MAY_DIFFER = (
    "run.dir",
    "run.threads",
    "run.shard",
    "logging.",
    "evaluation.",
    "router.",
    "translator.",
    "answering.passages",
    "answering.combine",
    "answering.key_share",
    "answering.abstain",
    "answering.shots",
    "answering.max_new_tokens",
    "answering.batch_size",
    "prag.",
    "flare.",
    "dragin.",
    "controls.",
    "warm_up.prag",
    "training.checkpoint_minutes",
)
"""Keys that a resumed run may change, since neither weights nor store depend on them."""


def changed_keys(before: str, config: Config, may_differ: tuple[str, ...] = MAY_DIFFER) -> list[str]:
    """The keys on which weights depend whose values are others than before.

    Args:
        before: the configuration that weights were trained with, as YAML.
        config: the present configuration.
        may_differ: beginnings of the keys on which the weights do not depend.
    """
    default = _flat(yaml.safe_load(to_yaml(Config())))  # what a key says that is younger than those weights
    old, new = default | _flat(yaml.safe_load(before)), _flat(yaml.safe_load(to_yaml(config)))
    return [key for key in new if new[key] != old[key] and not key.startswith(may_differ)]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values of a nested mapping."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
