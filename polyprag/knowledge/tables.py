"""CSV and TSV, row by row, with a header that names the columns."""

from __future__ import annotations

import csv
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from polyprag.knowledge.bad_rows import BadRows, RowError
from polyprag.knowledge.lines import decode, read_lines
from polyprag.knowledge.rows import Row

LONGEST_FIELD = 16 * 2**20
"""Characters of a field; where a quote is never closed, no more than that is held."""


def read_table(path: Path, delimiter: str, required: Sequence[str], bad: BadRows | None = None) -> Iterator[Row]:
    """Read a table as rows of texts under the names of its columns; blank lines are skipped.

    Fields that hold the delimiter, quotes or line breaks are quoted and quotes in them doubled (RFC 4180), as in DPR's
    `psgs_w100.tsv`.

    Args:
        path: the file, plain or gzip-compressed, UTF-8.
        delimiter: what stands between columns.
        required: columns that must be there.
        bad: what happens to a row that cannot be used; without it such a row is an error.

    Raises:
        DataError: the file cannot be read.
        RowError: the header cannot be used, or a row, and such rows are not left out.
    """
    bad = bad or BadRows()
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))  # the module has one limit for all readers
    lines = _Lines(path)
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _header(path, records, required)
    while True:
        row, place = None, f"{path}:{lines.taken + 1}"
        with bad.tolerated():
            record = _next_record(records, lines, place)
            if record is None:
                return
            row = _row(record, header, place) if record else None
        if row is not None:
            yield row


class _Lines:
    """The decoded lines of a file; unlike a generator it goes on after a line that cannot be used."""

    def __init__(self, path: Path) -> None:
        self.taken = 0
        self._path = path
        self._lines = read_lines(path)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += 1
        return decode(line, f"{self._path}:{self.taken}")


def _header(path: Path, records: Iterator[list[str]], required: Sequence[str]) -> list[str]:
    """The names of the columns."""
    try:
        header = [name.strip() for name in next(filter(None, records), [])]
    except csv.Error as error:
        complaint = f"the header is broken ({error}); write the names of the columns into the first line"
        raise RowError(f"{path}:1: {complaint}", "wrong columns") from error
    for name in required:
        if name not in header:
            complaint = (
                f"there is no column {name!r} but {reprlib.repr(header)}; name the right one in the configuration"
            )
            raise RowError(f"{path}:1: {complaint}", "wrong columns")
    if len(set(header)) < len(header):
        repeated = next(name for name, count in Counter(header).items() if count > 1)
        raise RowError(f"{path}:1: column {repeated!r} is there more than once; name each once", "wrong columns")
    return header


def _next_record(records: Iterator[list[str]], lines: _Lines, place: str) -> list[str] | None:
    """The fields of the next row; none for a blank line, None at the end."""
    try:
        return next(records, None)
    except csv.Error as error:
        complaint = (
            f"broken quotes up to line {lines.taken} ({error}); put such a field in quotes and double those in it"
        )
        raise RowError(f"{place}: {complaint}", "broken quotes") from error


def _row(record: Sequence[str], header: Sequence[str], place: str) -> Row:
    if len(record) != len(header):
        complaint = f"{len(record)} columns where the header has {len(header)}; quote fields that hold the delimiter"
        raise RowError(f"{place}: {complaint}", "wrong number of columns")
    return Row(place, dict(zip(header, record, strict=True)))
