import numpy as np
import pytest

from polyprag.evaluation.comparison import compare
from polyprag.evaluation.statistics import holm, paired_difference, seeds_bootstrap_ci, seeds_difference

GENERATOR = np.random.default_rng(0)
A, B, C = (list(GENERATOR.choice([0.0, 0.5, 1.0], 30)) for _ in range(3))
CONFIG = {"experts.count": 8}


def test_scores_of_a_single_run_are_those_of_its_results(recorded) -> None:
    run = recorded("one", {"prag": A}, ["even", "odd"] * 15)
    found = compare([run, recorded("two", {"prag": B})], 100, seed=0)
    own = run.results["methods"]["prag"]
    score = found.scores[0]["prag"]
    assert score == {
        **{key: own[key] for key in ("n", "f1", "f1_ci95", "em", "contains", "macro_f1", "bytes_per_passage")},
        **{"seeds": 1, "seconds_per_question": 1.0},
    }
    assert score["macro_f1"] == pytest.approx((np.mean(A[::2]) + np.mean(A[1::2])) / 2)
    assert "macro_f1" not in found.scores[1]["prag"]


def test_a_method_is_compared_between_runs_of_the_same_questions(recorded) -> None:
    runs = [
        recorded("one", {"prag": A, "vanilla": B}),
        recorded("two", {"vanilla": C, "prag": B}),
        recorded("other", {"prag": C}, about="letter"),
    ]
    found = compare(runs, 300, seed=0)
    assert [(entry["method"], entry["a"], entry["b"]) for entry in found.between] == [
        ("prag", "one", "two"),
        ("vanilla", "one", "two"),
    ]
    pairs = [paired_difference(np.array(a), np.array(b), 300, seed=0) for a, b in ((A, B), (B, C))]
    assert [entry["mean"] for entry in found.between] == [pair.mean for pair in pairs]
    assert [entry["p_holm"] for entry in found.between] == holm([pair.p_value for pair in pairs])
    assert found.notes == ["2 different sets of questions, so differences only within each: one, two; other"]


def test_equal_texts_under_other_ids_are_other_questions(recorded) -> None:
    found = compare([recorded("one", {"prag": A}), recorded("two", {"prag": A[:-1]})], 50, seed=0)
    assert not found.between
    assert len(found.notes) == 1


def test_seeds_are_pooled_and_drawn_anew(recorded) -> None:
    seeds = [recorded(f"s{at}", {"prag": own}, seed=at, config=CONFIG) for at, own in enumerate((A, B))]
    found = compare([*seeds, recorded("single", {"prag": C})], 400, seed=3)
    assert [column.label for column in found.columns] == ["s0 (2 seeds)", "single"]
    score, values = found.scores[0]["prag"], np.array([A, B])
    assert (score["seeds"], score["n"], score["f1"]) == (2, 30, pytest.approx(values.mean()))
    assert tuple(score["f1_ci95"]) == seeds_bootstrap_ci(values, 400, seed=3)
    (entry,) = found.between
    expected = seeds_difference(values, np.array([C]), 400, seed=3)
    assert (entry["mean"], entry["ci95"], entry["p"]) == (
        expected.mean,
        [expected.low, expected.high],
        expected.p_value,
    )


def test_methods_of_pooled_runs_are_compared_training_by_training(recorded) -> None:
    level = np.array([0.0, 0.5])
    seeds = [
        recorded(f"s{at}", {"prag": [low + 0.5] * 20, "vanilla": [low] * 20}, seed=at, config=CONFIG)
        for at, low in enumerate(level)
    ]
    (entry,) = compare(seeds, 300, seed=0).within["s0 (2 seeds)"]
    assert (entry["a"], entry["b"]) == ("prag", "vanilla")
    assert (entry["mean"], entry["ci95"]) == (0.5, pytest.approx([0.5, 0.5]))
    assert (entry["won"], entry["d_z"]) == (1.0, None)


def test_methods_that_some_seeds_lack_are_named(recorded) -> None:
    runs = [
        recorded("s0", {"prag": A, "flare": B}, seed=0, config=CONFIG),
        recorded("s1", {"prag": B}, seed=1, config=CONFIG),
    ]
    found = compare(runs, 50, seed=0)
    assert found.notes == ["s0 (2 seeds): flare in only 1 of 2 runs"]
    assert found.scores[0]["flare"]["seeds"] == 1
