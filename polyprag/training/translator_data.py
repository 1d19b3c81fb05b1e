"""What the parameter translator learns from: outside passages, their sequences, and the adapters that PRAG gave them.

Shapes: E hidden size of the base model, P passages, D inputs, O outputs, R rank.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from polyprag.config import Config, TasksConfig
from polyprag.config.checks import validate
from polyprag.errors import AdapterError, DataError
from polyprag.experts.translator import Adapters
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import Pack, examples_of, pack
from polyprag.records import Augmentation, Knowledge, Passage
from polyprag.training.batches import RewindableSampler
from polyprag.training.outside import Outside, outside_data, outside_knowledge

PEFT_PREFIX = "base_model.model."
"""What PEFT puts before the name of a layer."""
PASSAGELESS = "questions without a passage"
"""Why outside questions are left out that are their own passages."""


@dataclass(frozen=True)
class Lesson:
    """One outside passage.

    Attributes:
        state_E: what stands for the passage.
        packs: its sequences.
        sequences: how many these are.
        adapter: the file of the weights that PRAG gave it.
    """

    state_E: Tensor
    packs: tuple[Pack, ...]
    sequences: int
    adapter: Path


def translator_passages(config: Config, run: Knowledge) -> Outside:
    """The outside passages that a run's translator learns from, `translator.passages` at most.

    A benchmark without passages has outside questions that are passages of their own. They show the form of answers,
    but no passage and its adapter, so they are left out and counted.

    Args:
        config: of the run.
        run: its corpus and questions, of which nothing may be in them.

    Raises:
        ConfigError: nothing says which passages are outside.
        DataError: they cannot be used, or none is left.
    """
    most = config.translator.passages
    outside_config = dataclasses.replace(config, data=outside_data(config, most))
    validate(outside_config)
    found = outside_knowledge(outside_config, run)
    whole = [passage for passage in found.passages if not _is_question(passage, found.augmentations[passage.id])]
    if not whole:
        data = outside_config.data
        raise DataError(
            f"{data.path or data.name.value}: no outside question comes with a passage for the translator to learn "
            "from; name a file of other passages with pairs in data.outside"
        )
    questions = {PASSAGELESS: len(found.passages) - len(whole)} if len(whole) < len(found.passages) else {}
    passages = tuple(whole[:most])
    return Outside(passages, {p.id: found.augmentations[p.id] for p in passages}, found.left_out | questions)


def _is_question(passage: Passage, augmentation: Augmentation) -> bool:
    """Whether a passage's text is what one of its own pairs asks."""
    return passage.text.split() in [pair.question.split() for pair in augmentation.qa]


def sequences_of(
    passage: Passage, augmentation: Augmentation, config: TasksConfig, writer: PromptWriter, most: int
) -> tuple[tuple[Pack, ...], int]:
    """The sequences of a passage that its adapter was trained on, packed, and their number.

    Args:
        passage: an outside passage.
        augmentation: its pairs and rewrites.
        config: the recipe of its adapter.
        writer: writes prompts.
        most: only the first so many; 0 means all.

    Raises:
        DataError: the passage has too little to train on.
    """
    packs: list[Pack] = []
    taken = 0
    for group in examples_of(passage, augmentation, config, writer):
        own = group[: most - taken] if most else group
        packs += pack(0, own, config)
        taken += len(own)
    return tuple(packs), taken


def read_adapter(path: Path, layers: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """The weights of an adapter that PEFT has stored, in float32: A [R, D] and B [O, R] by the layer's name.

    Raises:
        AdapterError: a layer's weights are not in the file, or the file has others.
    """
    stored = load_file(path)
    names = {name: tuple(f"{PEFT_PREFIX}{name}.lora_{side}.weight" for side in "AB") for name in layers}
    unmatched = sorted(stored.keys() ^ {name for pair in names.values() for name in pair})
    if unmatched:
        raise AdapterError(f"{path}: {len(unmatched)} weights do not fit the model, such as {unmatched[0]}")
    return {name: (stored[a].float(), stored[b].float()) for name, (a, b) in names.items()}


def read_adapters(paths: Sequence[Path], layers: Sequence[str], device: torch.device) -> Adapters:
    """Several stored adapters, A [P, R, D] and B [P, O, R] of each layer; see `read_adapter`."""
    read = [read_adapter(path, layers) for path in paths]
    return {
        name: (
            torch.stack([one[name][0] for one in read]).to(device),
            torch.stack([one[name][1] for one in read]).to(device),
        )
        for name in layers
    }


class ShuffledPasses(RewindableSampler):
    """Indices in batches, over several passes, each in an order of its own; the same for the same arguments.

    Args:
        count: how many indices there are.
        size: of a batch; the last of a pass may be smaller.
        passes: passes over all of them.
        seed: of the orders.
    """

    def __init__(self, count: int, size: int, passes: int, seed: int) -> None:
        self.batches: list[list[int]] = []
        for number in range(passes):
            order = list(range(count))
            random.Random(f"{seed}-{number}").shuffle(order)
            self.batches += [order[at : at + size] for at in range(0, count, size)]

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        return iter(self.batches[start:])

    def __len__(self) -> int:
        return len(self.batches)
