"""What every retrieval backend can do, and the file by which an index tells its backend."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from polyprag.config import RetrievalBackend
from polyprag.errors import ConfigError, StoreError
from polyprag.files import current_folder, write_json
from polyprag.records import Passage

DESCRIPTION = "retriever.json"
"""The file in an index's folder that names its backend."""


@dataclass(frozen=True)
class Hit:
    """A retrieved passage.

    Attributes:
        position: index of the passage in the corpus.
        score: the backend's score, above 0.
    """

    position: int
    score: float


class Retriever(Protocol):
    """An index over the passages of a corpus, whichever backend holds it."""

    @property
    def sharpness(self) -> float:
        """What turns a score into log odds: the softmax of sharpness times score says how sure a retrieval is."""

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the saved index, wherever it lies."""

    def search(self, queries: Sequence[str], n: int) -> list[list[Hit]]:
        """Find the best passages for each query.

        Args:
            queries: questions or keywords.
            n: most hits per query, 0 or more.

        Returns:
            For each query its hits by falling score, ties by position; what scores 0 or less is no hit, so there may be
            fewer than n.

        Raises:
            RetrievalError: the backend cannot be reached.
        """

    def save(self, folder: Path | str) -> None:
        """Write what `polyprag.retrieval.backends.open_retriever` needs, without pickle; replaces the folder."""

    def __len__(self) -> int:
        """Number of passages."""


def searched_text(passage: Passage, titles: bool) -> str:
    """A passage as an index reads it: the title, if wanted, stands before the text."""
    return f"{passage.title}\n{passage.text}" if titles else passage.text


def write_description(folder: Path, backend: RetrievalBackend, facts: Mapping[str, Any]) -> None:
    """Note in an index's folder which backend opens it, and what else that needs to know."""
    write_json(folder / DESCRIPTION, {"backend": backend.value, **facts})


def read_description(folder: Path | str) -> dict[str, Any]:
    """The description of a saved index; `backend` is a `RetrievalBackend`, bm25 where there is no file.

    Raises:
        StoreError: it cannot be read, or names no backend of this version.
    """
    path = current_folder(folder) / DESCRIPTION
    if not path.exists():
        return {"backend": RetrievalBackend.BM25}  # as stores were written before there was a choice
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {**facts, "backend": RetrievalBackend(facts["backend"])}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path}: names no retrieval backend ({error}); build the index again") from error


def optional_package(name: str, package: str, backend: RetrievalBackend) -> Any:
    """Import a package that only one backend needs.

    Args:
        name: what is imported.
        package: what is installed.
        backend: what needs it.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"retrieval.backend is {backend}, which needs {package} ({error}): pip install {package}, or set "
            "retrieval.backend=bm25"
        ) from None


def bytes_in(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def bytes_when_saved(retriever: Retriever) -> int:
    """Bytes that an index in memory takes on disk, by saving it for a moment."""
    with TemporaryDirectory() as scratch:
        retriever.save(Path(scratch) / "index")
        return bytes_in(Path(scratch))
