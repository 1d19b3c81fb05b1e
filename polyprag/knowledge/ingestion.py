"""Documents of any form that `data.path` takes, as rows of passages: read in a stream, split where they are long."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from polyprag.config import DataConfig
from polyprag.errors import DataError
from polyprag.knowledge.documents import LARGEST_MARKDOWN, LARGEST_TEXT, markdown_sections, text_sections
from polyprag.knowledge.hub import read_dataset
from polyprag.knowledge.lines import read_document
from polyprag.knowledge.rows import BadRows, Row, RowError, read_rows
from polyprag.knowledge.splitting import Splitter, Tokenize
from polyprag.knowledge.tables import read_table

HUB = "hf:"
"""What the names of data sets begin with."""


class FileKind(StrEnum):
    """How a file is read."""

    ROWS = "rows"
    CSV = "csv"
    TSV = "tsv"
    TEXT = "text"
    MARKDOWN = "markdown"


KINDS = {
    ".jsonl": FileKind.ROWS,
    ".ndjson": FileKind.ROWS,
    ".json": FileKind.ROWS,
    ".csv": FileKind.CSV,
    ".tsv": FileKind.TSV,
    ".txt": FileKind.TEXT,
    ".md": FileKind.MARKDOWN,
    ".markdown": FileKind.MARKDOWN,
}
"""By the end of the name, after which .gz may follow."""


def read_passages(path: str, data: DataConfig, bad: BadRows, tokenize: Tokenize | None = None) -> Iterator[Row]:
    """Read passages as rows `{"id"?, "title"?, "text", "qas"?}`, one by one.

    - JSON lines, or one JSON list; also anything without a suffix, such as a pipe: the rows as they are.
    - CSV and TSV (`polyprag.knowledge.tables`) and data sets after `hf:` (`polyprag.knowledge.hub`): the columns that
      `data.text_column`, `data.title_column` and `data.id_column` name, and of data sets `qas`.
    - Plain text and Markdown (`polyprag.knowledge.documents`): sections, split by `data.splitting`. Ids are the name
      of the file, for folders its path inside the folder, and a number: "guide.md#3".
    - A folder: all of these in it and below, in the order of their names. Hidden files and folders are passed over;
      other kinds of files are counted in `bad`, whatever it says about rows. A file that cannot be used as a whole,
      such as a table without the columns, counts as one row.

    With `data.splitting.rows`, rows are split too, except those with `qas`; "b" becomes "b#1", "b#2".

    Args:
        path: file, folder, or `hf:NAME_OR_FOLDER`.
        data: columns, split and splitting.
        bad: what happens to rows, and documents, that cannot be used.
        tokenize: the base model's tokenizer, for `data.splitting.unit=tokens`.

    Raises:
        DataError: a file cannot be read or is of no known kind, or a folder holds none that is.
        RowError: a row cannot be used, and such rows are not left out.
        ConfigError: splitting by tokens without a tokenizer.
    """
    return _Reader(data, bad, tokenize).read(path)


class _Reader:
    """Reads any form under one configuration."""

    def __init__(self, data: DataConfig, bad: BadRows, tokenize: Tokenize | None) -> None:
        self._data = data
        self._bad = bad
        self._splitter = Splitter(data.splitting, tokenize)

    def read(self, path: str) -> Iterator[Row]:
        """The passages of a file, a folder, or a data set."""
        if path.startswith(HUB):
            return self._split_rows(self._dataset(path))
        if Path(path).is_dir():
            return self._folder(Path(path))
        return self._file(Path(path), Path(path).name)

    def _folder(self, folder: Path) -> Iterator[Row]:
        read, other = 0, ""
        for path in _files_in(folder):
            if kind_of(path) is not None:
                read += 1
                yield from self._tolerantly(self._file(path, path.relative_to(folder).as_posix()))
                continue
            other = other or f" but such as {path.name}"
            complaint = f"ends in none of {', '.join(KINDS)}; convert it if it belongs to the corpus"
            self._bad.leave_out(RowError(f"{path}: {complaint}", "unknown kind of file"))
        if not read:
            raise DataError(f"{folder}: holds no file that ends in {', '.join(KINDS)}{other}; name another folder")

    def _tolerantly(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Rows up to an error that concerns all of a file, which counts as one bad row."""
        while True:
            row = None
            with self._bad.tolerated():
                row = next(rows, None)
            if row is None:
                return
            yield row

    def _file(self, path: Path, name: str) -> Iterator[Row]:
        """The passages of a file that goes by a name."""
        kind = kind_of(path)
        if kind is FileKind.TEXT or kind is FileKind.MARKDOWN:
            return self._document(path, name, kind)
        if kind is FileKind.CSV or kind is FileKind.TSV:
            return self._split_rows(self._table(path, "," if kind is FileKind.CSV else "\t"))
        if kind is None and path.suffix and path.is_file():
            hint = f"{HUB}{path} reads it" if path.suffix in (".parquet", ".arrow") else "convert it to one of these"
            raise DataError(f"{path}: unknown kind of file, its name ends in none of {', '.join(KINDS)}; {hint}")
        return self._split_rows(read_rows(path, self._bad))

    def _document(self, path: Path, name: str, kind: FileKind) -> Iterator[Row]:
        markdown = kind is FileKind.MARKDOWN
        content, number = "", 0
        with self._bad.tolerated():
            content = read_document(path, LARGEST_MARKDOWN if markdown else LARGEST_TEXT)
            if not content.strip():
                raise RowError(f"{path}: is blank; fill it in or remove it", "blank document")
        for section in (markdown_sections if markdown else text_sections)(content, _title(name)):
            for part in self._splitter.split(section.text):
                number += 1
                yield Row(str(path), {"id": f"{name}#{number}", "title": section.title, "text": part})

    def _table(self, path: Path, delimiter: str) -> Iterator[Row]:
        for row in read_table(path, delimiter, [self._data.text_column], self._bad):
            yield self._named(row)

    def _dataset(self, path: str) -> Iterator[Row]:
        column = self._data.text_column
        for index, row in enumerate(read_dataset(path.removeprefix(HUB), self._data.subset, self._data.split)):
            if index == 0 and column not in row.values:
                complaint = f"there is no column {column!r} but {', '.join(row.values)}; set data.text_column"
                raise DataError(f"{path}: {complaint}")
            qas = {"qas": row.values["qas"]} if "qas" in row.values else {}
            named = self._named(row)
            yield Row(row.place, {**named.values, **qas})

    def _named(self, row: Row) -> Row:
        """A row of columns as a row of a passage."""
        names = {"id": self._data.id_column, "title": self._data.title_column, "text": self._data.text_column}
        return Row(row.place, {key: row.values.get(name) for key, name in names.items()})

    def _split_rows(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            parts = [row]
            if self._data.splitting.rows and not row.values.get("qas"):
                parts = []
                with self._bad.tolerated():
                    parts = self._parts(row)
            yield from parts

    def _parts(self, row: Row) -> list[Row]:
        """A row with a text that is split; without an id of its own the parts have none either."""
        texts = list(self._splitter.split(row.text("text")))
        own = row.identifier("id")
        if len(texts) == 1:
            return [row]
        ids = [f"{own}#{number}" if own else "" for number in range(1, len(texts) + 1)]
        return [Row(row.place, {**row.values, "id": id_, "text": text}) for id_, text in zip(ids, texts, strict=True)]


def kind_of(path: Path) -> FileKind | None:
    """How a file is read, by its name; None if that does not tell."""
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return KINDS.get(name.suffix.lower())


def _title(name: str) -> str:
    """What a document is called that does not say so itself: the name of its file, without the ending."""
    path = Path(name)
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).stem


def _files_in(folder: Path) -> Iterator[Path]:
    """The files in a folder and below, hidden ones left out, in the order of their names."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(place, name) for name in sorted(files) if not name.startswith("."))
        yield from (path for path in paths if path.is_file())
