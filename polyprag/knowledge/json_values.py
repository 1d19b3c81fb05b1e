"""A file of JSON values, which may be one list of any size, value by value, so that its size does not matter."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import final

from polyprag.errors import DataError
from polyprag.knowledge.lines import LONGEST_LINE, open_bytes

_PIECE = 2**20
_SPACE = " \t\r\n"
_IN_NUMBERS = frozenset("0123456789+-.eE")  # where a piece ends in a number, the number may go on


def read_values(path: Path) -> Iterator[object]:
    """The items of a JSON list, or the values that stand one after another; only a few of them are in memory at once.

    Args:
        path: a file in UTF-8, plain or gzip-compressed.

    Raises:
        DataError: the file cannot be read, or is broken at some value.
    """
    with open_bytes(path) as file:
        text = _Text(path, iter(lambda: file.read(_PIECE), b""))
        if text.sign() == "[":
            yield from _items(text)
        else:
            while text.sign():
                yield text.value()


def _items(text: _Text) -> Iterator[object]:
    text.pass_over()
    sign = text.sign()
    while sign != "]":
        yield text.value()
        sign = text.sign()
        if sign not in {",", "]"}:
            raise text.error("broken JSON: neither a comma nor the end of the list; copy the file again")
        if sign == ",":
            text.pass_over()
    text.pass_over()
    if text.sign():
        raise text.error("something stands after the end of the list; copy the file again")


@final
class _Text:
    """The part of a file that is in memory, and the place reached in it."""

    def __init__(self, path: Path, pieces: Iterator[bytes]) -> None:
        self._path = path
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text, self._at, self._ended, self._values = "", 0, False, 0

    def sign(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read()

    def pass_over(self) -> None:
        """Go on behind the sign."""
        self._at += 1

    def value(self) -> object:
        """The JSON value that begins at the place reached, which is then behind it."""
        self.sign()
        while True:
            reason = "a value too long"
            try:
                value, end = self._json.raw_decode(self._text, self._at)
                if self._ended or (end < len(self._text) and self._text[end] not in _IN_NUMBERS):
                    self._at, self._values = end, self._values + 1
                    return value
            except json.JSONDecodeError as error:
                reason = error.msg
            except (ValueError, RecursionError):
                reason = "a number or nesting too long"
            if self._ended or len(self._text) - self._at > LONGEST_LINE:
                raise self.error(f"broken JSON ({reason}); copy the file again")
            self._read()

    def error(self, complaint: str) -> DataError:
        """The error that tells the number of the value, from 0, before the complaint."""
        return DataError(f"{self._path}: [{self._values}]: {complaint}")

    def _read(self) -> None:
        piece = next(self._pieces, b"")
        self._ended = not piece
        try:
            new = self._decoder.decode(piece, final=self._ended)
        except UnicodeDecodeError as error:
            raise self.error(f"byte {error.object[error.start]:#04x} is not UTF-8; save the file as UTF-8") from error
        self._text, self._at = self._text[self._at :] + new, 0
