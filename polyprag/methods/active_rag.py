"""Retrieval while answering: draft, find where the draft is in doubt, retrieve, go on from there."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

from polyprag.answering.drafting import Draft, Drafter
from polyprag.augmentation.sentences import split_sentences
from polyprag.knowledge.prompts import with_title
from polyprag.methods.method import InContextMethod
from polyprag.methods.workbench import Answered, Clock, Setting
from polyprag.records import Question


class Span(NamedTuple):
    """Tokens from `begin` to before `end`."""

    begin: int
    end: int


@dataclass(frozen=True)
class Doubt:
    """Where a draft cannot be trusted, and what to look up.

    Attributes:
        cut: the first token of the draft that is dropped.
        query: what is retrieved with; never empty.
    """

    cut: int
    query: str


@dataclass
class Progress:
    """An answer in the making.

    Attributes:
        question: the question.
        passages: positions of the passages in the prompt, best first.
        found: ids of all passages so far, in the order in which they were found.
        kept: tokens of the answer that stand.
        prompt: tokens of the last prompt, without those that stand.
        vouched: whether the next draft's first sentence stands whatever it says, since it was just retrieved for.
        finished: whether the answer is complete.
        retrievals: queries that were searched with.
        prompt_tokens: tokens of all prompts, of the answer so far as well.
        generated_tokens: tokens of all drafts.
        first_token_at: when the first token of the first draft was there, by `time.perf_counter`.
    """

    question: Question
    passages: list[int] = field(default_factory=list)
    found: dict[str, None] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    vouched: bool = False
    finished: bool = False
    retrievals: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    first_token_at: float | None = None


class ActiveRag(InContextMethod):
    """What FLARE and DRAGIN share; they differ in what is a doubt and in what is asked for then.

    A draft runs to its end. If it holds a doubt, the tokens before it stand, passages are retrieved in place of those
    at hand, and the next draft goes on from there. Its first sentence stands in any case, so that each draft brings
    the answer forward. All questions of a batch that are not finished draft together.
    """

    attends = False
    """Whether drafts carry attention."""

    @abstractmethod
    def begin(self, rows: Sequence[Progress], passages: int) -> None:
        """Give the rows what they begin with."""

    @abstractmethod
    def doubt(self, row: Progress, draft: Draft, sentences: Sequence[Span]) -> Doubt | None:
        """The first doubt in these sentences of a draft; None if it stands as a whole."""

    def options(self) -> list[Setting]:
        """Passages and examples in the prompt."""
        return self.passage_options(shots=self.shot_choices())

    def prepare(
        self, questions: Sequence[Question], settings: Sequence[Setting], own: Sequence[Question] | None = None
    ) -> None:
        """Open model and index."""
        _ = self.drafter, self.bench.retriever

    def answer(self, questions: Sequence[Question], setting: Setting) -> list[Answered]:
        """Draft and retrieve, all questions at once, until no answer is in doubt."""
        clock = Clock()
        rows = [Progress(question) for question in questions]
        with clock.step("retrieve"):
            self.begin(rows, setting.passages)
        while active := [row for row in rows if not row.finished]:
            with clock.step("generate"):
                doubts = self._advance(active, setting.shots)
            if asked := [(row, doubt.query) for row, doubt in zip(active, doubts, strict=True) if doubt]:
                with clock.step("retrieve"):
                    self.retrieve([row for row, _ in asked], [query for _, query in asked], setting.passages)
        seconds = clock.shared_by(len(questions))
        return [self._answered(row, seconds, clock.until(row.first_token_at)) for row in rows]

    def retrieve(self, rows: Sequence[Progress], queries: Sequence[str], passages: int) -> None:
        """Put what each query finds in place of the row's passages; where it finds nothing, these stay."""
        for row, hits in zip(rows, self.bench.retriever.search(queries, passages), strict=True):
            row.retrievals += 1
            if hits:
                row.passages = [hit.position for hit in hits]
                row.found |= dict.fromkeys(self.bench.passages[position].id for position in row.passages)

    @property
    def bytes_per_passage(self) -> float:
        """Texts and index."""
        return super().bytes_per_passage + self.bench.text_bytes_per_passage + self.bench.index_bytes_per_passage

    @cached_property
    def drafter(self) -> Drafter:
        """Drafts by what answers."""
        return Drafter(self.generator)

    def _advance(self, rows: Sequence[Progress], shots: int) -> list[Doubt | None]:
        """Draft once for all rows and keep what stands; a row that is in doubt awaits passages."""
        longest = self.bench.config.answering.max_new_tokens
        for row in rows:
            shown = [with_title(self.bench.passages[position]) for position in row.passages]
            row.prompt = self.bench.writer.question(row.question.text, shown, shots)
        prompts = [[*row.prompt, *row.kept] for row in rows]
        drafts = self.drafter.draft(prompts, [longest - len(row.kept) for row in rows], self.attends)
        doubts = []
        for row, prompt, draft in zip(rows, prompts, drafts, strict=True):
            row.prompt_tokens += len(prompt)
            row.generated_tokens += len(draft.ids)
            row.first_token_at = row.first_token_at or draft.first_token_at
            doubt = self.doubt(row, draft, sentences_of(draft)[int(row.vouched) :])
            row.kept += draft.ids[: doubt.cut] if doubt else draft.ids
            row.vouched, row.finished = doubt is not None, doubt is None
            doubts.append(doubt)
        return doubts

    def _answered(self, row: Progress, seconds: dict[str, float], first_token_seconds: float | None) -> Answered:
        generated = self.generator.read(row.kept)
        return Answered(
            generated,
            tuple(row.found),
            (),
            row.prompt_tokens,
            seconds,
            retrievals=row.retrievals,
            discarded_tokens=row.generated_tokens - len(row.kept),
            first_token_seconds=first_token_seconds,
        )


def sentences_of(draft: Draft) -> list[Span]:
    """The sentences of a draft as tokens, without the stop token; a line end ends a sentence too.

    A token belongs to the sentence in which its text begins, blanks aside; no sentence is empty.
    """
    pieces = draft.pieces[: draft.length]
    text = "".join(pieces)
    ends, at = [], 0
    for sentence in (sentence for line in text.splitlines() for sentence in split_sentences(line)):
        at = text.index(sentence, at) + len(sentence)
        ends.append(at)
    begins = [end - len(piece.lstrip()) for end, piece in zip(accumulate(map(len, pieces)), pieces, strict=True)]
    cuts = [sum(begin < end for begin in begins) for end in ends[:-1]]
    bounds = [0, *cuts, len(pieces)]
    return [Span(begin, end) for begin, end in pairwise(bounds) if begin < end]
