"""The only module that writes files: after a kill, a full disk or a power cut a file is old or new, never half."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from polyprag.errors import DataError

_BLOCK = 1 << 16


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file atomically; its folder is made where it is missing.

    Raises:
        OSError: the disk is full or the folder cannot be written; an older file is still whole then.
    """
    with _replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file atomically; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, content: object) -> None:
    """Write indented JSON atomically; see `write_bytes`.

    Raises:
        ValueError: the content holds NaN or an infinity, which JSON does not know.
        OSError: see `write_bytes`.
    """
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines atomically, row by row; see `write_json`."""
    with _replacing(Path(path)) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; see `write_bytes`.

    Args:
        path: the file.
        tensors: by name, of any shape and device; no two of them may share memory.
        metadata: text pairs that go into the file's header.

    Raises:
        OSError: see `write_bytes`.
    """
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with _replacing(Path(path)) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(contiguous, temporary, dict(metadata))
        except SafetensorError as error:
            raise _os_error_in(error, path) from None
        temporary.chmod(mode)  # safetensors makes files that only their owner can read


def append_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a file of JSON lines with one write, and see them onto the disk.

    A torn last line, left by a kill in an earlier call, is cut off first.

    Raises:
        ValueError: a row holds NaN or an infinity, which JSON does not know; nothing is written.
        OSError: the disk is full or the file cannot be written.
    """
    lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with open(path, "a+b", buffering=0) as handle:
        _cut_torn_line(handle.fileno())
        while lines:
            lines = lines[handle.write(lines) :]
        os.fsync(handle.fileno())
    if is_new:
        _sync_folder(path.parent)


def read_jsonl_tolerant(path: Path | str) -> list[dict[str, Any]]:
    """Read what `append_jsonl` wrote; a last line without its line break is dropped, as a kill left it.

    Returns:
        The rows; none where there is no file.

    Raises:
        DataError: a complete line is no JSON object.
    """
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            if line.endswith(b"\n"):
                rows.append(_object_of(line, f"{path}:{number}"))
    return rows


def map_array(path: Path | str) -> np.ndarray[Any, Any]:
    """Map a `.npy` file into memory, to be read where it is indexed.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (EOFError, SyntaxError, TokenError) as error:  # what numpy lets through of a header that is no header
        raise ValueError(f"{path}: not an array ({error})") from error


def cache_folder() -> Path:
    """Where what all runs share is kept: POLYPRAG_CACHE, or polyprag/ in the user's cache folder."""
    base = os.environ.get("POLYPRAG_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polyprag"


def sha256_of(path: Path | str) -> str:
    """The sha256 of a file's bytes (hex, 64 characters)."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def replace_folder(path: Path | str) -> Iterator[Path]:
    """Write a folder as a whole: yields an empty sibling, which takes the place of `path` if all went well.

    The old folder is removed only after that; if the body raises, the new one is removed and the old one stays. What
    a kill left beside it is cleared away by the next call. One process at a time may replace a folder, and readers
    find the current one with `current_folder`, since a kill between two renames leaves it under its interim name.
    """
    path = Path(path)
    new, old = _interim(path, "new"), _interim(path, "old")
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(path)
    new.mkdir()
    try:
        yield new
        _sync_tree(new)
        if path.exists():
            os.rename(path, old)
        os.rename(new, path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise
    _sync_folder(path.parent)
    if old.exists():
        shutil.rmtree(old)


def current_folder(path: Path | str) -> Path:
    """The folder to read where `replace_folder` writes: `path`, or the old one if a kill came between the renames."""
    path, old = Path(path), _interim(Path(path), "old")
    return old if old.exists() and not path.exists() else path


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file in the same folder, which replaces `path` once it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        _sync_file(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _os_error_in(error: SafetensorError, path: Path | str) -> Exception:
    """What the system said to safetensors, which tells it by number in its text alone; else the error itself."""
    found = re.search(r"os error (\d+)", str(error))
    if found is None:
        return error
    number = int(found[1])
    return OSError(number, os.strerror(number), str(path))


def _interim(path: Path, role: str) -> Path:
    """The name of a folder that is being written (new) or about to be removed (old)."""
    absolute = path.absolute()
    return absolute.parent / f".{absolute.name}.{role}"


def _clear_leftovers(path: Path) -> None:
    """Undo what a killed `replace_folder` left behind."""
    new, old = _interim(path, "new"), _interim(path, "old")
    if old.exists() and not path.exists():
        os.rename(old, path)
    for leftover in (new, old):
        if leftover.exists():
            shutil.rmtree(leftover)


def _sync_file(path: Path) -> None:
    with open(path, "r+b") as handle:
        os.fsync(handle.fileno())


def _sync_folder(path: Path) -> None:
    """See a folder's list of names onto the disk; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync_folder(path)
        else:
            _sync_file(path)
    _sync_folder(folder)


def _cut_torn_line(descriptor: int) -> None:
    """Cut a file open for reading and writing after its last line break."""
    size = end = os.lseek(descriptor, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        os.lseek(descriptor, start, os.SEEK_SET)
        at = os.read(descriptor, end - start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)


def _object_of(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error}); delete this line and run again") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: not a JSON object; delete this line and run again")
    return row
