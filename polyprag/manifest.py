"""What a store says of itself: `manifest.json`, which holds its own checksum and that of every other file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyprag.errors import StoreError
from polyprag.passages import CorpusFacts

FORMAT = "polyprag-store"
SCHEMA = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class FileEntry:
    """Size and sha256 (hex) of a file of the store."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        base_name: the base model that the store was trained on, as it was named.
        base_fingerprint: the fingerprint of that model.
        passages: number of passages, N.
        corpus: what is known of them as a whole; None in older stores.
        group_names: names of the routed groups, G of them.
        experts: number of experts, K.
        tensors: shape of each tensor by name, by file.
        training: what training wanted to be remembered, as JSON.
        files: every file but the manifest, by its path within the store.
        digest: sha256 of the manifest, which stands for the whole store.
    """

    base_name: str
    base_fingerprint: str
    passages: int
    corpus: CorpusFacts | None
    group_names: tuple[str, ...]
    experts: int
    tensors: dict[str, dict[str, list[int]]]
    training: dict[str, Any]
    files: dict[str, FileEntry]
    digest: str


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest by its own checksum, after which its structure is as written.

    Args:
        folder: of the store.

    Raises:
        StoreError: this is no store, one of another version, or the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        reason = f"has no {MANIFEST}, so it is no store" if folder.is_dir() else "no such folder"
        raise StoreError(f"{folder}: {reason}; name the folder of a finished training, or train one with train.py")
    try:
        body = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"it is not JSON ({error})") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise StoreError(f'{path}: is not the manifest of a store ("format" is not {FORMAT!r}); name another folder')
    if body.get("schema") != SCHEMA:
        raise StoreError(f"{path}: schema {body.get('schema')!r}, but this version of polyprag reads {SCHEMA} only")
    digest = body.pop("sha256", None)
    if digest != digest_of(body):
        raise damaged(path, "its content is not what was written (sha256 differs)")
    return Manifest(
        base_name=body["base"]["name"],
        base_fingerprint=body["base"]["fingerprint"],
        passages=body["passages"],
        corpus=CorpusFacts(**body["corpus"]) if "corpus" in body else None,
        group_names=tuple(body["group_names"]),
        experts=body["experts"],
        tensors=body["tensors"],
        training=body["training"],
        files={name: FileEntry(entry["bytes"], entry["sha256"]) for name, entry in body["files"].items()},
        digest=digest,
    )


def digest_of(body: Mapping[str, Any]) -> str:
    """sha256 of a manifest without its own checksum, whatever its spacing and order."""
    as_read = json.loads(json.dumps(body))  # JSON turns tuples into lists and number keys into strings
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def read_text(path: Path) -> str:
    """The content of a file of the store.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise damaged(path, f"it cannot be read ({error})") from error


def damaged(path: Path, reason: str) -> StoreError:
    """What to raise where a file of the store is not as it was written."""
    return StoreError(f"{path}: the store is damaged here: {reason}; restore the file or write the store again")
