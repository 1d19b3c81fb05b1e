"""Where one-to-one adapters lie on disk, as ordinary PEFT adapters, and what they take up there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from torch import Tensor

from polyprag.files import replace_folder, write_json, write_tensors
from polyprag.knowledge.released import words_of
from polyprag.records import Augmentation, Passage

INITIAL = "default"
"""PEFT's name of the adapter that is trained."""
FACTS = "training.json"
WEIGHTS = "adapter_model.safetensors"
WARM_UP = "warm_up"
NAME_LENGTH = 16
"""Hexadecimal digits of the folders' names."""


@dataclass(frozen=True)
class Subject:
    """What an adapter is trained on.

    Attributes:
        passage: the passage.
        augmentation: its rewrites and pairs.
        question: the text of the question that the adapter is kept for; empty if all questions share it.
    """

    passage: Passage
    augmentation: Augmentation
    question: str = ""

    @property
    def name(self) -> str:
        """How errors call it; no two subjects of an encoder have the same."""
        return f"passage {self.passage.id!r}" + (f" for {self.question!r}" if self.question else "")


@dataclass(frozen=True)
class AdapterCosts:
    """What some adapters cost.

    Attributes:
        passages: that have an adapter.
        bytes: mean bytes of all adapters of such a passage on disk, weights and configuration; each holds the start it
            had, and the warm-up has none.
        seconds: that they took to train, and their warm-up.
    """

    passages: int
    bytes: float
    seconds: float


class AdapterFiles:
    """The adapters of one recipe, each in a folder of its own, written as a whole or not at all.

    Those that all questions share lie in `<hash of what it is trained on>`, those of a question in
    `<hash of the passage>/<hash of the question and of what it is trained on>`.

    Args:
        folder: of the recipe.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, subject: Subject) -> Path:
        """The folder of an adapter."""
        passage = subject.passage.content_hash
        if not subject.question:
            return self.folder / digest(passage, subject.augmentation)[:NAME_LENGTH]
        own = digest(words_of(subject.question), subject.augmentation)[:NAME_LENGTH]
        return self.folder / digest(passage)[:NAME_LENGTH] / own

    def holds(self, subject: Subject) -> bool:
        """Whether an adapter is there."""
        return (self.path(subject) / FACTS).exists()

    def save(self, folder: Path, model: Any, seconds: float) -> None:
        """Write the adapter that a model holds, in the model's number type, and what its training took.

        Args:
            folder: the adapter's.
            model: a model that PEFT wraps.
            seconds: of the training.
        """
        tensors: dict[str, Tensor] = get_peft_model_state_dict(model)
        dtype: torch.dtype = model.get_base_model().dtype
        with replace_folder(folder) as new:
            model.peft_config[INITIAL].save_pretrained(str(new))
            contiguous = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
            write_tensors(new / WEIGHTS, contiguous, {"format": "pt"})
            write_json(new / FACTS, {"seconds": seconds})

    def costs(self, subjects: Iterable[Subject]) -> AdapterCosts:
        """What the adapters of some subjects cost, as far as they are there, and their warm-up.

        Others in the folder, such as those of earlier passages or of an earlier augmentation, do not count.
        """
        there = {self.path(subject): subject.passage.content_hash for subject in subjects if self.holds(subject)}
        passages = len(set(there.values()))
        stored = sum(file.stat().st_size for adapter in there for file in adapter.iterdir())
        facts = [folder / FACTS for folder in (*there, self.folder / WARM_UP)]
        seconds = sum(float(json.loads(file.read_text())["seconds"]) for file in facts if file.exists())
        return AdapterCosts(passages, stored / max(1, passages), seconds)


def digest(*parts: object) -> str:
    """A hash of what some parts look like, in hexadecimal digits."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
