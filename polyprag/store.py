"""The knowledge store: the folder that training leaves and inference opens.

Tensors carry shape suffixes: N passages, G routed groups, K experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from polyprag.errors import DataError, StoreError
from polyprag.experts.fingerprints import same_weights
from polyprag.files import (
    current_folder,
    replace_folder,
    sha256_of,
    write_json,
    write_tensors,
    write_text,
)
from polyprag.manifest import FORMAT, MANIFEST, SCHEMA, Manifest, damaged, digest_of, read_manifest, read_text
from polyprag.passages import StoredPassages, write_passages
from polyprag.records import Passage

CONFIG, POOL, ROWS, PASSAGES, LOOKUP, INDEX = (
    "config.yaml",
    "pool.safetensors",
    "rows.safetensors",
    "passages.jsonl",
    "lookup",
    "index",
)
_OLD_INDEX = "bm25"
"""The index's name in stores written before there was a choice of backends."""
_ROWS_KEY = "rows_NGK"
_PARTS = {POOL: "pool", ROWS: "rows", PASSAGES: "passages", LOOKUP: "lookup", INDEX: "index", _OLD_INDEX: "index"}


class Index(Protocol):
    """A retrieval index over the passages, such as `polyprag.retrieval.retriever.Retriever`."""

    def save(self, folder: Path) -> None:
        """Write the index into a folder of its own, without pickle."""

    def __len__(self) -> int:
        """Number of passages."""


@dataclass(frozen=True)
class Store:
    """An opened store.

    Attributes:
        folder: where it is.
        manifest: what it says of itself.
        config_yaml: the configuration that it was trained with.
        passages: the corpus, in the order of the task rows, read from disk one by one.
        rows_NGK: the task router's logits, mapped from disk: index the rows that are wanted, then convert them.
    """

    folder: Path
    manifest: Manifest
    config_yaml: str
    passages: StoredPassages
    rows_NGK: Tensor

    def pool(self) -> dict[str, Tensor]:
        """Load the pool's tensors by name.

        Raises:
            StoreError: the file cannot be read.
        """
        return _load_tensors(self.folder / POOL)

    @property
    def index_folder(self) -> Path:
        """Where the retrieval index is; `polyprag.retrieval.backends.open_retriever` opens it."""
        old = self.folder / _OLD_INDEX
        return old if old.exists() else self.folder / INDEX

    @property
    def bytes_on_disk(self) -> dict[str, int]:
        """Bytes by part: pool, rows, passages, lookup, index, and other (configuration and manifest)."""
        sizes = dict.fromkeys((*_PARTS.values(), "other"), 0)
        for name, entry in self.manifest.files.items():
            sizes[_PARTS.get(PurePosixPath(name).parts[0], "other")] += entry.bytes
        sizes["other"] += (self.folder / MANIFEST).stat().st_size
        return sizes

    @property
    def bytes_per_passage(self) -> float:
        """All bytes of the store over the number of passages."""
        return sum(self.bytes_on_disk.values()) / self.manifest.passages


def write_store(
    folder: Path | str,
    *,
    config_yaml: str,
    base_name: str,
    base_fingerprint: str,
    pool: Mapping[str, Tensor],
    rows_NGK: Tensor,
    group_names: Sequence[str],
    passages: Sequence[Passage],
    retriever: Index,
    training: Mapping[str, Any],
) -> None:
    """Write a store; an older one in its place stays whole until the new one is, manifest last.

    Args:
        folder: the store's folder.
        config_yaml: the resolved configuration.
        base_name: name of the base model, for messages.
        base_fingerprint: fingerprint of the base model; another one is refused when opening.
        pool: the experts' tensors by name.
        rows_NGK: the task router's logits, one row per passage.
        group_names: names of the G routed groups.
        passages: the N passages, in the order of the rows; at least one.
        retriever: the index over them.
        training: facts about the training, JSON values only.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    n_passages, n_groups, _ = rows_NGK.shape
    assert len(passages) == len(retriever) == n_passages > 0, "rows, passages and index belong together"
    assert len(group_names) == n_groups, "every routed group has a name"
    tensors = {POOL: dict(pool), ROWS: {_ROWS_KEY: rows_NGK}}
    with replace_folder(folder) as new:
        write_text(new / CONFIG, config_yaml)
        for file, content in tensors.items():
            write_tensors(new / file, content, {"format": "pt"})
        (new / LOOKUP).mkdir()
        corpus = write_passages(new / PASSAGES, new / LOOKUP, passages)
        retriever.save(new / INDEX)
        base = {"name": base_name, "fingerprint": base_fingerprint}
        body = _manifest_body(new, base, asdict(corpus), group_names, tensors, training)
        write_json(new / MANIFEST, {**body, "sha256": digest_of(body)})


def _manifest_body(
    new: Path,
    base: Mapping[str, str],
    corpus: Mapping[str, Any],
    group_names: Sequence[str],
    tensors: Mapping[str, Mapping[str, Tensor]],
    training: Mapping[str, Any],
) -> dict[str, Any]:
    """What the manifest says of a folder in which every other file is written, but for its own checksum."""
    passages, _, experts = tensors[ROWS][_ROWS_KEY].shape
    shapes = {file: {name: list(tensor.shape) for name, tensor in content.items()} for file, content in tensors.items()}
    files = {
        name: {"bytes": (new / name).stat().st_size, "sha256": sha256_of(new / name)} for name in sorted(_names_in(new))
    }
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "base": dict(base),
        "passages": passages,
        "corpus": dict(corpus),
        "group_names": list(group_names),
        "experts": experts,
        "tensors": shapes,
        "training": dict(training),
        "files": files,
    }


def open_store(folder: Path | str, base_fingerprint: str | None = None, base_name: str = "") -> Store:
    """Open a store after checking its manifest, the size of every file and the tensors' headers; nothing is hashed.

    Args:
        folder: the store's folder.
        base_fingerprint: fingerprint of the base model at hand; None leaves the model unchecked.
        base_name: name of that model, for the message if it is another one.

    Raises:
        StoreError: this is no store, a store of another version or base model, or a file is missing or damaged.
    """
    folder = current_folder(folder)
    manifest = read_manifest(folder)
    if base_fingerprint is not None and not same_weights(manifest.base_fingerprint, base_fingerprint):
        raise StoreError(
            f"{folder}: belongs to base model {manifest.base_name} (fingerprint {manifest.base_fingerprint}), not to "
            f"{base_name or 'the one at hand'} ({base_fingerprint}); set base.model to the former, or train a new store"
        )
    for name, entry in manifest.files.items():
        _check_size(folder / name, entry.bytes)
    for name, shapes in manifest.tensors.items():
        _check_header(folder / name, shapes)
    rows_NGK = _load_tensors(folder / ROWS)[_ROWS_KEY]
    return Store(folder, manifest, read_text(folder / CONFIG), _open_passages(folder, manifest), rows_NGK)


def store_digest(folder: Path | str) -> str:
    """The digest that a store's manifest states, without a look at its files; empty where there is none to read."""
    try:
        return read_manifest(current_folder(folder)).digest
    except StoreError:
        return ""


def verify_store(folder: Path | str) -> None:
    """Check every byte of a store: all that `open_store` checks, the sha256 of every file, and that no file is extra.

    Raises:
        StoreError: the first thing that is wrong.
    """
    folder = current_folder(folder)
    files = open_store(folder).manifest.files
    for name, entry in files.items():
        if sha256_of(folder / name) != entry.sha256:
            raise damaged(folder / name, "its content is not what was written (sha256 differs)")
    extra = sorted(set(_names_in(folder)) - files.keys() - {MANIFEST})
    if extra:
        raise StoreError(f"{folder / extra[0]}: does not belong to this store; move it away")


def is_sound(folder: Path | str) -> bool:
    """Whether there is a store that passes `verify_store`."""
    try:
        verify_store(folder)
    except StoreError:
        return False
    return True


def _check_size(path: Path, expected: int) -> None:
    if not path.is_file():
        raise damaged(path, "it is missing")
    actual = path.stat().st_size
    if actual != expected:
        raise damaged(path, f"it is {'truncated' if actual < expected else 'longer'}: {actual} bytes, not {expected}")


def _check_header(path: Path, shapes: Mapping[str, list[int]]) -> None:
    try:
        with safe_open(path, "pt") as handle:
            found = {name: list(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise damaged(path, f"its header cannot be read ({error})") from error
    if found != shapes:
        raise damaged(path, "its header names other tensors or shapes than the manifest")


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise damaged(path, f"it cannot be read ({error})") from error


def _open_passages(folder: Path, manifest: Manifest) -> StoredPassages:
    lookup = folder / LOOKUP
    try:
        passages = StoredPassages(folder / PASSAGES, lookup if lookup.is_dir() else None, manifest.corpus)
    except (DataError, OSError, ValueError) as error:
        raise damaged(folder / PASSAGES, f"it cannot be read ({error})") from error
    if len(passages) != manifest.passages:
        raise damaged(folder / PASSAGES, f"it holds {len(passages)} passages, not {manifest.passages}")
    return passages


def _names_in(folder: Path) -> Iterator[str]:
    """Paths of all files within a folder, with forward slashes."""
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
