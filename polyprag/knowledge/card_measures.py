"""What a data card measures: where data come from, how long texts are, which passages repeat others."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

from polyprag.config import DataConfig, DataName, PromptStyle, TasksConfig
from polyprag.files import sha256_of
from polyprag.knowledge.near_duplicates import near_duplicates
from polyprag.knowledge.prompts import PromptWriter, with_title
from polyprag.knowledge.tasks import examples_of
from polyprag.records import Augmentation, Knowledge, Passage

TEXTS = 20_000
"""Most texts of a kind whose tokens are counted."""
SEQUENCE_PASSAGES = 500
"""Most passages whose training sequences are measured."""
REPEAT_PASSAGES = 50_000
"""Most passages among which near duplicates are looked for."""
HASHED_BYTES = 1_000_000_000
"""Files of this size and more are told by size and time only."""
_BATCH = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where data come from.

    Attributes:
        key: the configuration key that names it.
        path: as it is named there; for the demo world what it is made from.
        files: number of files; 0 where it is none of this machine.
        bytes: their size in all.
        modified: when the newest was last written (UTC, ISO 8601); empty without files.
        sha256: of a single file of less than a gigabyte; else empty.
    """

    key: str
    path: str
    files: int = 0
    bytes: int = 0
    modified: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Spread:
    """How numbers are spread.

    Attributes:
        n: how many were measured.
        of: how many there are; more than n if a sample was measured.
        total: their sum.
        min: the smallest.
        median: the middle one, or the mean of the two in the middle.
        p95: the smallest that at least 95 % do not exceed.
        max: the largest.
    """

    n: int
    of: int
    total: int
    min: int
    median: float
    p95: int
    max: int


@dataclass(frozen=True)
class Repeats:
    """Passages that nearly repeat the text of an earlier one.

    Attributes:
        found: how many there are.
        looked_at: passages among which they were looked for.
        examples: some of them, as (id, id of the earlier one).
    """

    found: int
    looked_at: int
    examples: tuple[tuple[str, str], ...] = ()


def sources_of(data: DataConfig) -> tuple[Source, ...]:
    """Everything that the data section names: files with their sha256, folders and large files by size and time."""
    if data.name is DataName.DEMO:
        world = data.world
        return (Source("data.world", f"seed {world.seed}, {world.passages} passages, {world.phrasings} phrasings"),)
    named = {
        "data.path": data.path,
        "data.augmentation": data.augmentation,
        "data.questions": data.questions,
        "data.collection": data.collection,
        "data.outside": data.outside,
    }
    return tuple(_source(key, path) for key, path in named.items() if path)


def _source(key: str, path: str) -> Source:
    files = [file for file in _files_at(Path(path)) if file.is_file()]
    if not files:
        return Source(key, path)
    stats = [file.stat() for file in files]
    size = sum(stat.st_size for stat in stats)
    newest = datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC)
    hashed = Path(path).is_file() and size < HASHED_BYTES
    return Source(key, path, len(files), size, newest.isoformat(timespec="seconds"), sha256_of(path) if hashed else "")


def _files_at(path: Path) -> Iterator[Path]:
    yield from path.rglob("*") if path.is_dir() else [path]


def spread_of(numbers: Sequence[int], of: int | None = None) -> Spread | None:
    """How numbers are spread; None where there are none.

    Args:
        numbers: whole numbers.
        of: how many there are, if these are a sample.
    """
    if not numbers:
        return None
    ranked = sorted(numbers)
    return Spread(
        n=len(ranked),
        of=len(ranked) if of is None else of,
        total=sum(ranked),
        min=ranked[0],
        median=float(statistics.median(ranked)),
        p95=ranked[ceil(0.95 * len(ranked)) - 1],
        max=ranked[-1],
    )


def measure_texts(knowledge: Knowledge, tokenizer: Any, seed: int) -> dict[str, Spread]:
    """Lengths in tokens of passages (as prompts show them), questions and answers.

    Args:
        knowledge: what was loaded.
        tokenizer: the base model's.
        seed: of the draw of `TEXTS` texts, where there are more.
    """
    pairs = [pair for own in knowledge.augmentations.values() for pair in own.qa]
    passages = drawn(knowledge.passages, TEXTS, seed)
    kinds = {
        "passages": ([with_title(passage) for passage in passages], len(knowledge.passages)),
        "test questions": ([question.text for question in knowledge.test], len(knowledge.test)),
        "test answers": ([question.answers[0] for question in knowledge.test], len(knowledge.test)),
        "training questions": ([pair.question for pair in pairs], len(pairs)),
        "training answers": ([pair.answer for pair in pairs], len(pairs)),
    }
    spreads = {
        kind: spread_of(token_counts(drawn(texts, TEXTS, seed), tokenizer), of) for kind, (texts, of) in kinds.items()
    }
    return {kind: spread for kind, spread in spreads.items() if spread is not None}


def measure_sequences(
    knowledge: Knowledge, config: TasksConfig, tokenizer: Any, seed: int, style: PromptStyle = PromptStyle.DIRECT
) -> tuple[Spread | None, int]:
    """Lengths in tokens of training sequences, and how many of those measured exceed `tasks.max_tokens`.

    Args:
        knowledge: what was loaded; passages without anything to train on are left out.
        config: recipe and longest sequence.
        tokenizer: the base model's.
        seed: of the draw of `SEQUENCE_PASSAGES` passages, where there are more.
        style: of the prompts.

    Returns:
        None where there is nothing to train on. How many sequences there are in all is estimated from the draw.
    """
    writer = PromptWriter(tokenizer, style)
    passages = knowledge.passages if knowledge.augmentations or config.passage_text else ()
    taught = [
        (passage, own)
        for passage in passages
        if (own := knowledge.augmentations.get(passage.id, Augmentation(passage.id))).qa or config.passage_text
    ]
    chosen = drawn(taught, SEQUENCE_PASSAGES, seed)
    lengths = [
        len(example.tokens)
        for passage, own in chosen
        for group in examples_of(passage, own, config, writer)
        for example in group
    ]
    of = round(len(lengths) * len(taught) / len(chosen)) if chosen else 0
    return spread_of(lengths, of), sum(length > config.max_tokens for length in lengths)


def measure_repeats(passages: Sequence[Passage], seed: int, examples: int = 5) -> Repeats:
    """Find passages that nearly repeat an earlier one; see `polyprag.knowledge.near_duplicates`.

    Args:
        passages: distinct passages.
        seed: of the draw of `REPEAT_PASSAGES` passages, where there are more.
        examples: how many to name.
    """
    looked_at = drawn(passages, REPEAT_PASSAGES, seed)
    found = near_duplicates(passage.text for passage in looked_at)
    named = tuple((looked_at[later].id, looked_at[earlier].id) for later, earlier in found[:examples])
    return Repeats(len(found), len(looked_at), named)


def token_counts(texts: Sequence[str], tokenizer: Any) -> list[int]:
    """Number of tokens of each text."""
    counts: list[int] = []
    for at in range(0, len(texts), _BATCH):
        encoded = tokenizer(list(texts[at : at + _BATCH]), add_special_tokens=False, verbose=False)
        counts += [len(ids) for ids in encoded["input_ids"]]
    return counts


def drawn(items: Sequence[T], most: int, seed: int) -> Sequence[T]:
    """All items, or a draw of so many of them by seed, in their own order."""
    if len(items) <= most:
        return items
    return [items[place] for place in sorted(random.Random(seed).sample(range(len(items)), most))]
