"""JSON lines as users write them: one checked object a line, and errors that say where, what and what to do."""

from __future__ import annotations

import gzip
import json
import reprlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polyprag.errors import DataError

_GZIP = b"\x1f\x8b"
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


@dataclass(frozen=True)
class Row:
    """One JSON object and the place it came from; reading a value checks it.

    Attributes:
        place: `file:line`, and the key and index of an object inside another one.
        values: the object as parsed.
    """

    place: str
    values: dict[str, object]

    def error(self, complaint: str) -> DataError:
        """The error that tells this row's place before the complaint."""
        return DataError(f"{self.place}: {complaint}")

    def text(self, key: str) -> str:
        """A text that must be there and not be blank, without the white space around it.

        Raises:
            DataError: the key is missing, or its value is no string, blank, or not valid text.
        """
        if key not in self.values:
            raise self.error(f'"{key}" is missing; it must be given in every such object')
        return self._checked(f'"{key}"', self.values[key])

    def optional_text(self, key: str) -> str:
        """A text that may be absent, null or blank, all of which give an empty string.

        Raises:
            DataError: the value is no string or not valid text.
        """
        value = self.values.get(key)
        return (
            "" if value is None or (isinstance(value, str) and not value.strip()) else self._checked(f'"{key}"', value)
        )

    def identifier(self, key: str) -> str:
        """An optional id: a text or a whole number, which stands for its digits; empty when absent.

        Raises:
            DataError: the value is neither.
        """
        value = self.values.get(key)
        return str(value) if _is_whole(value) else self.optional_text(key)

    def identifiers(self, key: str) -> tuple[str, ...]:
        """A list of ids without repeats, as in `identifier`; empty when absent or null.

        Raises:
            DataError: the value is no list, or one of its items is no id.
        """
        ids = (str(item) if _is_whole(item) else item for item in self._list(key))
        return tuple(dict.fromkeys(self._checked(f'"{key}"[{index}]', item) for index, item in enumerate(ids)))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts without repeats; empty when absent or null.

        Raises:
            DataError: the value is no list, or one of its items is no string, blank, or not valid text.
        """
        items = enumerate(self._list(key))
        return tuple(dict.fromkeys(self._checked(f'"{key}"[{index}]', item) for index, item in items))

    def objects(self, key: str) -> list[Row]:
        """A list of objects; empty when absent or null.

        Raises:
            DataError: the value is no list, or one of its items is no object.
        """
        rows = []
        for index, item in enumerate(self._list(key)):
            if not isinstance(item, dict):
                raise self.error(f'"{key}"[{index}] must be an object, not {_SHORT.repr(item)}')
            rows.append(Row(f'{self.place}: "{key}"[{index}]', item))
        return rows

    def flag(self, key: str) -> bool:
        """A true or false; false when absent or null.

        Raises:
            DataError: the value is something else.
        """
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(f'"{key}" must be true or false, not {_SHORT.repr(value)}')
        return bool(value)

    def _list(self, key: str) -> list[object]:
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(f'"{key}" must be a list, not {_SHORT.repr(value)}; put it in square brackets')
        return value

    def _checked(self, what: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.error(f"{what} must be a string, not {_SHORT.repr(value)}; put it in double quotes")
        if not value.strip():
            raise self.error(f"{what} is blank; fill it in or remove the row")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise self.error(f"{what} holds a NUL or half a surrogate pair: {_SHORT.repr(value)}; remove it")
        return value.strip()


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def read_rows(path: Path) -> Iterator[Row]:
    """Read JSON lines one by one, gzip-compressed or not; blank lines and a UTF-8 byte-order mark are skipped.

    Args:
        path: the file; named pipes work too.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or a line is no JSON object.
    """
    for number, line in enumerate(_lines(path), start=1):
        place = f"{path}:{number}"
        text = _decode(line.removeprefix(_UTF8_BOM) if number == 1 else line, place).rstrip()
        if text:
            yield Row(place, _parse(text, place))


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as raw:
            yield from gzip.GzipFile(fileobj=raw) if raw.peek(2).startswith(_GZIP) else raw
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path, which counts from the current folder") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; name the file of JSON lines inside it") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the file, or copy it again") from error


def _decode(line: bytes, place: str) -> str:
    if line.startswith(_UTF16_BOMS) or b"\0" in line:
        raise DataError(f"{place}: holds UTF-16 or NUL bytes; save the file as UTF-8")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        byte, column = line[error.start], error.start + 1
        raise DataError(f"{place}: byte {byte:#04x} in column {column} is not UTF-8; save the file as UTF-8") from error


def _parse(text: str, place: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        complaint = f"broken JSON in column {error.colno} ({error.msg})"
        raise DataError(f"{place}: {complaint}; every line must be one complete JSON object") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: a number is too long or brackets nest too deep; simplify this line") from error
    if not isinstance(value, dict):
        raise DataError(f"{place}: {_SHORT.repr(value)} is not a JSON object; write one {{...}} a line")
    return value
