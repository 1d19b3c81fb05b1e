"""A passage collection too large to hold: indexed once, in a stream, into a folder that later runs map into memory."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from polyprag.config import DataConfig
from polyprag.errors import ConfigError, DataError, StoreError
from polyprag.files import cache_folder, current_folder, replace_folder, write_json
from polyprag.knowledge.corpus import passage_of
from polyprag.knowledge.ingestion import HUB, read_passages
from polyprag.knowledge.rows import BadRows
from polyprag.passages import OFFSETS, StoredPassages
from polyprag.records import Passage
from polyprag.retrieval.bm25 import BM25Retriever

FORMAT, SCHEMA = "polyprag-collection", 1
MANIFEST, PASSAGES, INDEX = "manifest.json", "passages.jsonl", "index"
_SHOWN_EVERY = 1000

logger = logging.getLogger(__name__)


def retrieve_from_collection(data: DataConfig, queries: Sequence[str], n: int) -> list[list[Passage]]:
    """The n best passages of `data.collection` for each query by BM25 over titles and texts.

    Args:
        data: names the collection, the folder of its index, and how its passages are read.
        queries: questions.
        n: most passages per query.

    Raises:
        ConfigError: `data.collection_index` holds something else.
        DataError: the collection or its index cannot be used.
    """
    return open_collection(data).retrieve(queries, n)


@final
class PassageCollection:
    """An indexed collection, mapped from disk.

    Args:
        folder: as `open_collection` leaves it.

    Raises:
        DataError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._retriever = BM25Retriever.open(folder / INDEX)
            self._passages = StoredPassages(folder / PASSAGES, folder)
        except (StoreError, DataError, OSError, ValueError) as error:
            raise DataError(f"{folder}: damaged ({error}); delete this folder to have it made again") from error
        if len(self._passages) != len(self):
            raise DataError(f"{folder}: damaged (passages and index differ); delete this folder to have it made again")

    def __len__(self) -> int:
        """Number of passages."""
        return len(self._retriever)

    def retrieve(self, queries: Sequence[str], n: int) -> list[list[Passage]]:
        """The n best passages for each query, best first; fewer where fewer share a word with it."""
        found = self._retriever.search(queries, n)
        return [[self._passages[hit.position] for hit in hits] for hits in found]


def open_collection(data: DataConfig) -> PassageCollection:
    """Open the index of `data.collection`; make it where it is missing or the collection has changed since.

    Processes that want the same index at once wait for the first to make it.

    Raises:
        ConfigError: `data.collection_index` holds something else.
        DataError: the collection or its index cannot be used.
    """
    source = _source_of(data)
    folder = Path(data.collection_index) if data.collection_index else _default_folder(data)
    if not _is_current(folder, source):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.absolute().parent / f".{folder.name}.lock"):
            if not _is_current(folder, source):
                _build(data, folder, source)
    return PassageCollection(current_folder(folder))


def _build(data: DataConfig, folder: Path, source: dict[str, Any]) -> None:
    """Read the collection once, writing its passages down and indexing them as they come."""
    bad = BadRows(data.on_bad_row)
    with _progress() as progress, replace_folder(folder) as new:
        offsets = array("q", [0])
        with open(new / PASSAGES, "wb") as file:
            passages = _written(_passages(data, bad), file, offsets, progress)
            BM25Retriever.build_into(new / INDEX, passages)
        np.save(new / OFFSETS, np.frombuffer(offsets, np.int64), allow_pickle=False)
        facts = {"passages": len(offsets) - 1, "left_out": dict(bad.counts), "source": source}
        write_json(new / MANIFEST, {"format": FORMAT, "schema": SCHEMA, **facts})
    logger.info("%s: %d passages indexed in %s", data.collection, len(offsets) - 1, folder)


def _passages(data: DataConfig, bad: BadRows) -> Iterator[Passage]:
    """The collection's passages, of which there is at least one."""
    rows = read_passages(data.collection, data, bad)

    def usable() -> Iterator[Passage]:
        """The passages of all rows that are passages; the others are counted."""
        for row in rows:
            passage = None
            with bad.tolerated():
                passage = passage_of(row)
            if passage is not None:
                yield passage

    passages = usable()
    first = next(passages, None)
    if first is None:
        raise DataError(f"{data.collection}: holds no passages that can be used; name another data.collection")
    return itertools.chain([first], passages)


def _written(
    passages: Iterable[Passage], file: IO[bytes], offsets: array[int], progress: Progress
) -> Iterator[Passage]:
    """Write passages as JSON lines as they pass by, and note where each ends."""
    task = progress.add_task("indexing", total=None)
    for count, passage in enumerate(passages, start=1):
        offsets.append(offsets[-1] + file.write(f"{json.dumps(vars(passage), ensure_ascii=False)}\n".encode()))
        if count % _SHOWN_EVERY == 0:
            progress.update(task, completed=count)
        yield passage
    progress.update(task, completed=len(offsets) - 1, description="writing the index")


@contextmanager
def _progress() -> Iterator[Progress]:
    """A count of passages on standard error; how many there will be is not known."""
    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:,} passages"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def _is_current(folder: Path, source: dict[str, Any]) -> bool:
    """Whether a folder holds the index of the collection as it is now.

    Raises:
        ConfigError: the folder holds something else, which must not be overwritten.
    """
    current = current_folder(folder)
    if not current.exists() or (current.is_dir() and not any(current.iterdir())):
        return False
    try:
        manifest = json.loads((current / MANIFEST).read_text(encoding="utf-8"))
        known = manifest["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ConfigError(
            f"data.collection_index is {str(folder)!r}, which holds something else than the index of a collection; "
            "name a new folder"
        )
    if manifest.get("schema") == SCHEMA and manifest.get("source") == source:
        return True
    logger.warning("%s: is the index of another state of the collection, or of another reading; made again", folder)
    return False


def _source_of(data: DataConfig) -> dict[str, Any]:
    """What the index depends on: how the collection is read, and names, sizes and times of its files.

    Raises:
        DataError: there is no such file.
    """
    digest, total, path = hashlib.sha256(), 0, Path(data.collection.removeprefix(HUB))
    if path.exists():
        for file in [path] if path.is_file() else sorted(own for own in path.rglob("*") if own.is_file()):
            state = file.stat()
            total += state.st_size
            digest.update(f"{file.relative_to(path)} {state.st_size} {state.st_mtime_ns}\n".encode())
    elif not data.collection.startswith(HUB):
        raise DataError(f"{path}: no such file; check data.collection, which counts from the current folder")
    return {"files": digest.hexdigest(), "bytes": total, "reading": _reading(data)}


def _reading(data: DataConfig) -> dict[str, Any]:
    """The keys by which passages are read."""
    names = ("subset", "split", "text_column", "title_column", "id_column", "on_bad_row")
    return {**{name: str(getattr(data, name)) for name in names}, "splitting": dataclasses.asdict(data.splitting)}


def _default_folder(data: DataConfig) -> Path:
    """Where the index of a collection lies beside the cached models, one for each way of reading it."""
    place = data.collection if data.collection.startswith(HUB) else str(Path(data.collection).resolve())
    digest = hashlib.sha256(json.dumps([place, _reading(data)]).encode()).hexdigest()
    return cache_folder() / "collections" / f"{Path(place).stem}-{digest[:16]}"
