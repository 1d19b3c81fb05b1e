import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from polyprag.evaluation import statistics
from polyprag.evaluation.statistics import (
    bootstrap_ci,
    holm,
    mean_of_means_ci,
    paired_difference,
    paired_effect,
    seeds_bootstrap_ci,
    seeds_difference,
)

light = settings(max_examples=40, deadline=None)
score_lists = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12).map(np.array)


def scores(n: int, seed: int) -> np.ndarray:
    """Scores as F1 gives them: many zeros and ones, the rest between."""
    return np.clip(np.random.default_rng(seed).normal(0.5, 0.6, n), 0.0, 1.0)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_agrees_with_scipy(level: float) -> None:
    values = scores(150, seed=1)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", confidence_level=level, random_state=2
    ).confidence_interval
    low, high = bootstrap_ci(values, 20000, seed=3, level=level)
    width = reference.high - reference.low
    assert low == pytest.approx(reference.low, abs=0.03 * width)
    assert high == pytest.approx(reference.high, abs=0.03 * width)


def f1_like(generator: np.random.Generator, n: int) -> np.ndarray:
    """Scores of mean 0.41: half of them 0, 0.32 of them 1, the rest 0.5."""
    return generator.choice([0.0, 0.5, 1.0], size=n, p=[0.5, 0.18, 0.32])


def about_nominal(trials: int, level: float) -> tuple[float, float]:
    """Bounds of the share of intervals that cover, if each covers with a probability within 0.015 of the level.

    A percentile bootstrap of 100 questions falls short of its level by about a hundredth; the rest is chance, of which
    the bounds leave out one in a thousand.
    """
    low, high = stats.binom.ppf(0.0005, trials, level - 0.015), stats.binom.ppf(0.9995, trials, level + 0.015)
    return low / trials, high / trials


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_covers_the_true_mean_about_as_often_as_it_says(level: float) -> None:
    generator, trials = np.random.default_rng(4), 1000
    covered = 0
    for trial in range(trials):
        low, high = bootstrap_ci(f1_like(generator, 100), 400, seed=trial, level=level)
        covered += low <= 0.41 <= high
    least, most = about_nominal(trials, level)
    assert least <= covered / trials <= most


def test_interval_of_a_difference_covers_the_true_difference_about_as_often_as_it_says() -> None:
    generator, trials = np.random.default_rng(5), 1000
    covered = 0
    for trial in range(trials):
        worse = f1_like(generator, 100)
        better = np.where(generator.random(100) < 0.2, 1.0, worse)  # on average better by 0.2 · (1 - 0.41)
        found = paired_difference(better, worse, 400, seed=trial)
        covered += found.low <= 0.2 * 0.59 <= found.high
    least, most = about_nominal(trials, 0.95)
    assert least <= covered / trials <= most


@light
@given(values=score_lists)
def test_interval_stays_within_the_values(values: np.ndarray) -> None:
    low, high = bootstrap_ci(values, 50, seed=0)
    assert values.min() - 1e-12 <= low <= high <= values.max() + 1e-12


def test_same_seed_same_interval_another_seed_another() -> None:
    values = scores(60, seed=5)
    assert bootstrap_ci(values, 500, seed=1) == bootstrap_ci(values, 500, seed=1)
    assert bootstrap_ci(values, 500, seed=1) != bootstrap_ci(values, 500, seed=2)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = scores(37, seed=6)
    whole = bootstrap_ci(values, 101, seed=7)
    monkeypatch.setattr(statistics, "_CHUNK", 100)
    assert bootstrap_ci(values, 101, seed=7) == whole
    monkeypatch.setattr(statistics, "_CHUNK", 1)
    assert bootstrap_ci(values, 101, seed=7) == whole


def test_one_question_gives_an_interval_of_no_width() -> None:
    assert bootstrap_ci(np.array([0.4]), 100, seed=0) == (0.4, 0.4)


@pytest.mark.parametrize(
    ("values", "resamples", "level", "match"),
    [
        (np.array([]), 10, 0.95, "at least one value"),
        (np.zeros((2, 2)), 10, 0.95, "vector"),
        (np.array([0.5, np.nan]), 10, 0.95, "finite"),
        (np.array([0.5]), 0, 0.95, "resamples"),
        (np.array([0.5]), 10, 1.0, "level"),
    ],
)
def test_unusable_input_is_refused(values: np.ndarray, resamples: int, level: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        bootstrap_ci(values, resamples, seed=0, level=level)


def test_pairing_removes_what_questions_share() -> None:
    hard = scores(100, seed=8)
    better = np.clip(hard + 0.05, 0.0, 1.05)
    difference = paired_difference(better, hard, 2000, seed=0)
    assert difference.mean == pytest.approx(0.05)
    assert 0.0 < difference.low <= difference.mean <= difference.high
    assert difference.p_value < 0.01


def test_difference_interval_is_the_interval_of_the_differences() -> None:
    a, b = scores(50, seed=9), scores(50, seed=10)
    difference = paired_difference(a, b, 300, seed=11)
    assert (difference.low, difference.high) == bootstrap_ci(a - b, 300, seed=11)


@light
@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_swapping_the_methods_mirrors_the_difference(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=float).T
    forth, back = paired_difference(a, b, 60, seed=0), paired_difference(b, a, 60, seed=0)
    assert (back.mean, back.p_value) == (pytest.approx(-forth.mean), forth.p_value)
    assert (back.low, back.high) == (pytest.approx(-forth.high), pytest.approx(-forth.low))
    assert (back.won, back.tied, back.lost) == (forth.lost, forth.tied, forth.won)
    assert back.effect == (None if forth.effect is None else pytest.approx(-forth.effect))


def test_equal_methods_do_not_differ() -> None:
    a = scores(30, seed=12)
    difference = paired_difference(a, a.copy(), 100, seed=0)
    assert (difference.mean, difference.low, difference.high, difference.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert (difference.effect, difference.won, difference.tied, difference.lost) == (0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(("n", "least"), [(1, 1.0), (2, 0.5), (4, 0.125)])
def test_few_questions_are_never_decisive(n: int, least: float) -> None:
    assert paired_difference(np.ones(n), np.zeros(n), 5000, seed=0).p_value == least


def test_p_values_of_equally_good_methods_are_about_uniform() -> None:
    generator = np.random.default_rng(13)
    p_values = [
        paired_difference(generator.normal(size=60), generator.normal(size=60), 400, seed=trial).p_value
        for trial in range(200)
    ]
    assert np.mean(np.array(p_values) < 0.1) == pytest.approx(0.1, abs=0.07)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.1)


def test_unpaired_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(np.zeros(3), np.zeros(2), 10, seed=0)


def test_one_training_leaves_the_bootstrap_over_questions() -> None:
    values = scores(60, seed=14)
    assert seeds_bootstrap_ci(values[None], 500, seed=1) == bootstrap_ci(values, 500, seed=1)


def test_trainings_and_questions_are_drawn_as_written_out() -> None:
    values = np.stack([scores(25, seed=15), scores(25, seed=16) * 0.5, scores(25, seed=17)])
    generator, means = np.random.default_rng(18), []
    for _ in range(20000):
        trainings, questions = generator.integers(3, size=3), generator.integers(25, size=25)
        means.append(values[np.ix_(trainings, questions)].mean())
    low, high = np.quantile(means, [0.025, 0.975])
    found = seeds_bootstrap_ci(values, 20000, seed=19)
    assert found == (pytest.approx(low, abs=0.03 * (high - low)), pytest.approx(high, abs=0.03 * (high - low)))


def test_trainings_that_differ_widen_the_interval() -> None:
    values = scores(50, seed=20)
    equal, unequal = np.stack([values, values]), np.stack([values * 0.5, np.clip(values * 1.5, 0, 1.5)])
    narrow, wide = seeds_bootstrap_ci(equal, 4000, seed=0), seeds_bootstrap_ci(unequal, 4000, seed=0)
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    one = bootstrap_ci(values, 4000, seed=0)
    assert narrow == (pytest.approx(one[0], abs=0.02), pytest.approx(one[1], abs=0.02))


def test_chunks_of_trainings_do_not_lose_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.stack([scores(37, seed=21), scores(37, seed=22)])
    whole = seeds_bootstrap_ci(values, 4000, seed=7)
    monkeypatch.setattr(statistics, "_CHUNK", 1000)
    assert seeds_bootstrap_ci(values, 4000, seed=7) == pytest.approx(whole, abs=0.02)


@pytest.mark.parametrize(
    ("values", "resamples", "level", "match"),
    [
        (np.zeros(3), 10, 0.95, "matrix"),
        (np.zeros((2, 0)), 10, 0.95, "at least one value"),
        (np.zeros((0, 2)), 10, 0.95, "at least one value"),
        (np.array([[0.5, np.nan], [0.5, 0.5]]), 10, 0.95, "finite"),
        (np.zeros((2, 2)), 0, 0.95, "resamples"),
        (np.zeros((2, 2)), 10, 0.0, "level"),
    ],
)
def test_unusable_trainings_are_refused(values: np.ndarray, resamples: int, level: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        seeds_bootstrap_ci(values, resamples, seed=0, level=level)


def test_effect_size_agrees_with_the_t_statistic_of_scipy() -> None:
    a, b = scores(40, seed=23), scores(40, seed=24)
    t = stats.ttest_rel(a, b).statistic
    assert paired_effect(a - b) == pytest.approx(t / np.sqrt(40), rel=1e-12)
    assert paired_difference(a, b, 50, seed=0).effect == paired_effect(a - b)


@pytest.mark.parametrize(
    ("difference", "effect"),
    [([0.0, 0.0], 0.0), ([0.0], 0.0), ([0.2], None), ([0.3 - 0.1, 0.2, 0.7 - 0.5], None), ([1e-17, 0.0], 0.0)],
)
def test_effect_size_of_differences_that_do_not_vary(difference: list[float], effect: float | None) -> None:
    assert paired_effect(np.array(difference)) == effect


def test_shares_of_questions_are_counted_and_rounding_is_a_tie() -> None:
    a, b = np.array([1.0, 0.5, 0.1 + 0.2, 0.0, 0.7]), np.array([0.0, 1.0, 0.3, 0.0, 0.2])
    found = paired_difference(a, b, 50, seed=0)
    assert (found.won, found.tied, found.lost) == (0.4, 0.4, 0.2)


def rejected_step_by_step(p_values: list[float], alpha: float) -> set[int]:
    """Holm's procedure as he wrote it: the smallest p against α/m, the next against α/(m-1), until one fails."""
    left = list(range(len(p_values)))
    rejected: set[int] = set()
    while left:
        smallest = min(left, key=lambda at: p_values[at])
        if p_values[smallest] * len(left) > alpha:
            break
        rejected.add(smallest)
        left.remove(smallest)
    return rejected


@light
@given(p_values=st.lists(st.integers(0, 1000).map(lambda p: p / 1000), max_size=12), alpha=st.floats(0.001, 0.999))
def test_adjusted_p_values_reject_what_the_procedure_of_holm_rejects(p_values: list[float], alpha: float) -> None:
    adjusted = holm(p_values)
    assert {at for at, p in enumerate(adjusted) if p <= alpha} == rejected_step_by_step(p_values, alpha)
    assert all(given <= p <= 1.0 for given, p in zip(p_values, adjusted, strict=True))


def test_holm_of_a_published_example() -> None:
    # Holm's step-down on four p-values, as worked out in textbooks: 4·0.005, then max with 3·0.01, 2·0.03 and 1·0.04.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7]) == [0.7]


@pytest.mark.parametrize("p", [-0.1, 1.5, np.nan])
def test_what_is_no_p_value_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, p])


def test_holm_keeps_false_claims_rare() -> None:
    generator, trials, false = np.random.default_rng(25), 300, 0
    for trial in range(trials):
        methods = generator.normal(size=(5, 40))  # all equally good, and the ten pairs depend on each other
        pairs = [(i, j) for i in range(5) for j in range(i)]
        p_values = [paired_difference(methods[i], methods[j], 400, seed=trial).p_value for i, j in pairs]
        false += min(holm(p_values)) <= 0.05
    assert false <= stats.binom.ppf(0.999, trials, 0.065)


def test_one_training_each_leaves_the_paired_difference() -> None:
    a, b = scores(30, seed=26), scores(30, seed=27)
    assert seeds_difference(a[None], b[None], 300, seed=1) == paired_difference(a, b, 300, seed=1)


def test_trainings_of_both_sides_are_drawn_as_written_out() -> None:
    a = np.stack([scores(25, seed=28), scores(25, seed=29), scores(25, seed=30)])
    b = np.stack([scores(25, seed=31) * 0.5, scores(25, seed=32)])
    generator, means = np.random.default_rng(33), []
    for _ in range(20000):
        questions = generator.integers(25, size=25)
        ours, theirs = generator.integers(3, size=3), generator.integers(2, size=2)
        means.append(a[np.ix_(ours, questions)].mean() - b[np.ix_(theirs, questions)].mean())
    low, high = np.quantile(means, [0.025, 0.975])
    found = seeds_difference(a, b, 20000, seed=34)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == (
        pytest.approx(low, abs=0.03 * (high - low)),
        pytest.approx(high, abs=0.03 * (high - low)),
    )
    assert found.effect == paired_effect(a.mean(axis=0) - b.mean(axis=0))


def test_methods_of_the_same_trainings_are_compared_within_each() -> None:
    level = np.array([[0.1], [0.5], [0.9]])  # seeds differ a lot, and both methods with them
    a = level + 0.05 * scores(40, seed=35)[None]
    b = level + 0.05 * scores(40, seed=36)[None]
    together = seeds_difference(a - b, np.zeros((1, 40)), 2000, seed=0)
    apart = seeds_difference(a, b, 2000, seed=0)
    assert together.mean == pytest.approx(apart.mean)
    assert together.high - together.low < 0.2 * (apart.high - apart.low)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (2, 4)), ((3,), (3,)), ((2, 3), (3,))])
def test_other_questions_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="same questions"):
        seeds_difference(np.zeros(a), np.zeros(b), 10, seed=0)


def test_groups_count_alike_whatever_their_size() -> None:
    groups = [scores(20, seed=37)[None], scores(300, seed=38)[None], np.stack([scores(50, seed=39)] * 2)]
    generator = np.random.default_rng(40)
    means = [
        np.mean([generator.choice(group[0], size=group.shape[1]).mean() for group in groups]) for _ in range(20000)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    found = mean_of_means_ci(groups, 20000, seed=41)
    assert found == (pytest.approx(low, abs=0.03 * (high - low)), pytest.approx(high, abs=0.03 * (high - low)))


def test_a_mean_of_no_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one group"):
        mean_of_means_ci([], 10, seed=0)
