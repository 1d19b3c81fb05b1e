"""Rows as users write them: one checked object a line, and errors that say where, what and what to do."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polyprag.errors import DataError
from polyprag.knowledge.bad_rows import BadRows, RowError
from polyprag.knowledge.lines import decode, read_lines, read_whole

__all__ = ["BadRows", "Row", "RowError", "read_rows"]

LARGEST_LIST = 512 * 2**20
"""Bytes of a file that holds one list of objects; JSON lines have no such limit."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_UNUSABLE = re.compile("[\\0\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    """One JSON object and the place it came from; reading a value checks it.

    Attributes:
        place: `file:line`, and the key and index of an object inside another one.
        values: the object as parsed.
    """

    place: str
    values: dict[str, object]

    def error(self, complaint: str, reason: str = "malformed row") -> RowError:
        """The error that tells this row's place before the complaint, and is counted by the reason."""
        return RowError(f"{self.place}: {complaint}", reason)

    def text(self, key: str) -> str:
        """A text that must be there and not be blank, without the white space around it.

        Raises:
            DataError: the key is missing, or its value is no string, blank, or not valid text.
        """
        if key not in self.values:
            raise self.error(f'"{key}" is missing; it must be given in every such object', f"{key} missing")
        return self._checked(key, self.values[key])

    def optional_text(self, key: str) -> str:
        """A text that may be absent, null or blank, all of which give an empty string.

        Raises:
            DataError: the value is no string or not valid text.
        """
        value = self.values.get(key)
        return "" if value is None or (isinstance(value, str) and not value.strip()) else self._checked(key, value)

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
        return tuple(dict.fromkeys(self._checked(key, item, index) for index, item in enumerate(ids)))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts without repeats; empty when absent or null.

        Raises:
            DataError: the value is no list, or one of its items is no string, blank, or not valid text.
        """
        items = enumerate(self._list(key))
        return tuple(dict.fromkeys(self._checked(key, item, index) for index, item in items))

    def objects(self, key: str) -> list[Row]:
        """A list of objects; empty when absent or null.

        Raises:
            DataError: the value is no list, or one of its items is no object.
        """
        rows = []
        for index, item in enumerate(self._list(key)):
            if not isinstance(item, dict):
                raise self.error(f'"{key}"[{index}] must be an object, not {_SHORT.repr(item)}', _wrong_type(key))
            rows.append(Row(f'{self.place}: "{key}"[{index}]', item))
        return rows

    def flag(self, key: str) -> bool:
        """A true or false; false when absent or null.

        Raises:
            DataError: the value is something else.
        """
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(f'"{key}" must be true or false, not {_SHORT.repr(value)}', _wrong_type(key))
        return bool(value)

    def _list(self, key: str) -> list[object]:
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            complaint = f'"{key}" must be a list, not {_SHORT.repr(value)}; put it in square brackets'
            raise self.error(complaint, _wrong_type(key))
        return value

    def _checked(self, key: str, value: object, index: int | None = None) -> str:
        what = f'"{key}"' if index is None else f'"{key}"[{index}]'
        if not isinstance(value, str):
            complaint = f"{what} must be a string, not {_SHORT.repr(value)}; put it in double quotes"
            raise self.error(complaint, _wrong_type(key))
        if not value.strip():
            raise self.error(f"{what} is blank; fill it in or remove the row", f"{key} blank")
        if _UNUSABLE.search(value):
            complaint = f"{what} holds a NUL or half a surrogate pair: {_SHORT.repr(value)}; remove it"
            raise self.error(complaint, "NUL or half a surrogate pair")
        return value.strip()


def _wrong_type(key: str) -> str:
    return f"{key} of the wrong type"


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def read_rows(path: Path, bad: BadRows | None = None) -> Iterator[Row]:
    """Read JSON lines one by one, gzip-compressed or not; blank lines and a UTF-8 byte-order mark are skipped.

    A file called `.json` (or `.json.gz`) may hold one list of objects instead, which is read as a whole.

    Args:
        path: the file; named pipes work too.
        bad: what happens to a line that is no JSON object in UTF-8; without it such a line is an error.

    Raises:
        DataError: the file cannot be read.
        RowError: a line cannot be used, and such lines are not left out.
    """
    bad = bad or BadRows()
    if path.name.endswith((".json", ".json.gz")) and path.is_file() and _holds_list(path):
        yield from _listed(path, bad)
        return
    for number, line in enumerate(read_lines(path), start=1):
        place, row = f"{path}:{number}", None
        with bad.tolerated():
            text = decode(line, place).rstrip()
            row = _object(_parse(text, place), place) if text else None
        if row is not None:
            yield row


def _parse(text: str, place: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        complaint = f"broken JSON in column {error.colno} ({error.msg})"
        raise RowError(f"{place}: {complaint}; every line must be one complete JSON object", "broken JSON") from error
    except (ValueError, RecursionError) as error:
        complaint = "a number is too long or brackets nest too deep; simplify this line"
        raise RowError(f"{place}: {complaint}", "number too long or brackets too deep") from error


def _object(value: object, place: str) -> Row:
    if not isinstance(value, dict):
        raise RowError(f"{place}: {_SHORT.repr(value)} is not a JSON object; write one {{...}} a line", "no object")
    return Row(place, value)


def _holds_list(path: Path) -> bool:
    return next((line for line in read_lines(path) if line.strip()), b"").lstrip().startswith(b"[")


def _listed(path: Path, bad: BadRows) -> Iterator[Row]:
    try:
        values = json.loads(read_whole(path, LARGEST_LIST))
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: broken JSON list ({reason}); correct it, or write one object a line") from error
    for index, value in enumerate(values):
        row = None
        with bad.tolerated():
            row = _object(value, f"{path}: [{index}]")
        if row is not None:
            yield row
