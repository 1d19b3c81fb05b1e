"""DRAGIN: retrieve where a word is uncertain and matters to what follows, with what it looks at (arXiv 2403.10081).

Shapes: H heads, T tokens of a draft, S positions of prompt and draft.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from bm25s.stopwords import STOPWORDS_EN_PLUS
from torch import Tensor

from polyprag.answering.drafting import Draft, pieces_of
from polyprag.augmentation.lexicon import FUNCTION_WORDS
from polyprag.knowledge.prompts import QUESTION_PREFIX
from polyprag.methods.active_rag import ActiveRag, Doubt, Progress, Span

STOP_WORDS = FUNCTION_WORDS | frozenset(STOPWORDS_EN_PLUS)


@dataclass(frozen=True)
class Word:
    """A word, of one or more tokens.

    Attributes:
        text: as it stands, with its punctuation.
        span: its tokens, counted from the beginning of the draft, or of prompt and draft.
    """

    text: str
    span: Span

    @property
    def has_content(self) -> bool:
        """Whether it is more than stop words and punctuation."""
        return any(part not in STOP_WORDS for part in re.findall(r"\w+", self.text.lower()))


class Dragin(ActiveRag):
    """`dragin`: nothing is retrieved until a word asks for it.

    RIND gives each word of a sentence its entropy times the largest attention that a later token pays to it, relative
    to the sentence's words, and nothing to stop words. Before the first word above `dragin.threshold` the draft is cut.
    QFS makes the query: of the words of the question and of the answer so far, those `dragin.query_tokens` that the
    token before the cut attends to most, in their own order. Passages stay in the prompt until others are found.
    """

    attends = True

    def begin(self, rows: Sequence[Progress], passages: int) -> None:
        """The first draft has no passages."""
        return

    def doubt(self, row: Progress, draft: Draft, sentences: Sequence[Span]) -> Doubt | None:
        """The first word that needs information; the draft is cut before it."""
        dragin = self.bench.config.dragin
        words = words_of(draft.pieces[: draft.length])
        for begin, end in sentences:
            sentence = [word for word in words if begin <= word.span.begin < end]
            for word, need in zip(sentence, information_needs(sentence, draft), strict=True):
                if need > dragin.threshold and word.has_content:
                    context = self._context(row, [earlier for earlier in words if earlier.span < word.span])
                    if query := attended(context, draft, word, dragin.query_tokens):
                        return Doubt(word.span.begin, query)
        return None

    @property
    def identity(self) -> str:
        """Its threshold and the length of its queries."""
        return repr(self.bench.config.dragin) + super().identity

    def _context(self, row: Progress, drafted: Sequence[Word]) -> list[Word]:
        """The words of the question, of what stands of the answer, and of the draft, placed in prompt and draft."""
        tokenizer = self.bench.base.tokenizer
        asked = question_span(row.question.text, row.prompt, tokenizer)
        question = words_of(pieces_of(row.prompt[asked.begin : asked.end], tokenizer))
        stands = words_of(pieces_of(row.kept, tokenizer))
        written = len(row.prompt)
        return [
            *(moved(word, asked.begin) for word in question),
            *(moved(word, written) for word in stands),
            *(moved(word, written + len(row.kept)) for word in drafted),
        ]


def information_needs(sentence: Sequence[Word], draft: Draft) -> list[float]:
    """RIND of the words of a sentence, but for the sign of stop words: entropy × attention of later tokens.

    As in the official code, a word has the mean entropy of its tokens and the sum of their attention, and the attention
    of a sentence's words is scaled to a mean of 1. Of a token's attention the largest of all later tokens counts, by
    head, then the mean over heads.

    Args:
        sentence: its words, placed in the draft.
        draft: with attention.

    Returns:
        One number, 0 or more, for each word.
    """
    assert draft.attention_HTS is not None
    drafted_HTT = draft.attention_HTS[:, 1:, -len(draft.ids) :]
    later_T = torch.tril(drafted_HTT, diagonal=-1).amax(1).mean(0)
    received = [float(later_T[word.span.begin : word.span.end].sum()) for word in sentence]
    scale = len(sentence) / sum(received) if sum(received) else 0.0
    entropies = [draft.entropies[word.span.begin : word.span.end] for word in sentence]
    return [
        sum(entropy) / len(entropy) * attention * scale for entropy, attention in zip(entropies, received, strict=True)
    ]


def attended(context: Sequence[Word], draft: Draft, word: Word, most: int) -> str:
    """QFS: the words with content of a context that a word's prediction attends to most, in the context's order.

    Each token of the word is predicted by the token before it, whose attention to the context counts; the mean over
    heads and over the word's tokens decides, summed over the tokens of each word of the context.

    Args:
        context: words before the word, placed in prompt and draft.
        draft: with attention.
        word: the word that needs information, placed in the draft.
        most: words of the query.
    """
    assert draft.attention_HTS is not None
    rows_TS = draft.attention_HTS[:, word.span.begin : word.span.end].mean(0)
    seen_TS = torch.stack([_relative(row_S, context) for row_S in rows_TS])
    seen_S = seen_TS.mean(0)
    told = [earlier for earlier in context if earlier.has_content]
    shares = [float(seen_S[earlier.span.begin : earlier.span.end].sum()) for earlier in told]
    best = sorted(range(len(told)), key=lambda at: -shares[at])[:most]
    return " ".join(told[at].text for at in sorted(best))


def _relative(row_S: Tensor, context: Sequence[Word]) -> Tensor:
    """A position's attention to the tokens of a context alone, scaled to a sum of 1."""
    inside_S = torch.zeros_like(row_S)
    for word in context:
        inside_S[word.span.begin : word.span.end] = row_S[word.span.begin : word.span.end]
    return inside_S / inside_S.sum().clamp(min=torch.finfo(row_S.dtype).tiny)


def words_of(pieces: Sequence[str]) -> list[Word]:
    """Tokens merged to words: a token that begins with a blank, or stands first, begins a word."""
    begins = [at for at, piece in enumerate(pieces) if at == 0 or piece[:1].isspace()]
    return [
        Word("".join(pieces[begin:end]).strip(), Span(begin, end)) for begin, end in pairwise([*begins, len(pieces)])
    ]


def moved(word: Word, by: int) -> Word:
    """The word some tokens further on."""
    return Word(word.text, Span(word.span.begin + by, word.span.end + by))


def question_span(question: str, prompt: Sequence[int], tokenizer: Any) -> Span:
    """The tokens of a prompt that hold the question, which is the last thing asked there; empty if it is not found."""
    asked = f"{QUESTION_PREFIX}{question}"
    for begin in range(len(prompt) - 1, -1, -1):
        if asked in tokenizer.decode(list(prompt[begin:])):
            end = len(prompt)
            while asked in tokenizer.decode(list(prompt[begin : end - 1])):
                end -= 1
            while question in tokenizer.decode(list(prompt[begin + 1 : end])):
                begin += 1
            return Span(begin, end)
    return Span(0, 0)
