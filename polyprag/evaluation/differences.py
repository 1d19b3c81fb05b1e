"""Which method answers the same questions better, by how much, and whether that can be chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NotRequired, TypedDict, TypeVar

import numpy as np

from polyprag.evaluation.answers import Answer, by_question
from polyprag.evaluation.statistics import PairedDifference, holm, paired_difference


class Contrast(TypedDict):
    """A paired difference in mean F1, a minus b.

    `p_holm` is p adjusted for all differences of one table. `d_z` is Cohen's effect size, see
    `polyprag.evaluation.statistics.paired_effect`; `won`, `tied` and `lost` are shares of the questions, as a sees it.
    Results of earlier versions lack what is not required.
    """

    mean: float
    ci95: list[float]
    p: float
    p_holm: NotRequired[float]
    d_z: NotRequired[float | None]
    won: NotRequired[float]
    tied: NotRequired[float]
    lost: NotRequired[float]


class Difference(Contrast):
    """The paired difference of methods `a` and `b` over the questions both answered."""

    a: str
    b: str


AnyContrast = TypeVar("AnyContrast", bound=Contrast)


def differences(
    answers_by_method: Mapping[str, Sequence[Answer]], pairs: Iterable[tuple[str, str]], resamples: int, seed: int
) -> list[Difference]:
    """Paired F1 differences over the questions that both methods of a pair answered, not yet adjusted for their number.

    Args:
        answers_by_method: each method's answers, each question once.
        pairs: methods (a, b) to compare; a pair that shares no question is left out.
        resamples: bootstrap resamples behind each interval.
        seed: of the bootstrap.

    Raises:
        DataError: a method answered a question twice.
    """
    indexed = {method: by_question(answers) for method, answers in answers_by_method.items()}
    found = []
    for a, b in pairs:
        ours, theirs = indexed.get(a, {}), indexed.get(b, {})
        shared = [question for question in ours if question in theirs]
        if shared:
            f1_2N = np.array([[own[question].scores.f1 for question in shared] for own in (ours, theirs)])
            pair = paired_difference(f1_2N[0], f1_2N[1], resamples, seed)
            found.append(Difference(a=a, b=b, **contrast(pair)))
    return found


def contrast(pair: PairedDifference) -> Contrast:
    """A paired difference as results hold it, not yet adjusted."""
    return Contrast(
        mean=pair.mean,
        ci95=[pair.low, pair.high],
        p=pair.p_value,
        d_z=pair.effect,
        won=pair.won,
        tied=pair.tied,
        lost=pair.lost,
    )


def adjusted(contrasts: Sequence[AnyContrast]) -> list[AnyContrast]:
    """The same differences, with p adjusted by Holm's method for all of them together.

    Raises:
        ValueError: a p-value lies outside 0 to 1.
    """
    together = holm([entry["p"] for entry in contrasts])
    changed: list[AnyContrast] = []
    for entry, p_holm in zip(contrasts, together, strict=True):
        copy = entry.copy()
        copy["p_holm"] = p_holm
        changed.append(copy)
    return changed
