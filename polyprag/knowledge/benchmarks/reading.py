"""Questions of a benchmark in our own form, from its published files, from the hub, or from a file in that form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from polyprag.config import DataConfig, DataName
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.benchmarks import complexwebquestions, hotpotqa, popqa, wikimultihop
from polyprag.knowledge.benchmarks.published import OWN_FORM, PUBLISHED, find_test, find_train
from polyprag.knowledge.hub import read_dataset
from polyprag.knowledge.ingestion import HUB
from polyprag.knowledge.json_values import read_values
from polyprag.knowledge.rows import Row, read_rows
from polyprag.knowledge.tables import read_table

_Form = Callable[[Row], Row]


def read_benchmark(data: DataConfig, bad: BadRows) -> Iterator[Row]:
    """The questions that a benchmark tests on, as rows in the form of our own question files.

    Args:
        data: names the benchmark, and in `path` the file, its folder, or `hf:NAME`.
        bad: what happens to rows that cannot be used.

    Raises:
        DataError: there is no such file, or it cannot be read.
        RowError: a row cannot be used, and such rows are not left out.
    """
    if data.path.startswith(HUB):
        return _read_hub(data, bad)
    return _read_file(data.name, find_test(data.name, Path(data.path)), bad)


def read_further(data: DataConfig, bad: BadRows) -> Iterator[Row]:
    """The questions of the training file beside the test file; none where there is none, or the hub is read.

    Raises:
        DataError: as `read_benchmark`.
        RowError: as `read_benchmark`.
    """
    if data.path.startswith(HUB):
        return iter(())
    path = find_train(data.name, find_test(data.name, Path(data.path)))
    return iter(()) if path is None else _read_file(data.name, path, bad)


def _read_file(name: DataName, path: Path, bad: BadRows) -> Iterator[Row]:
    if path.name.endswith(OWN_FORM):
        return read_rows(path, bad)
    rows = read_table(path, "\t", ("question",), bad) if path.suffix == ".tsv" else _json_rows(path, bad)
    return _in_own_form(rows, _form(name, path.parent, bad), bad)


def _read_hub(data: DataConfig, bad: BadRows) -> Iterator[Row]:
    name = data.path.removeprefix(HUB)
    subset = data.subset if Path(name).exists() else data.subset or PUBLISHED[data.name].subset
    rows = read_dataset(name, subset, data.split, PUBLISHED[data.name].splits)
    return _in_own_form(rows, _form(data.name, Path(name), bad), bad)


def _json_rows(path: Path, bad: BadRows) -> Iterator[Row]:
    """The objects of a JSON list, or those that stand one after another, as in some copies."""
    for index, value in enumerate(read_values(path)):
        row = Row(f"{path}: [{index}]", value if isinstance(value, dict) else {})
        with bad.tolerated():
            if not isinstance(value, dict):
                raise row.error("is no JSON object; give the file as it was published", "no object")
            yield row


def _form(name: DataName, folder: Path, bad: BadRows) -> _Form:
    """What brings a row of a benchmark into our own form."""
    if name is DataName.WIKI2:
        return partial(wikimultihop.question_of, aliases=wikimultihop.read_aliases(folder, bad))
    forms: dict[DataName, _Form] = {
        DataName.HOTPOTQA: hotpotqa.question_of,
        DataName.POPQA: popqa.question_of,
        DataName.CWQ: complexwebquestions.question_of,
    }
    return forms[name]


def _in_own_form(rows: Iterable[Row], form: _Form, bad: BadRows) -> Iterator[Row]:
    for row in rows:
        own = None
        with bad.tolerated():
            own = form(row)
        if own is not None:
            yield own
