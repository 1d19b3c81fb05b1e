"""Scores of one answer: SQuAD exact match and F1, answer contained, and the scorer of PRAG."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# ASCII only, as in the official script: other punctuation stays, so that scores equal published ones.
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PRAG_STOPS = re.compile(r"[.\n,]")
_CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})


@dataclass(frozen=True)
class Scores:
    """What an answer is worth, each between 0 and 1.

    Attributes:
        f1: SQuAD token F1 against the best gold answer, the headline.
        em: 1 if the answer equals a gold answer after normalisation.
        contains: 1 if a gold answer occurs in the answer as a run of whole tokens.
        prag_f1: F1 by PRAG's scorer, for comparison with its tables.
    """

    f1: float
    em: float
    contains: float
    prag_f1: float


def score(prediction: str, answers: Sequence[str]) -> Scores:
    """All scores of a prediction.

    Args:
        prediction: the answer to be judged.
        answers: all accepted answers; the best match counts.

    Raises:
        ValueError: `answers` is empty.
    """
    return Scores(
        f1=f1(prediction, answers),
        em=exact_match(prediction, answers),
        contains=contains(prediction, answers),
        prag_f1=prag_f1(prediction, answers),
    )


def normalise(text: str) -> str:
    """SQuAD's normal form: lower case, no ASCII punctuation, no articles, single spaces (arXiv 1606.05250)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction equals one of the answers after normalisation, else 0.

    Raises:
        ValueError: `answers` is empty.
    """
    return _best(_equal, prediction, answers)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Harmonic mean of token precision and recall, 0 to 1, against the best of the answers.

    An empty prediction scores 0 unless an answer normalises to nothing as well.

    Raises:
        ValueError: `answers` is empty.
    """
    return _best(_token_f1, prediction, answers)


def contains(prediction: str, answers: Sequence[str]) -> float:
    """1 if one of the answers occurs in the prediction as a run of whole normalised tokens, else 0.

    An answer that normalises to nothing is contained only in a prediction that does, too.

    Raises:
        ValueError: `answers` is empty.
    """
    return _best(_token_run, prediction, answers)


def prag_f1(prediction: str, answers: Sequence[str]) -> float:
    """F1 as in PRAG's code: only what stands before the first ".", newline or "," counts.

    As there, "yes", "no" and "noanswer" earn nothing for a partial match (the rule of HotpotQA's scorer). The cut
    turns "St. Louis" into "St", so this score is for comparison with published tables, not for judging.

    Raises:
        ValueError: `answers` is empty.
    """
    return _best(_closed_f1, _PRAG_STOPS.split(prediction.strip(), maxsplit=1)[0], answers)


def _best(compare: Callable[[str, str], float], prediction: str, answers: Sequence[str]) -> float:
    """The best value of `compare(prediction, answer)` over the answers, all normalised."""
    if not answers:
        raise ValueError("a prediction cannot be scored without gold answers")
    normalised = normalise(prediction)
    return max(compare(normalised, normalise(answer)) for answer in answers)


def _equal(prediction: str, answer: str) -> float:
    return float(prediction == answer)


def _token_f1(prediction: str, answer: str) -> float:
    predicted, gold = prediction.split(), answer.split()
    if not predicted or not gold:
        return float(predicted == gold)
    shared = sum((Counter(predicted) & Counter(gold)).values())
    return 2.0 * shared / (len(predicted) + len(gold))


def _closed_f1(prediction: str, answer: str) -> float:
    if prediction != answer and not _CLOSED_ANSWERS.isdisjoint((prediction, answer)):
        return 0.0
    return _token_f1(prediction, answer)


def _token_run(prediction: str, answer: str) -> float:
    # Normalised texts are tokens between single spaces, so spaces around both make it a search for whole tokens.
    return float(f" {answer} " in f" {prediction} ") if answer else _equal(prediction, answer)
