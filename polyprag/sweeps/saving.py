"""How much less training data a method needs for the best F1 that another one reaches.

Of the combinations of a sweep, the other method's is the one with the best mean F1; the method's own is, of those that
reach that F1, the one with the least training data. Its size is counted in words of rewrites, questions and answers for
each passage, as far as the run was trained on them; the passages themselves are the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from polyprag.evaluation.grids import NONE, Grid
from polyprag.evaluation.statistics import Values, crossed_means
from polyprag.records import Augmentation
from polyprag.runs import run_knowledge
from polyprag.sweeps.grid import Group, Sweep
from polyprag.sweeps.outcomes import Outcome
from polyprag.sweeps.summary import Line, cell, scores_of, value_text


@dataclass(frozen=True)
class Amount:
    """Training data of a combination, per passage: pairs, rewrites, and the words of both."""

    pairs: float
    rewrites: float
    words: float


def saving_grids(sweep: Sweep, summary: Sequence[tuple[Group, Sequence[Line]]]) -> list[Grid]:
    """A table for each group of what the first of `saving`'s methods saves; none where nothing is asked or finished.

    The share saved is 1 − words of the first / words of the second. Its 95 % interval is a bootstrap over questions and
    trainings that makes both choices anew; a resample in which the first method never reaches the other's best F1
    counts as nothing saved.

    Raises:
        DataError: runs have answered different questions.
        StoreError: the store of a run is damaged.
    """
    methods = [method.value for method in sweep.definition.saving]
    finished = [(group, [line for line in lines if {*methods} <= line.scores.keys()]) for group, lines in summary]
    return [_grid(sweep, group, lines, *methods) for group, lines in finished if methods and lines]


def _grid(sweep: Sweep, group: Group, lines: Sequence[Line], own: str, other: str) -> Grid:
    evaluation = sweep.base.evaluation
    amounts = [_amount(line.outcomes) for line in lines]
    words_P = np.array([amount.words for amount in amounts])
    questions = list(lines[0].outcomes[0].f1[own])
    matrices = [scores_of(line.outcomes, method, questions) for method in (own, other) for line in lines]
    own_P, other_P = np.array([values_TN.mean() for values_TN in matrices]).reshape(2, -1)
    drawn_2PS = crossed_means(matrices, evaluation.bootstrap, evaluation.seed).reshape(2, len(lines), -1)
    best, chosen = _chosen(own_P, other_P, words_P)
    drawn = [_chosen(own_P, other_P, words_P) for own_P, other_P in drawn_2PS.transpose(2, 0, 1)]
    low, high = np.percentile([_share(words_P, *pair) for pair in drawn], [2.5, 97.5])
    reached = np.mean([at is not None for _, at in drawn])
    at = int(own_P.argmax()) if chosen is None else chosen
    saved = f"{_share(words_P, best, chosen):.0%} ({low:.0%} to {high:.0%})" if chosen is not None else NONE
    shown = "the least data with which it does" if chosen is not None else "it does not, so its best is shown"
    return Grid(
        f"Training data that {own} saves at the best F1 of {other}",
        ("method", *group.keys, "F1", "pairs", "rewrites", "words", "saved"),
        (_row(lines[best], other, amounts[best], ""), _row(lines[at], own, amounts[at], saved)),
        names=1 + len(group.keys),
        note=f"{own} reaches it in {reached:.0%} of the bootstrap's resamples: {shown}. Counts are per passage.",
    )


def _chosen(own_P: Values, other_P: Values, words_P: Values) -> tuple[int, int | None]:
    """The other's best combination, with the least words of equals, and the method's own that reaches it."""
    best = int(np.lexsort((words_P, -other_P))[0])
    reach = np.flatnonzero(own_P >= other_P[best])
    return best, int(reach[words_P[reach].argmin()]) if len(reach) else None


def _share(words_P: Values, best: int, chosen: int | None) -> float:
    """The share of words saved; nothing where the other's best is not reached."""
    return 0.0 if chosen is None else float(1 - words_P[chosen] / words_P[best])


def _amount(outcomes: Sequence[Outcome]) -> Amount:
    """What runs were trained on besides the passages, in their mean."""
    counted = [np.mean(list(_counts(outcome)), axis=0) for outcome in outcomes]
    return Amount(*map(float, np.mean(counted, axis=0)))


def _counts(outcome: Outcome) -> Iterator[tuple[int, int, int]]:
    """Pairs, rewrites and words of each passage of a run."""
    knowledge = run_knowledge(outcome.run.config, outcome.folder)
    for passage in knowledge.passages:
        known = knowledge.augmentations.get(passage.id, Augmentation(passage.id))
        texts = [*known.rewrites, *(f"{pair.question} {pair.answer}" for pair in known.qa)]
        yield len(known.qa), len(known.rewrites), sum(len(text.split()) for text in texts)


def _row(line: Line, method: str, amount: Amount, saved: str) -> tuple[str, ...]:
    values = map(value_text, line.point.values)
    counts = (f"{amount.pairs:.1f}", f"{amount.rewrites:.1f}", f"{amount.words:.0f}")
    return (method, *values, cell(line.scores[method]), *counts, saved)
