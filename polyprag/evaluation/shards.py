"""An evaluation done in shards: where each keeps its answers, how all are read together, and what is missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from polyprag.config.sharding import Shard
from polyprag.errors import DataError
from polyprag.files import append_jsonl, read_jsonl_tolerant
from polyprag.records import Question

SHARDS = "shards"
TRIALS = "trials.jsonl"
"""Scores of validation questions under the settings to choose among."""


def trial(setting: int, question_id: str, f1: float) -> dict[str, Any]:
    """A line of `trials.jsonl`, but for its key; `Ledger.trials` reads it."""
    return {"setting": setting, "question_id": question_id, "f1": f1}


class Unfinished(DataError):  # noqa: N818 - it is no mistake while other shards are at work
    """Shards have not answered all questions yet."""


class Ledger:
    """The lines that an evaluation and its shards have written.

    A shard adds to files of its own, in `shards/I-of-N/`, so that none waits for another and folders of machines that
    share no disk can be copied together. All read the lines of all.

    Args:
        folder: the evaluation's.
        shard: whose lines are added.
    """

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.folder, self.shard = folder, shard

    def rows(self, name: str, key: str) -> list[tuple[Path, dict[str, Any]]]:
        """The lines of a key in all files of a name, with the file of each; those of the whole evaluation first.

        Raises:
            DataError: a line is broken.
        """
        paths = [self.folder / name, *(self._of(shard) / name for shard in self.shards())]
        return [(path, row) for path in paths for row in read_jsonl_tolerant(path) if row.get("key") == key]

    def add(self, name: str, key: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add lines under a key.

        Raises:
            OSError: the disk is full or the file cannot be written.
        """
        append_jsonl(self._of(self.shard) / name, [{"key": key, **row} for row in rows])

    def gather(self, name: str, key: str, order: Sequence[str]) -> None:
        """Copy the lines that only shards have into the evaluation's own file, where all that follows looks for them.

        Args:
            name: of the files.
            key: of the lines.
            order: ids of questions, in which lines are copied.
        """
        found = self.rows(name, key)
        own = {row["question_id"] for path, row in found if path == self.folder / name}
        others = {row["question_id"]: row for _, row in found if row["question_id"] not in own}
        if others:
            append_jsonl(self.folder / name, [others[id_] for id_ in order if id_ in others])

    def shards(self) -> list[Shard]:
        """The shards that have written something."""
        names = [re.fullmatch(r"(\d+)-of-(\d+)", path.name) for path in (self.folder / SHARDS).glob("*-of-*")]
        return sorted(Shard(int(found[1]), int(found[2])) for found in names if found)

    def trials(self, key: str) -> dict[tuple[int, str], float]:
        """The F1 of validation questions, by the number of the setting and the question's id.

        Raises:
            DataError: a line is broken.
        """
        found: dict[tuple[int, str], float] = {}
        for _, row in self.rows(TRIALS, key):
            found.setdefault((row["setting"], row["question_id"]), float(row["f1"]))
        return found

    def unfinished(self, what: str, questions: Sequence[Question], answered: Collection[str]) -> Unfinished:
        """What to say where questions have no answer.

        Args:
            what: the answers that are missing, in words.
            questions: all questions, in their order.
            answered: ids of those that have one.
        """
        place, counts = self.folder / SHARDS, {shard.count for shard in self.shards()} | {self.shard.count} - {0, 1}
        lacking = sum(question.id not in answered for question in questions)
        if len(counts) != 1:
            found = (
                f"shards of {' and of '.join(map(str, sorted(counts)))} are there" if counts else "no shard is there"
            )
            return Unfinished(
                f"{place}: {lacking} {what} missing, and {found}; run evaluate.py with run.shard=0/N to N-1/N, one N"
            )
        (count,) = counts
        at_fault = Counter(f"{at % count}/{count}" for at, q in enumerate(questions) if q.id not in answered)
        shares = ", ".join(f"{number} of shard {shard}" for shard, number in sorted(at_fault.items()))
        return Unfinished(f"{place}: {what} missing: {shares}; run evaluate.py with each of these as run.shard")

    def _of(self, shard: Shard) -> Path:
        return self.folder / SHARDS / f"{shard.index}-of-{shard.count}" if shard.is_part else self.folder
