"""Data sets that the `datasets` library reads: folders and files on this machine, or from the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import constants

from polyprag.errors import DataError
from polyprag.knowledge.rows import Row

CONNECT_SECONDS = 5.0

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_READERS: Mapping[str, dict[str, str]] = {
    ".parquet": {"path": "parquet"},
    ".arrow": {"path": "arrow"},
    ".json": {"path": "json"},
    ".jsonl": {"path": "json"},
    ".csv": {"path": "csv"},
    ".tsv": {"path": "csv", "sep": "\t"},
}


def read_dataset(name: str, subset: str = "", split: str = "", usual: Sequence[str] = ()) -> Iterator[Row]:
    """Read the rows of a data set one by one, every column under its own name.

    What lies on this machine is read where it lies; from the hub rows are streamed. Where the hub library is offline
    (`HF_HUB_OFFLINE=1`), the copy in its cache is read instead.

    Args:
        name: a folder that `save_to_disk` wrote, a folder or file of parquet, JSON or CSV, or a name on the hub.
        subset: the configuration, where the data set has several.
        split: the split; may be empty where there is only one.
        usual: splits that an empty one stands for where there are several, the first that is there counts.

    Raises:
        DataError: there is no such data set, subset or split, the hub cannot be reached, or the data is damaged.
    """
    with _one_line(name):
        data = _open(name, subset)
        if not split and isinstance(data, Mapping) and len(data) > 1:
            split = next((one for one in usual if one in data), "")
        rows = _choose_split(name, data, split)
        for index, values in enumerate(rows):
            yield Row(f"hf:{name}: row {index}", values)


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Tell any failure of the library in one line; what it lets through depends on the form of the data."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"hf:{name}: cannot be read ({reason}); check data.path, data.subset and data.split") from error


def _open(name: str, subset: str) -> Any:
    """A data set, or its splits by name."""
    import datasets  # takes a second

    datasets.disable_progress_bars()
    path, chosen = Path(name).expanduser(), subset or None
    if not name:
        raise DataError("hf: is followed by no name; name a folder, a file, or a data set of the hub")
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return datasets.load_from_disk(path)
    if path.is_dir():
        return datasets.load_dataset(str(path), chosen, streaming=True)
    if path.is_file():
        if path.suffix.lower() not in _READERS:
            raise DataError(f"hf:{name}: is none of {', '.join(_READERS)}; name such a file, or a folder of them")
        return datasets.load_dataset(**_READERS[path.suffix.lower()], data_files=str(path), streaming=True)
    if not _HUB_NAME.fullmatch(name):
        raise DataError(f"hf:{name}: no such file or folder; check the path, or name a data set of the hub")
    if constants.HF_HUB_OFFLINE:
        return _cached(name, chosen)
    _check_hub(name)
    return datasets.load_dataset(name, chosen, streaming=True)


def _cached(name: str, subset: str | None) -> Any:
    """The copy of a hub data set in the library's cache."""
    import datasets

    try:
        return datasets.load_dataset(name, subset)
    except ConnectionError as error:
        complaint = "HF_HUB_OFFLINE is set and the cache holds no copy; unset it, or name a local folder or file"
        raise DataError(f"hf:{name}: {complaint}") from error


def _check_hub(name: str) -> None:
    """Refuse within seconds where the hub does not answer; the library itself would try on and on."""
    try:
        httpx.head(constants.ENDPOINT, timeout=CONNECT_SECONDS)
    except httpx.HTTPError as error:
        complaint = f"the hub at {constants.ENDPOINT} cannot be reached ({error})"
        remedy = "name a local folder or file, or set HF_HUB_OFFLINE=1 to read the copy in the cache"
        raise DataError(f"hf:{name}: {complaint}; {remedy}") from error


def _choose_split(name: str, data: Any, split: str) -> Any:
    """The rows of a split; of a data set without splits, all."""
    if not isinstance(data, Mapping):
        own = str(data.split or "")
        if split and split != own:
            raise DataError(f"hf:{name}: holds no splits, but data.split is {split!r}; leave it empty")
        return data
    names = ", ".join(data)
    if split and split not in data:
        raise DataError(f"hf:{name}: there is no split {split!r}; set data.split to one of {names}")
    if not split and len(data) != 1:
        raise DataError(f"hf:{name}: there are several splits; set data.split to one of {names}")
    return data[split or next(iter(data))]
