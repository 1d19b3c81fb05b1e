"""The file that the translator stage leaves: the parameter translator, and which passages it has learned from.

Shapes: N passages learned from.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyprag.errors import StoreError
from polyprag.experts.fingerprints import same_weights
from polyprag.experts.translator import ParameterTranslator
from polyprag.sealed import Seal, read_sealed, sealed_digest, write_sealed

FILE = "translator.safetensors"
FOLDER = "translator"
"""Where the parameter translator lies within a run."""
_PASSAGES = "learned_from"
_SHA256_BYTES = 32


@dataclass(frozen=True)
class TranslatorFacts:
    """What the file says of its translator.

    Attributes:
        base: fingerprint of the base model whose states it reads and whose layers it writes for.
        base_name: the name that model was asked for by.
        shapes: inputs and outputs of each target layer, by its name.
        size: hidden size of the base model.
        rank: rank of the adapters.
        hidden: hidden units of each network.
        scale: factor on an adapter's update.
        prompt: style of the prompts that it has learned by, as `answering.prompt`.
        settings: all that decides its weights, as JSON values.
        training: facts about the training, JSON values only.
    """

    base: str
    base_name: str
    shapes: dict[str, tuple[int, int]]
    size: int
    rank: int
    hidden: int
    scale: float
    prompt: str
    settings: dict[str, Any]
    training: dict[str, Any]

    @property
    def targets(self) -> list[str]:
        """Names of the linear layers that carry adapters, such as up_proj."""
        return list(dict.fromkeys(name.rpartition(".")[2] for name in self.shapes))

    def new_translator(self, init: float = 1e-7) -> ParameterTranslator:
        """An untrained translator of this shape; see `ParameterTranslator`."""
        return ParameterTranslator(self.shapes, self.size, self.rank, self.hidden, init)


@dataclass(frozen=True)
class StoredTranslator:
    """An opened parameter translator.

    Attributes:
        translator: in evaluation mode, float32.
        facts: what it belongs to.
        learned_from: content hashes of the passages that it was trained on.
        digest: sha256 over facts and tensors, by which answers are told apart.
        bytes: size of the file.
        path: the file.
    """

    translator: ParameterTranslator
    facts: TranslatorFacts
    learned_from: frozenset[str]
    digest: str
    bytes: int
    path: Path


def write_translator(
    folder: Path, translator: ParameterTranslator, facts: TranslatorFacts, learned_from: Collection[str]
) -> None:
    """Write a parameter translator in bfloat16; an older one stays whole until the new one is.

    Args:
        folder: the translator's own.
        translator: of the shape that the facts say.
        facts: what it belongs to.
        learned_from: content hashes of the passages that it was trained on.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in translator.state_dict().items()}
    write_sealed(folder / FILE, _seal(folder), asdict(facts), {**tensors, _PASSAGES: _packed(learned_from)})


def open_translator(folder: Path, base: str, base_name: str) -> StoredTranslator:
    """Open a parameter translator.

    Args:
        folder: where `write_translator` wrote.
        base: fingerprint of the base model at hand.
        base_name: its name, for people.

    Raises:
        StoreError: there is none, it is damaged, or it belongs to another base model.
    """
    path, seal = folder / FILE, _seal(folder)
    read = read_sealed(path, seal)
    shapes = {name: (inputs, outputs) for name, (inputs, outputs) in read.facts["shapes"].items()}
    facts = TranslatorFacts(**{**read.facts, "shapes": shapes})
    if not same_weights(facts.base, base):
        raise StoreError(
            f"{path}: was trained on the base model {facts.base_name} ({facts.base}), not on {base_name} ({base}); "
            f"set base.model={facts.base_name}, or {seal.remedy}"
        )
    learned_from = _unpacked(read.tensors.pop(_PASSAGES))
    translator = facts.new_translator()
    translator.load_state_dict({name: tensor.float() for name, tensor in read.tensors.items()})
    translator.eval().requires_grad_(False)
    return StoredTranslator(translator, facts, learned_from, read.digest, read.bytes, path)


def translator_digest(folder: Path) -> str:
    """The digest that a translator's file states, without reading its tensors; empty where there is none to read."""
    return sealed_digest(folder / FILE)


def _seal(folder: Path) -> Seal:
    remedy = f"run python train.py translator run.dir={folder.parent}"
    return Seal(format="polyprag-translator", schema=1, noun="parameter translator", remedy=remedy)


def _packed(hashes: Collection[str]) -> Tensor:
    """Hex sha256 hashes as bytes, [N, 32]."""
    content = bytearray(b"".join(bytes.fromhex(one) for one in sorted(hashes)))
    return torch.frombuffer(content, dtype=torch.uint8).reshape(-1, _SHA256_BYTES)


def _unpacked(hashes_NX: Tensor) -> frozenset[str]:
    return frozenset(bytes(row.tolist()).hex() for row in hashes_NX)
