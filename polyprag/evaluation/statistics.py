"""How far a mean over questions can be trusted: bootstrap intervals and paired differences.

Shape suffixes: N questions, S resamples, T trainings (seeds).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Drawn indices that are held at once (8 bytes each): bounds memory whatever the number of questions.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PairedDifference:
    """By how much one method beats another on the same questions.

    Attributes:
        mean: mean of a - b over the questions.
        low: lower end of the 95 % interval of that mean.
        high: upper end.
        p_value: two-sided, of no difference at all.
    """

    mean: float
    low: float
    high: float
    p_value: float


def bootstrap_ci(values_N: Values, resamples: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over questions (Efron and Tibshirani 1993, ch. 13).

    Args:
        values_N: one score per question. A single question gives an interval of no width.
        resamples: how often the questions are drawn anew, at least 1.
        seed: the same seed gives the same interval.
        level: probability that the interval is meant to cover, between 0 and 1, both excluded.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: no values, values that are not finite or not a vector, or `resamples` or `level` out of range.
    """
    _check_level(level)
    return _interval(_resampled_means(values_N, resamples, seed), level)


def seeds_bootstrap_ci(values_TN: Values, resamples: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over trainings and questions, both drawn anew.

    Trainings and questions are crossed: every training answers the same questions. Each resample draws T trainings
    and N questions with replacement, independently, and takes the mean over all their pairs (the pigeonhole bootstrap,
    Owen 2007, Annals of Applied Statistics 1(2)). With t_i how often training i was drawn and n_j question j:

        mean = Σ_i Σ_j t_i n_j f_ij / (T N)

    So the interval covers other seeds and other questions. One training leaves the bootstrap over questions.

    Args:
        values_TN: scores, a row for each training.
        resamples: how often trainings and questions are drawn anew, at least 1.
        seed: the same seed gives the same interval.
        level: probability that the interval is meant to cover, between 0 and 1, both excluded.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: no values, values that are not finite or not a matrix, or `resamples` or `level` out of range.
    """
    if values_TN.ndim != 2:
        raise ValueError(f"scores of several trainings must be a matrix, not of shape {values_TN.shape}")
    if len(values_TN) == 1:
        return bootstrap_ci(values_TN[0], resamples, seed, level)
    _check_level(level)
    _check_scores(values_TN, resamples)
    trainings, questions = values_TN.shape
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // questions)
    means = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn_ST = generator.multinomial(trainings, np.full(trainings, 1 / trainings), size)
        drawn_SN = generator.multinomial(questions, np.full(questions, 1 / questions), size)
        means.append(((drawn_ST @ values_TN) * drawn_SN).sum(axis=1) / values_TN.size)
    return _interval(np.concatenate(means), level)


def paired_difference(a_N: Values, b_N: Values, resamples: int, seed: int) -> PairedDifference:
    """Paired bootstrap of mean(a) - mean(b): questions are drawn, so both methods are judged on the same ones.

    The p-value is twice the smaller share of resampled differences on either side of 0. It never falls below
    2^(1-N), the least that a sign-flip test of N pairs can give, so that few questions cannot seem decisive.

    Args:
        a_N: scores of the first method.
        b_N: scores of the second method on the same questions in the same order.
        resamples: how often the questions are drawn anew, at least 1.
        seed: the same seed gives the same result.

    Raises:
        ValueError: vectors of different length, and everything that `bootstrap_ci` refuses.
    """
    if a_N.shape != b_N.shape:
        raise ValueError(f"paired scores must have one shape, not {a_N.shape} and {b_N.shape}")
    difference_N = a_N - b_N
    means_S = _resampled_means(difference_N, resamples, seed)
    low, high = _interval(means_S, 0.95)
    return PairedDifference(float(difference_N.mean()), low, high, _p_value(means_S, difference_N.size))


def _resampled_means(values_N: Values, resamples: int, seed: int) -> Values:
    """Means of `resamples` draws of N values with replacement, [S]."""
    if values_N.ndim != 1:
        raise ValueError(f"a bootstrap needs a vector of scores, not shape {values_N.shape}")
    _check_scores(values_N, resamples)
    generator = np.random.default_rng(seed)
    n = values_N.size
    rows = max(1, _CHUNK // n)
    chunks = [
        values_N[generator.integers(n, size=(min(rows, resamples - start), n))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(chunks)


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, not {level}")


def _check_scores(values: Values, resamples: int) -> None:
    if values.size == 0:
        raise ValueError(f"a bootstrap needs at least one value, not shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a bootstrap needs finite values")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")


def _interval(means_S: Values, level: float) -> tuple[float, float]:
    low, high = np.quantile(means_S, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def _p_value(means_S: Values, n: int) -> float:
    # One is added to both counts, so that a finite number of resamples never claims p = 0.
    tail = min(int((means_S <= 0.0).sum()), int((means_S >= 0.0).sum()))
    bootstrap = 2.0 * (tail + 1) / (means_S.size + 1)
    return float(min(1.0, max(bootstrap, 2.0 ** (1 - n))))
