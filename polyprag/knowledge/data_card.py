"""The data card of a run: what it learns from, what it is asked, and what was left out of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from polyprag.config import Config
from polyprag.knowledge.card_measures import (
    Repeats,
    Source,
    Spread,
    measure_repeats,
    measure_sequences,
    measure_texts,
    sources_of,
    spread_of,
)
from polyprag.knowledge.overlap import Overlap, measure_overlap
from polyprag.knowledge.selection import count_types
from polyprag.records import Knowledge, Question

SCHEMA = 1


@dataclass(frozen=True)
class Asked:
    """The questions of a run.

    Attributes:
        test: test questions by type.
        validation: validation questions by type.
        with_aliases: test questions with more than one accepted answer.
        with_gold: test questions with known gold passages in the corpus.
        unknown_gold: gold passages, of test and validation questions, that are not in the corpus.
    """

    test: dict[str, int]
    validation: dict[str, int]
    with_aliases: int = 0
    with_gold: int = 0
    unknown_gold: int = 0


@dataclass(frozen=True)
class Trained:
    """What there is to train on, beside the passages' texts.

    Attributes:
        passages: passages with at least one pair.
        pairs: of each passage; None without passages.
        rewrites: of each passage; None without passages.
        by: who wrote the run's own augmentation; empty where it comes with the data.
        filled: passages that were given extractive pairs, since no other was left.
    """

    passages: int
    pairs: Spread | None
    rewrites: Spread | None
    by: str = ""
    filled: int = 0


@dataclass(frozen=True)
class LeftOut:
    """What was left out, by reason.

    Attributes:
        rows: rows of files that could not be used.
        questions: questions.
        augmentation: replies, rewrites and pairs of the run's own augmentation.
        requests: requests for augmentation that stay without an answer.
    """

    rows: dict[str, int] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)
    augmentation: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DataCard:
    """The data card of a run.

    Attributes:
        name: `data.name`.
        seed: of the draws where something was measured on a sample.
        sources: the files, or what else the data come from.
        passages: distinct passages.
        duplicates: rows that repeated the title and text of an earlier passage, and were collapsed.
        near: passages that nearly repeat an earlier one, and are kept.
        asked: the questions.
        trained: what is trained on.
        left_out: what was left out.
        tokens: lengths in the base model's tokens, by what is measured; empty without a tokenizer.
        max_tokens: `tasks.max_tokens`.
        cut_sequences: how many of the measured training sequences are longer, and lose the beginning of their prompt.
        overlap: of training questions with test questions.
        recall: share of the gold passages found among the first k, by k; empty where it was not measured.
        recall_questions: test questions that this is the mean of.
        warnings: what a reader should know before trusting a result, in plain words.
    """

    name: str
    seed: int
    sources: tuple[Source, ...]
    passages: int
    duplicates: int
    near: Repeats
    asked: Asked
    trained: Trained
    left_out: LeftOut
    tokens: dict[str, Spread]
    max_tokens: int
    cut_sequences: int
    overlap: Overlap
    recall: dict[str, float] = field(default_factory=dict)
    recall_questions: int = 0
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As `data_card.json` holds it."""
        return {"schema": SCHEMA, **asdict(self)}

    def summary(self) -> dict[str, Any]:
        """The numbers that results carry with them, recall apart."""
        left_out = {name: counts for name, counts in asdict(self.left_out).items() if counts}
        overlap = {name: value for name, value in asdict(self.overlap).items() if name != "examples"}
        return {
            "passages": self.passages,
            "duplicates": self.duplicates,
            "near_duplicates": {"found": self.near.found, "looked_at": self.near.looked_at},
            "pairs": self.trained.pairs.total if self.trained.pairs else 0,
            "with_gold": self.asked.with_gold,
            "left_out": left_out,
            "overlap": overlap,
            "warnings": list(self.warnings),
        }


def make_card(
    config: Config,
    knowledge: Knowledge,
    tokenizer: Any,
    augmentation_report: Mapping[str, Any] | None = None,
    recall: Mapping[int, float] | None = None,
) -> DataCard:
    """Measure what a run knows.

    The time is bounded: lengths in tokens are measured on at most 20,000 texts of a kind and the sequences of 500
    passages, near duplicates among at most 50,000 passages, all drawn by `run.seed`.

    Args:
        config: the whole configuration; its data section as it was loaded.
        knowledge: what was loaded.
        tokenizer: the base model's; None leaves lengths out.
        augmentation_report: what `augmentation_report.json` holds, if the run trains on its own augmentation.
        recall: share of gold passages found among the first k, by k, over the test questions that have any.
    """
    seed, test = config.run.seed, knowledge.test
    report = augmentation_report or {}
    style = config.answering.prompt
    sequences, cut = measure_sequences(knowledge, config.tasks, tokenizer, seed, style) if tokenizer else (None, 0)
    texts = measure_texts(knowledge, tokenizer, seed) if tokenizer else {}
    card = DataCard(
        name=config.data.name.value,
        seed=seed,
        sources=sources_of(config.data),
        passages=len(knowledge.passages),
        duplicates=knowledge.counts.duplicates,
        near=measure_repeats(knowledge.passages, seed),
        asked=_asked(knowledge),
        trained=_trained(knowledge, report),
        left_out=LeftOut(
            rows=dict(knowledge.counts.dropped_rows),
            questions=dict(knowledge.counts.dropped_questions),
            augmentation=dict(report.get("rejected", {})),
            requests=dict(report.get("failed", {})),
        ),
        tokens={**texts, **({"training sequences": sequences} if sequences else {})},
        max_tokens=config.tasks.max_tokens,
        cut_sequences=cut,
        overlap=measure_overlap(knowledge.augmentations, test),
        recall={str(k): share for k, share in (recall or {}).items()},
        recall_questions=_with_gold(test) if recall else 0,
    )
    return replace(card, warnings=tuple(_warnings(card)))


def _asked(knowledge: Knowledge) -> Asked:
    return Asked(
        test=count_types(knowledge.test),
        validation=count_types(knowledge.validation),
        with_aliases=sum(len(question.answers) > 1 for question in knowledge.test),
        with_gold=_with_gold(knowledge.test),
        unknown_gold=knowledge.counts.unknown_gold,
    )


def _with_gold(questions: tuple[Question, ...]) -> int:
    return sum(bool(question.passage_ids) for question in questions)


def _trained(knowledge: Knowledge, report: Mapping[str, Any]) -> Trained:
    own = list(knowledge.augmentations.values())
    without = [0] * (len(knowledge.passages) - len(own))
    return Trained(
        passages=sum(bool(one.qa) for one in own),
        pairs=spread_of([*(len(one.qa) for one in own), *without]),
        rewrites=spread_of([*(len(one.rewrites) for one in own), *without]),
        by=str(report.get("by", "")),
        filled=int(report.get("filled", 0)),
    )


def _warnings(card: DataCard) -> list[str]:
    """What a reader should know, the gravest first."""
    asked, overlap, out = sum(card.asked.test.values()), card.overlap, card.left_out
    unknown = asked - card.asked.with_gold
    sequences = card.tokens.get("training sequences")
    of_asked, of_passages = f"of {asked:,} test questions", f"of {card.passages:,} passages"
    found = [
        (overlap.test_exact, f"{of_asked} equal to a training question"),
        (overlap.test_near, f"{of_asked} nearly a copy of a training question"),
        (sum(out.rows.values()), f"rows of the files left out, since they could not be used: {reasons(out.rows)}"),
        (sum(out.requests.values()), f"requests for augmentation without an answer: {reasons(out.requests)}"),
        (card.trained.passages and card.passages - card.trained.passages, f"{of_passages} without a training pair"),
        (card.trained.filled, f"{of_passages} with extractive pairs only, since no other was left"),
        (
            card.cut_sequences,
            f"of {sequences.n if sequences else 0:,} training sequences longer than tasks.max_tokens="
            f"{card.max_tokens}, so that they lose the beginning of their prompt",
        ),
        (card.near.found, f"of {card.near.looked_at:,} passages nearly the same as an earlier one"),
        (card.asked.unknown_gold, "gold passages of questions not in the corpus"),
        (unknown, f"{of_asked} without known gold passages: recall leaves them out, and controls are refused"),
    ]
    return [f"{count:,} {text}" for count, text in found if count]


def reasons(counts: Mapping[str, int]) -> str:
    """Counts by reason, as people read them: the most frequent first."""
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))
