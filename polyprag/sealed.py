"""A file of tensors that says what it is: facts, the sha256 of each tensor, and one over both stand in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyprag.errors import StoreError
from polyprag.files import write_tensors

HASHES, UNREAD = "tensors", "unread"
"""Keys of the facts that are the file's own."""


@dataclass(frozen=True)
class Seal:
    """What tells files of one kind from others.

    Attributes:
        format: written into the header.
        schema: of the facts; another one is refused.
        noun: what the file holds, for people.
        remedy: what to do about a file that cannot be used, for people.
        older: schemas that can be read as well.
    """

    format: str
    schema: int
    noun: str
    remedy: str
    older: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sealed:
    """What a file holds.

    Attributes:
        facts: as they were written.
        tensors: by name, as they were written, mapped from disk.
        digest: sha256 (hex) over facts and the tensors' hashes.
        bytes: size of the file.
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    digest: str
    bytes: int


def write_sealed(
    path: Path, seal: Seal, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], *, unread: Collection[str] = ()
) -> None:
    """Write a file of tensors on the CPU; an older one stays whole until the new one is.

    Args:
        path: the file.
        seal: what it is.
        facts: JSON values only.
        tensors: by name.
        unread: names of tensors too large to be hashed whenever the file is read.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    hashes = {name: _sha256(tensor) for name, tensor in contiguous.items()}
    said = json.dumps({**facts, "schema": seal.schema, HASHES: hashes, UNREAD: sorted(unread)}, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(said.encode()).hexdigest()
    write_tensors(path, contiguous, {"format": seal.format, "facts": said, "digest": digest})


def read_sealed(path: Path, seal: Seal, *, whole: bool = False) -> Sealed:
    """Read what `write_sealed` wrote; tensors stay on disk until they are used.

    Args:
        path: the file.
        seal: what it must be.
        whole: also hash the tensors that are too large to be hashed every time.

    Raises:
        StoreError: there is no such file, it is damaged, of another kind, or of another version.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no {seal.noun}; {seal.remedy}")
    header, tensors = _opened(path, seal)
    if header.get("format") != seal.format:
        raise StoreError(f"{path}: is no {seal.noun}; {seal.remedy}")
    if not _is_sound(header, tensors, whole):
        raise StoreError(f"{path}: is damaged: its content is not what was written (sha256 differs); {seal.remedy}")
    facts = json.loads(header["facts"])
    if facts.pop("schema") not in (seal.schema, *seal.older):
        raise StoreError(f"{path}: was written by another version of polyprag; {seal.remedy}")
    for own in (HASHES, UNREAD):
        facts.pop(own, None)
    return Sealed(facts, tensors, header["digest"], path.stat().st_size)


def sealed_digest(path: Path) -> str:
    """The digest that a file states, without reading its tensors; empty where there is none to read."""
    try:
        with safe_open(path, "pt") as handle:
            return str((handle.metadata() or {}).get("digest", ""))
    except (SafetensorError, OSError):
        return ""


def _opened(path: Path, seal: Seal) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as handle:
            return handle.metadata() or {}, {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path}: is damaged ({error}); {seal.remedy}") from None


def _is_sound(header: Mapping[str, str], tensors: Mapping[str, Tensor], whole: bool) -> bool:
    """Whether facts and tensors have the hashes that the header states."""
    said, digest = header.get("facts", ""), header.get("digest")
    if hashlib.sha256(said.encode()).hexdigest() != digest:
        return _digest_of_all(said, tensors) == digest
    facts = json.loads(said)
    unread = () if whole else facts[UNREAD]
    return facts[HASHES].keys() == tensors.keys() and all(
        name in unread or _sha256(tensor) == facts[HASHES][name] for name, tensor in tensors.items()
    )


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def _digest_of_all(said: str, tensors: Mapping[str, Tensor]) -> str:
    """The digest of older files, which hold no hash of each tensor."""
    digest = hashlib.sha256(said.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
