"""Speed of PRAG's training: adapters trained together, by the pool's own layer, against one at a time."""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring import Bar, Case, Measured, alternate, ratio

if TYPE_CHECKING:
    from torch import Tensor

    from polyprag.config import Config, PragConfig
    from polyprag.methods.adapters import AdapterEncoder
    from polyprag.records import Knowledge, Passage

ROUNDS, TOGETHER = 3, 8
ONE_PASS = ("prag.epochs=1", "tasks.alone_repeats=1")
"""The tuned recipe with one pass, each pair once alone."""
Adapter = dict[str, "Tensor"]


def official() -> Measured:
    """By the recipe of the official code."""
    from polyprag.config import PragConfig

    return _on_world(lambda _: PragConfig())


def tuned() -> Measured:
    """By the world's own recipe, with the pool's sequences, one pass."""
    return _on_world(lambda config: config.prag)


def compared(config: Config, knowledge: Knowledge, folder: Path, rounds: int = ROUNDS) -> Measured:
    """Seconds of training one at a time over those of training together, the same adapters anew in every round.

    Loading the base model is not timed; checking and storing adapters is.

    Args:
        config: `prag.*` is the recipe.
        knowledge: the first `TOGETHER` passages get their adapters.
        folder: where these go.
        rounds: that count.
    """
    from polyprag.experts.base_model import device_of, load_base
    from polyprag.methods.adapters import AdapterEncoder

    passages = knowledge.passages[:TOGETHER]
    encoders = {}
    for name, parallel in (("alone", 1), ("together", TOGETHER)):
        recipe = dataclasses.replace(config, prag=dataclasses.replace(config.prag, parallel=parallel))
        base = load_base(config.base, device_of(config.training.accelerator))
        encoders[name] = AdapterEncoder(base, recipe, folder / name, knowledge.augmentations)
    seconds = alternate({name: _anew(encoder, passages) for name, encoder in encoders.items()}, rounds)
    alone, together = (_stored(encoder, passages) for encoder in encoders.values())
    return ratio(
        seconds["alone"],
        seconds["together"],
        passages=len(passages),
        seconds_per_passage={name: statistics.median(times) / len(passages) for name, times in seconds.items()},
        updates_differ=distance(alone, together),
    )


def distance(expected: Sequence[Adapter], found: Sequence[Adapter]) -> float:
    """The Frobenius norm of the difference of all weight updates, as a share of that of the expected ones.

    Rounding is all that differs, which in bfloat16 is much.
    """
    apart = whole = 0.0
    for one, other in zip(expected, found, strict=True):
        for a_name in (name for name in one if "lora_A" in name):
            update, changed = (
                weights[a_name.replace("lora_A", "lora_B")] @ weights[a_name] for weights in (one, other)
            )
            whole += float(update.float().square().sum())
            apart += float((update - changed).float().square().sum())
    return math.sqrt(apart / whole)


def _on_world(recipe: Callable[[Config], PragConfig]) -> Measured:
    """On the demo world, by a recipe made of its configuration."""
    from tempfile import TemporaryDirectory

    from benchmarks.loops import WORLD
    from polyprag.config.loading import load_config
    from polyprag.knowledge.loading import load_knowledge

    config = load_config(WORLD, ONE_PASS)
    config = dataclasses.replace(config, prag=recipe(config))
    with TemporaryDirectory() as folder:
        return compared(config, load_knowledge(config.data), Path(folder))


def _anew(encoder: AdapterEncoder, passages: Sequence[Passage]) -> Callable[[], None]:
    """Training of the adapters of some passages, whether or not they are there."""

    def train() -> None:
        shutil.rmtree(encoder.folder, ignore_errors=True)
        encoder.encode(passages)

    return train


def _stored(encoder: AdapterEncoder, passages: Sequence[Passage]) -> list[Adapter]:
    from safetensors.torch import load_file

    from polyprag.methods.adapters import WEIGHTS

    return [load_file(encoder.path(passage) / WEIGHTS) for passage in passages]


CASES = (
    Case(
        "prag_batched_official",
        "PRAG adapters/s, 8 trained together, official recipe",
        "one at a time",
        Bar.at_least(1.0),
        official,
        slow=True,
    ),
    Case(
        "prag_batched_tuned",
        "PRAG adapters/s, 8 trained together, tuned recipe, one pass",
        "one at a time",
        Bar.at_least(1.0),
        tuned,
        slow=True,
    ),
)
