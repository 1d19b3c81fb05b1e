"""Files as bytes, plain or gzip-compressed: line by line or whole, and never more in memory than a limit."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from polyprag.errors import DataError
from polyprag.knowledge.bad_rows import RowError

LONGEST_LINE = 64 * 2**20
"""Bytes of a line, its break included; of a longer one no more than that is held."""

_UTF8_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_PIECE = 2**20


@contextmanager
def open_bytes(path: Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """A file as it was before compression; named pipes work too.

    Raises:
        DataError: the file does not exist, is a folder, is damaged, or cannot be read.
    """
    try:
        with open(path, "rb") as raw:
            yield gzip.GzipFile(fileobj=raw) if raw.peek(2).startswith(_GZIP) else raw
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path, which counts from the current folder") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; name the file inside it") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the file, or copy it again") from error


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file with their breaks, without a UTF-8 byte-order mark.

    Of a line longer than `LONGEST_LINE` its first `LONGEST_LINE + 1` bytes are given, and the rest is passed over.

    Raises:
        DataError: as `open_bytes`.
    """
    with open_bytes(path) as file:
        line = file.readline(LONGEST_LINE + 1).removeprefix(_UTF8_BOM)
        while line:
            yield line
            rest = line if len(line) > LONGEST_LINE else b""
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(_PIECE)
            line = file.readline(LONGEST_LINE + 1)


def read_whole(path: Path, most: int) -> bytes:
    """The content of a file without a UTF-8 byte-order mark.

    Args:
        path: the file.
        most: bytes that it may hold, after decompression.

    Raises:
        DataError: as `open_bytes`.
        RowError: the file holds more.
    """
    content = bytearray()
    with open_bytes(path) as file:
        while piece := file.read(_PIECE):
            content += piece
            if len(content) > most:
                complaint = f"holds more than {most >> 20} MiB in one piece; cut it into several files"
                raise RowError(f"{path}: {complaint}", "file too large")
    return bytes(content.removeprefix(_UTF8_BOM))


def decode(line: bytes, place: str) -> str:
    """A line as text.

    Raises:
        RowError: it is longer than `LONGEST_LINE`, or not UTF-8, or holds NUL.
    """
    if len(line) > LONGEST_LINE:
        limit = f"{LONGEST_LINE >> 20} MiB"
        raise RowError(f"{place}: the line is longer than {limit}; break it up or remove it", "line too long")
    if line.startswith(_UTF16_BOMS) or b"\0" in line:
        raise RowError(f"{place}: holds UTF-16 or NUL bytes; save the file as UTF-8", "UTF-16 or NUL bytes")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte, column = line[error.start], error.start + 1
        complaint = f"byte {byte:#04x} in column {column} is not UTF-8; save the file as UTF-8"
        raise RowError(f"{place}: {complaint}", "not UTF-8") from error


def read_document(path: Path, most: int) -> str:
    """The content of a text file, line breaks as they are.

    Args:
        path: the file.
        most: bytes that it may hold, after decompression.

    Raises:
        DataError: as `read_whole`.
        RowError: the file holds more, or a line is not UTF-8 or holds NUL.
    """
    lines = read_whole(path, most).splitlines(keepends=True)
    return "".join(decode(line, f"{path}:{number}") for number, line in enumerate(lines, start=1))
