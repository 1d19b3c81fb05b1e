import json
import statistics

import numpy as np
import pytest

from polyprag.evaluation.comparison import compare
from polyprag.evaluation.recorded import read_runs
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
        **{"prag_f1": pytest.approx(own["f1"] / 2), "seeds": 1, "seconds_per_question": 1.0, "tokens_in": 10.0},
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
    assert score["f1_seeds"] == pytest.approx([np.mean(A), np.mean(B)])
    assert score["f1_sd"] == pytest.approx(statistics.stdev(score["f1_seeds"]))
    assert "f1_sd" not in found.scores[1]["prag"]
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


def told(folder, **figures) -> None:
    """Let results tell more of a method."""
    path = folder / "results.json"
    results = json.loads(path.read_text())
    for name, own in figures.items():
        results["methods"][name] |= own
    path.write_text(json.dumps(results))


def test_costs_are_means_over_seeds_and_break_evens_those_of_the_means(evaluate) -> None:
    f1 = {"standard_rag": A, "prag": B}
    folders = [evaluate(f"s{seed}", f1, seed=seed, config=CONFIG) for seed in (0, 1)]
    slow = {"total": 3.0, "retrieve": 0.0, "route": 0.0, "load_merge": 0.0, "generate": 3.0}
    for folder, offline, first in zip(folders, (10.0, 30.0), (0.5, 1.0), strict=True):
        told(
            folder,
            prag={"offline_seconds_per_passage": offline, "seconds_to_first_token": first, "judge": offline / 40},
            standard_rag={"offline_seconds_per_passage": 0.0, "seconds_per_question": slow},
        )
    told(folders[0], standard_rag={"peak_memory_bytes": 1e9})
    scores = compare(read_runs(folders), 100, seed=0).scores[0]
    prag, rag = scores["prag"], scores["standard_rag"]
    assert (prag["offline_seconds_per_passage"], prag["seconds_to_first_token"], prag["judge"]) == (20.0, 0.75, 0.5)
    assert prag["break_even"] == 20.0 / (3.0 - 1.0)
    assert "break_even" not in rag
    assert "peak_memory_bytes" not in rag, "only one of two seeds tells it"


def test_different_judges_are_named(evaluate) -> None:
    folders = [evaluate(name, {"prag": A}) for name in ("one", "two")]
    for folder, judge in zip(folders, ("m, judge-1-a", "n, judge-1-a"), strict=True):
        told(folder, prag={"judge": 0.5, "judge_by": judge})
    (note,) = compare(read_runs(folders), 100, seed=0).notes
    assert note == "different judges, whose shares are not to be compared: m, judge-1-a in one; n, judge-1-a in two"
