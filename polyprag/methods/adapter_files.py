"""Where one-to-one adapters lie on disk, as ordinary PEFT adapters, and what they take up there."""

from __future__ import annotations

import hashlib
import json
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

    def mean_bytes(self) -> float:
        """Mean bytes of all adapters of a passage on disk, weights and configuration; each holds the start it had."""
        sizes: dict[str, int] = {}
        for adapter in self._adapters():
            passage = adapter.relative_to(self.folder).parts[0]
            if passage != WARM_UP:
                own = sum(file.stat().st_size for file in adapter.iterdir())
                sizes[passage] = sizes.get(passage, 0) + own
        return sum(sizes.values()) / max(1, len(sizes))

    def count(self) -> int:
        """Passages that have an adapter."""
        return len({adapter.relative_to(self.folder).parts[0] for adapter in self._adapters()} - {WARM_UP})

    def train_seconds(self) -> float:
        """Seconds that the adapters at hand took to train, and their warm-up."""
        return sum(float(json.loads((adapter / FACTS).read_text())["seconds"]) for adapter in self._adapters())

    def _adapters(self) -> list[Path]:
        return sorted(facts.parent for facts in self.folder.rglob(FACTS))


def digest(*parts: object) -> str:
    """A hash of what some parts look like, in hexadecimal digits."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()
