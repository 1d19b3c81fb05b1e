"""The questions that the configuration names, and which of them are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polyprag.config import BENCHMARKS, DataConfig
from polyprag.errors import DataError
from polyprag.knowledge.bad_rows import BadRows
from polyprag.knowledge.benchmarks.published import PUBLISHED
from polyprag.knowledge.benchmarks.reading import read_benchmark
from polyprag.knowledge.questions import Draft, read_drafts
from polyprag.knowledge.released import is_released, released_questions
from polyprag.knowledge.rows import read_rows
from polyprag.knowledge.selection import first_of_each, of_types, split_beyond, split_questions
from polyprag.records import Question


@dataclass(frozen=True)
class Split:
    """Questions by what they are for.

    Attributes:
        test: those that are scored.
        validation: those on which choices are made; none of them is in the test set.
        dropped: number of the others, by reason.
    """

    test: Sequence[Question]
    validation: Sequence[Question]
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def all(self) -> tuple[Question, ...]:
        """Test and validation questions."""
        return (*self.test, *self.validation)


def source_of(data: DataConfig) -> str:
    """What the file of the questions is called in errors."""
    return data.path if data.name in BENCHMARKS else data.questions


def read_asked(data: DataConfig, bad: BadRows) -> tuple[list[Draft], int]:
    """The questions of a benchmark or of `data.questions`, and how many rows repeated an earlier one.

    Raises:
        DataError: the file cannot be read or holds no questions.
        RowError: a row cannot be used, and such rows are not left out.
    """
    if data.name in BENCHMARKS:
        return read_drafts(read_benchmark(data, bad), source_of(data), bad)
    path = Path(data.questions)
    rows = released_questions(path, bad) if is_released(path) else read_rows(path, bad)
    return read_drafts(rows, source_of(data), bad)


def draw(questions: Sequence[Question], data: DataConfig) -> Split:
    """Test and validation questions as configured.

    The test set of a benchmark is its first `data.per_type` questions, of each type where the papers report types;
    `data.types` and `data.limit` choose among them, and its validation questions come from beyond.

    Raises:
        ConfigError: a type is not among the questions'.
        DataError: there are questions, but none for the test set.
    """
    typed = of_types(questions, data.types)
    if data.name not in BENCHMARKS:
        test, validation = split_questions(typed, data.limit, data.validation_questions, data.limit_seed)
        return Split(test, validation, _left(len(questions) - len(typed), 0, len(typed) - len(test) - len(validation)))
    first, _ = first_of_each(questions, data.per_type, PUBLISHED[data.name].typed)
    within = {question.id for question in first}
    first, beyond = [q for q in typed if q.id in within], [q for q in typed if q.id not in within]
    if not first:
        reason = f"no question of type {', '.join(data.types)} is among the first {data.per_type}"
        raise DataError(f"{source_of(data)}: {reason}; raise data.per_type, or set it to 0 for all")
    test, validation = split_beyond(first, beyond, data.limit, data.validation_questions, data.limit_seed)
    further = sum(question.id not in within for question in validation)
    unused = len(first) - len(test) - (len(validation) - further)
    return Split(test, validation, _left(len(questions) - len(typed), len(beyond) - further, unused))


def _left(other_types: int, beyond: int, unused: int) -> dict[str, int]:
    return {"other types": other_types, "beyond data.per_type": beyond, "beyond the limit": unused}
