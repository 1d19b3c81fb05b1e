"""Speed of PRAG's training: adapters trained together against one at a time, as ratios within one run.

Run as: python benchmarks/prag_parallel.py [--config FILE] [key=value …]

The first 8 passages of the configuration's corpus (without arguments, that of configs/world.yaml) get their adapters
anew in each of three alternating rounds, one at a time and `prag.parallel` together, by the official recipe and by the
configuration's. Medians without the first round are compared. The last number says how far apart the two ways leave an
adapter's weight update, as a share of it, in the Frobenius norm; rounding is all that differs, which in bfloat16 is
much. Loading the base model is not timed; checking and storing adapters is.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from safetensors.torch import load_file
from torch import Tensor

from polyprag.cli import guarded, parse_call
from polyprag.config import Config, PragConfig
from polyprag.config.loading import load_config
from polyprag.errors import ConfigError
from polyprag.experts.base_model import device_of, load_base
from polyprag.knowledge.loading import load_knowledge
from polyprag.methods.adapters import WEIGHTS, AdapterEncoder
from polyprag.records import Knowledge, Passage
from polyprag.training.trainer import prepare_process

ROUNDS = 3
PASSAGES = 8

Adapter = dict[str, Tensor]


def main(argv: Sequence[str]) -> None:
    """Train in alternating rounds and print medians and ratios."""
    call = parse_call(argv or ["--config", "configs/world.yaml"], "prag_parallel.py", ("bench",), __doc__ or "")
    config = load_config(call.config_path, call.overrides)
    if config.prag.parallel == 1:
        raise ConfigError("prag.parallel is 1, which leaves nothing to compare; use 2 or more")
    prepare_process(config.run)
    knowledge = load_knowledge(config.data)
    passages, together = knowledge.passages[:PASSAGES], config.prag.parallel
    for name, prag in (("official", PragConfig()), ("configured", config.prag)):
        seconds: dict[int, list[float]] = {1: [], together: []}
        adapters: dict[int, list[Adapter]] = {}
        for _ in range(ROUNDS):
            for size in seconds:
                recipe = dataclasses.replace(config, prag=dataclasses.replace(prag, parallel=size))
                taken, adapters[size] = trained(recipe, knowledge, passages)
                seconds[size].append(taken)
        alone, at_once = (statistics.median(times[1:]) for times in seconds.values())
        print(
            f"{name} recipe, {len(passages)} passages: {alone / len(passages):.2f} s a passage one at a time, "
            f"{at_once / len(passages):.2f} s by {together} together; one at a time / together: {alone / at_once:.2f}; "
            f"updates differ by {distance(adapters[1], adapters[together]):.1e}",
            flush=True,
        )


def trained(config: Config, knowledge: Knowledge, passages: Sequence[Passage]) -> tuple[float, list[Adapter]]:
    """Seconds that the adapters of some passages took, and what was stored."""
    base = load_base(config.base, device_of(config.training.accelerator))
    with TemporaryDirectory() as folder:
        encoder = AdapterEncoder(base, config, Path(folder), knowledge.augmentations)
        started = time.perf_counter()
        encoder.encode(passages)
        seconds = time.perf_counter() - started
        return seconds, [load_file(encoder.path(passage) / WEIGHTS) for passage in passages]


def distance(expected: Sequence[Adapter], found: Sequence[Adapter]) -> float:
    """The norm of the difference of all weight updates, as a share of the norm of the expected ones."""
    apart = whole = 0.0
    for one, other in zip(expected, found, strict=True):
        for a_name in (name for name in one if "lora_A" in name):
            update, changed = (
                weights[a_name.replace("lora_A", "lora_B")] @ weights[a_name] for weights in (one, other)
            )
            whole += float(update.float().square().sum())
            apart += float((update - changed).float().square().sum())
    return math.sqrt(apart / whole)


if __name__ == "__main__":
    sys.exit(guarded(main))
