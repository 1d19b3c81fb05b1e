"""How far a mean over questions can be trusted: bootstrap intervals, paired differences, many of them at once.

Shape suffixes: N questions, S resamples, T and U trainings (seeds).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Drawn indices that are held at once (8 bytes each): bounds memory whatever the number of questions.
_CHUNK = 1 << 20

# Differences below this are rounding: such questions are tied, and differences that vary less do not vary.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class PairedDifference:
    """By how much one method beats another on the same questions.

    Attributes:
        mean: mean of a - b over the questions.
        low: lower end of the 95 % interval of that mean.
        high: upper end.
        p_value: two-sided, of no difference at all.
        effect: Cohen's d_z; see `paired_effect`.
        won: share of the questions on which a scores higher.
        tied: share on which both score the same.
        lost: share on which b scores higher.
    """

    mean: float
    low: float
    high: float
    p_value: float
    effect: float | None
    won: float
    tied: float
    lost: float


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
    return _interval(np.concatenate([means for (means,) in _crossed_means([values_TN], resamples, seed)]), level)


def crossed_means(matrices: Sequence[Values], resamples: int, seed: int) -> Values:
    """Resampled means of several score matrices over the same questions, [L, resamples]; see `seeds_bootstrap_ci`.

    A resample draws the N questions once for all L matrices, and the trainings of each matrix by themselves.

    Args:
        matrices: scores of each, [T, N]; T may differ.
        resamples: how often trainings and questions are drawn anew, at least 1.
        seed: the same seed gives the same means.

    Raises:
        ValueError: scores that are not finite or not a matrix, or `resamples` out of range.
    """
    return np.concatenate([np.stack(means) for means in _crossed_means(matrices, resamples, seed)], axis=1)


def mean_of_means_ci(groups: Sequence[Values], resamples: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean of means, such as that of several benchmarks with equal weights.

    Questions (and trainings) are drawn anew within each group, independently of the others.

    Args:
        groups: scores of each group, one or more, [T, N] as in `seeds_bootstrap_ci`; T and N may differ.
        resamples: how often each group is drawn anew, at least 1.
        seed: the same seed gives the same interval.
        level: probability that the interval is meant to cover, between 0 and 1, both excluded.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: no group, or everything that `seeds_bootstrap_ci` refuses.
    """
    if not groups:
        raise ValueError("a mean of means needs at least one group")
    _check_level(level)
    means = [
        np.concatenate([means_S for (means_S,) in _crossed_means([values_TN], resamples, seed + position)])
        for position, values_TN in enumerate(groups)
    ]
    return _interval(np.mean(means, axis=0), level)


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
    return _described(difference_N, _resampled_means(difference_N, resamples, seed))


def seeds_difference(a_TN: Values, b_UN: Values, resamples: int, seed: int) -> PairedDifference:
    """Paired bootstrap of mean(a) - mean(b) over questions and trainings.

    Questions are drawn once for both, the trainings of a and those of b each for themselves; see `seeds_bootstrap_ci`.
    Two methods of the same trainings are compared by their differences: `seeds_difference(a_TN - b_TN, zeros_1N, …)`.
    Effect size and shares of questions are those of the means over trainings.

    Args:
        a_TN: scores of the first method, a row for each training.
        b_UN: scores of the second method on the same questions in the same order.
        resamples: how often trainings and questions are drawn anew, at least 1.
        seed: the same seed gives the same result.

    Raises:
        ValueError: no matrices of equally many questions, and everything that `bootstrap_ci` refuses.
    """
    if a_TN.ndim != 2 or b_UN.ndim != 2 or a_TN.shape[1] != b_UN.shape[1]:
        raise ValueError(f"paired scores must have the same questions, not shapes {a_TN.shape} and {b_UN.shape}")
    if len(a_TN) == len(b_UN) == 1:
        return paired_difference(a_TN[0], b_UN[0], resamples, seed)
    means_S = np.concatenate([a_S - b_S for a_S, b_S in _crossed_means([a_TN, b_UN], resamples, seed)])
    return _described(a_TN.mean(axis=0) - b_UN.mean(axis=0), means_S)


def paired_effect(difference_N: Values) -> float | None:
    """Cohen's d_z: the mean of paired differences in units of their standard deviation (Cohen 1988, section 2.3.5).

    Args:
        difference_N: a - b for each question.

    Returns:
        d_z; 0 where no question differs, None where all differ by the same amount or there is but one.
    """
    if np.abs(difference_N).max() < _ROUNDING:
        return 0.0
    spread = float(difference_N.std(ddof=1)) if difference_N.size > 1 else 0.0
    return float(difference_N.mean()) / spread if spread >= _ROUNDING else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of m hypotheses for being tested together (Holm 1979, Scandinavian Journal of Statistics 6).

    With the p-values in ascending order, p_(1) ≤ … ≤ p_(m):

        adjusted_(i) = min(1, max_{j ≤ i} (m - j + 1) p_(j))

    The probability of any false claim at adjusted p ≤ α is at most α, however the hypotheses depend on each other.

    Args:
        p_values: each from 0 to 1; may be empty.

    Returns:
        The adjusted p-values in the given order.

    Raises:
        ValueError: a p-value lies outside 0 to 1.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if not ((given >= 0.0) & (given <= 1.0)).all():
        raise ValueError("p-values must lie between 0 and 1")
    order = np.argsort(given, kind="stable")
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(given.size, 0, -1)), 1.0)
    return [float(p) for p in adjusted]


def _crossed_means(matrices: Sequence[Values], resamples: int, seed: int) -> Iterator[list[Values]]:
    """Resampled means of score matrices over the same questions, in chunks: for each matrix a vector.

    A resample draws the N questions once for all matrices, and the trainings of each matrix by themselves.
    """
    for values_TN in matrices:
        _check_scores(values_TN, resamples)
    generator = np.random.default_rng(seed)
    questions = matrices[0].shape[1]
    rows = max(1, _CHUNK // questions)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn_SN = _drawn(generator, questions, size)
        yield [
            ((_drawn(generator, len(values_TN), size) @ values_TN) * drawn_SN).sum(axis=1) / values_TN.size
            for values_TN in matrices
        ]


def _drawn(generator: np.random.Generator, n: int, size: int) -> NDArray[np.int64]:
    """How often each of n things is drawn in n draws with replacement, `size` times over."""
    return generator.multinomial(n, np.full(n, 1 / n), size)


def _described(difference_N: Values, means_S: Values) -> PairedDifference:
    """What the differences and their resampled means say."""
    low, high = _interval(means_S, 0.95)
    won, lost = float((difference_N > _ROUNDING).mean()), float((difference_N < -_ROUNDING).mean())
    return PairedDifference(
        mean=float(difference_N.mean()),
        low=low,
        high=high,
        p_value=_p_value(means_S, difference_N.size),
        effect=paired_effect(difference_N),
        won=won,
        tied=float((np.abs(difference_N) <= _ROUNDING).mean()),
        lost=lost,
    )


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
