"""How a benchmark is published, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from polyprag.config import DataName
from polyprag.errors import DataError

OWN_FORM = (".jsonl", ".jsonl.gz")
"""Ends of the names of files that hold questions in our own form, whatever benchmark they are of."""


@dataclass(frozen=True)
class Published:
    """The published form of a benchmark.

    Attributes:
        test: names of the file that the papers test on, the first that is there counts.
        train: names of the file of further questions, likewise; empty if there is none.
        subset: configuration of the set on the hub; empty for its default.
        splits: names of the test file's split on the hub, the first that is there counts where several are.
        typed: whether the papers report its types apart, so that `data.per_type` counts each type by itself.
    """

    test: tuple[str, ...]
    train: tuple[str, ...]
    subset: str
    splits: tuple[str, ...]
    typed: bool


PUBLISHED = {
    DataName.WIKI2: Published(("dev.json",), ("train.json",), "", ("validation", "dev"), True),
    DataName.HOTPOTQA: Published(
        ("hotpot_dev_distractor_v1.json",),
        ("hotpot_train_v1.1.json", "hotpot_train_v1.json"),
        "distractor",
        ("validation",),
        True,
    ),
    DataName.POPQA: Published(("popQA.tsv",), (), "", ("test",), False),
    DataName.CWQ: Published(
        ("ComplexWebQuestions_dev.json",),
        ("ComplexWebQuestions_train.json", "ComplexWebQuestions_train_wans.json"),
        "",
        ("validation",),
        False,
    ),
}


def find_test(name: DataName, path: Path) -> Path:
    """The file of a benchmark's questions: the one named, or the published one in the folder named.

    Where a folder holds none of the published names, its only file of JSON lines is taken, if there is just one.

    Raises:
        DataError: there is no such path, or the folder holds no such file.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; download {name} and name its file in data.path")
    if not path.is_dir():
        return path
    names = PUBLISHED[name].test
    own = sorted(file for file in path.iterdir() if file.name.endswith(OWN_FORM))
    found = [path / known for known in names if (path / known).is_file()] or (own if len(own) == 1 else [])
    if not found:
        raise DataError(f"{path}: holds no {' or '.join(names)}; put the published file of {name} there, or name it")
    return found[0]


def find_train(name: DataName, test: Path) -> Path | None:
    """The file of further questions that lies beside the test file, if there is one."""
    beside = (test.parent / known for known in PUBLISHED[name].train)
    return next((file for file in beside if file.is_file() and file != test), None)
