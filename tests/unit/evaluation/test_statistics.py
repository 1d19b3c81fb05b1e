import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from polyprag.evaluation import statistics
from polyprag.evaluation.statistics import bootstrap_ci, paired_difference, seeds_bootstrap_ci

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


def test_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(4)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_ci(generator.binomial(1, 0.3, size=80).astype(float), 400, seed=trial)
        covered += low <= 0.3 <= high
    assert 0.88 <= covered / 200 <= 0.99


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


def test_equal_methods_do_not_differ() -> None:
    a = scores(30, seed=12)
    difference = paired_difference(a, a.copy(), 100, seed=0)
    assert (difference.mean, difference.low, difference.high, difference.p_value) == (0.0, 0.0, 0.0, 1.0)


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
