"""FLARE: look ahead a sentence, and retrieve with it where the model is not sure of it (arXiv 2305.06983)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from polyprag.answering.drafting import Draft
from polyprag.methods.active_rag import ActiveRag, Doubt, Progress, Span


class Flare(ActiveRag):
    """`flare`: the direct variant of the paper with masked sentences as queries.

    The passages that the question finds come first, as in the official code. A sentence in which a token has a
    probability below `flare.threshold` is looked up, its tokens below `flare.mask` left out, and written anew with what
    that finds. A sentence of which nothing is left to look up stands. Passages stay in the prompt until others are
    found.
    """

    def begin(self, rows: Sequence[Progress], passages: int) -> None:
        """Retrieve with the questions."""
        self.retrieve(rows, [row.question.text for row in rows], passages)

    def doubt(self, row: Progress, draft: Draft, sentences: Sequence[Span]) -> Doubt | None:
        """The first sentence with a token of low probability; the draft is cut before it."""
        flare = self.bench.config.flare
        for begin, end in sentences:
            if min(draft.probabilities[begin:end]) >= flare.threshold:
                continue
            known = masked(draft, Span(begin, end), flare.mask)
            if re.search(r"\w", known):
                return Doubt(begin, f"{row.question.text} {known}" if flare.with_question else known)
        return None

    @property
    def identity(self) -> str:
        """Its thresholds and the form of its queries."""
        return repr(self.bench.config.flare) + super().identity


def masked(draft: Draft, sentence: Span, threshold: float) -> str:
    """A sentence's text with a blank in place of each token whose probability is below a threshold."""
    tokens = zip(draft.pieces, draft.probabilities, strict=True)
    kept = [piece if probability >= threshold else " " for piece, probability in tokens]
    return " ".join("".join(kept[sentence.begin : sentence.end]).split())
