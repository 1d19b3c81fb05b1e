"""From rows to distinct passages and what training knows of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from polyprag.config import DataConfig
from polyprag.errors import DataError
from polyprag.knowledge.ingestion import read_passages
from polyprag.knowledge.rows import BadRows, Row, RowError
from polyprag.knowledge.splitting import Tokenize
from polyprag.passages import StoredPassages
from polyprag.records import Augmentation, Passage, QAPair

ID_DIGITS = 16  # 64 bits: among a million passages a collision has odds of one to 37 million


@dataclass(frozen=True)
class Corpus:
    """Distinct passages with what came beside them.

    Attributes:
        passages: in the order of their first appearance.
        augmentations: by passage id; as read, `qa` holds all pairs of a passage, also those for testing.
        canonical: every given id, those of collapsed duplicates included, to the id of the distinct passage.
        by_content: sha256 of the content (32 bytes) to the id of the distinct passage.
        duplicates: rows that repeated the content of an earlier passage.
    """

    passages: Sequence[Passage]
    augmentations: dict[str, Augmentation] = field(default_factory=dict)
    canonical: Mapping[str, str] = field(default_factory=dict)
    by_content: Mapping[bytes, str] = field(default_factory=dict)
    duplicates: int = 0

    def find(self, passage: Passage) -> str | None:
        """The id of the distinct passage of the same title and text."""
        return self.by_content.get(_digest(passage))


def read_corpus(
    path: str | Path, data: DataConfig | None = None, bad: BadRows | None = None, tokenize: Tokenize | None = None
) -> Corpus:
    """Read the passages of a file, a folder or a data set, each held once.

    Args:
        path: any form of `data.path`, see `polyprag.knowledge.ingestion.read_passages`.
        data: columns, split and splitting; the defaults if it is not given.
        bad: what happens to rows that cannot be used, those whose id another passage has included; without it such a
            row is an error.
        tokenize: the base model's tokenizer, for splitting by tokens.

    Raises:
        DataError: the file cannot be read or holds no passages.
        RowError: a row cannot be used, and such rows are not left out.
    """
    bad = bad or BadRows()
    collector = Collector()
    for row in read_passages(str(path), data or DataConfig(), bad, tokenize):
        with bad.tolerated():
            pairs = pairs_of(row, "qas")
            passage_id = collector.add(row)
            merge_into(collector.augmentations, Augmentation(passage_id, qa=pairs))
    if not collector.passages:
        left_out = ", ".join(f"{reason} {count}" for reason, count in sorted(bad.counts.items()))
        what = f"holds no passages that can be used ({left_out})" if left_out else "holds no passages"
        raise DataError(f'{path}: {what}; write one {{"title": ..., "text": ...}} a line, or give documents')
    return collector.corpus()


def stored_corpus(passages: StoredPassages) -> Corpus:
    """The corpus of a store, of which only those passages are read that are asked for."""
    return Corpus(passages, {}, _StoredIds(passages), _StoredContents(passages))


def pairs_of(row: Row, key: str) -> tuple[QAPair, ...]:
    """The question-answer pairs under a key of a row; none where it is absent."""
    return tuple(
        QAPair(pair.text("question"), pair.text("answer"), pair.optional_text("full_answer"))
        for pair in row.objects(key)
    )


def passage_of(row: Row) -> Passage:
    """The passage of a row, under an id made from its content where none is given."""
    passage = Passage("", row.optional_text("title"), row.text("text"))
    return dataclasses.replace(passage, id=row.identifier("id") or f"p-{passage.content_hash[:ID_DIGITS]}")


def resolve(canonical: Mapping[str, str], passage_id: str, place: str) -> str:
    """The distinct passage that an id stands for.

    Raises:
        RowError: the corpus has no passage of that id.
    """
    if passage_id not in canonical:
        complaint = f"passage id {passage_id!r} is not in the corpus; correct it or add the passage"
        raise RowError(f"{place}: {complaint}", "unknown passage id")
    return canonical[passage_id]


def merge_into(augmentations: dict[str, Augmentation], new: Augmentation) -> None:
    """Add an augmentation to those of its passage, without repeats; an empty one leaves no trace."""
    if new.rewrites or new.qa:
        old = augmentations.get(new.passage_id, Augmentation(new.passage_id))
        rewrites, qa = dict.fromkeys(old.rewrites + new.rewrites), dict.fromkeys(old.qa + new.qa)
        augmentations[new.passage_id] = Augmentation(new.passage_id, tuple(rewrites), tuple(qa))


class Collector:
    """Gathers passages row by row and collapses those of equal content."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []
        self.augmentations: dict[str, Augmentation] = {}
        self.canonical: dict[str, str] = {}
        self.by_content: dict[bytes, str] = {}
        self.duplicates = 0

    def add(self, row: Row) -> str:
        """Take in the passage of a row; returns the id of the distinct passage that it is."""
        passage = passage_of(row)
        content = _digest(passage)
        target = self.by_content.get(content)
        if self.canonical.get(passage.id, target) != target:
            complaint = f"id {passage.id!r} belongs to another passage above; give each passage its own id"
            raise row.error(complaint, "passage id used twice")
        if target is None:
            target = passage.id
            self.passages.append(passage)
        else:
            self.duplicates += 1
        self.by_content[content] = self.canonical[passage.id] = target
        return target

    def corpus(self) -> Corpus:
        """What was gathered."""
        return Corpus(tuple(self.passages), self.augmentations, self.canonical, self.by_content, self.duplicates)


@final
class _StoredIds(Mapping[str, str]):
    """The ids of stored passages, each for itself."""

    def __init__(self, passages: StoredPassages) -> None:
        self._positions = passages.positions

    def __getitem__(self, passage_id: str) -> str:
        _ = self._positions[passage_id]
        return passage_id

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)


@final
class _StoredContents(Mapping[bytes, str]):
    """The ids of stored passages by the sha256 of their contents."""

    def __init__(self, passages: StoredPassages) -> None:
        self._passages = passages

    def __getitem__(self, content: bytes) -> str:
        position = self._passages.position_of_content(content.hex())
        if position is None:
            raise KeyError(content)
        return self._passages[position].id

    def __iter__(self) -> Iterator[bytes]:
        return map(_digest, self._passages)

    def __len__(self) -> int:
        return len(self._passages)


def _digest(passage: Passage) -> bytes:
    return bytes.fromhex(passage.content_hash)
