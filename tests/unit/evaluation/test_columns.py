import numpy as np
import pytest

from polyprag.evaluation.columns import pool_seeds

F1 = {"prag": [1.0, 0.25, 0.5]}
CONFIG = {"experts.count": 8}


def test_runs_that_differ_only_in_their_seed_are_one_column(recorded) -> None:
    runs = [
        recorded(f"s{seed}", F1, seed=seed, config={**CONFIG, "run.dir": f"runs/s{seed}", "logging.group": str(seed)})
        for seed in (0, 1, 2)
    ]
    (column,), notes = pool_seeds(runs)
    assert (column.label, column.runs, notes) == ("s0 (3 seeds)", tuple(runs), [])


@pytest.mark.parametrize(
    "other",
    [
        {"config": {"experts.count": 16}},
        {"config": CONFIG, "about": "letter"},
    ],
)
def test_other_runs_stay_by_themselves(recorded, other) -> None:
    runs = [recorded("a", F1, seed=0, config=CONFIG), recorded("b", F1, seed=1, **other)]
    columns, notes = pool_seeds(runs)
    assert [(column.label, len(column.runs)) for column in columns] == [("a", 1), ("b", 1)]
    assert not notes


def test_runs_of_earlier_versions_stay_by_themselves_and_a_line_says_why(recorded) -> None:
    runs = [recorded(name, F1, seed=at, config=None) for at, name in enumerate(("a", "b"))]
    columns, notes = pool_seeds([*runs, recorded("c", F1, seed=2, config=CONFIG)])
    assert [column.label for column in columns] == ["a", "b", "c"]
    (note,) = notes
    assert note.startswith("a, b: evaluated by an earlier version, whose results do not tell the configuration")
    assert pool_seeds(runs[:1])[1] == []


def test_what_is_judged_by_whom_does_not_part_seeds(recorded) -> None:
    runs = [recorded(f"s{seed}", F1, seed=seed, config={"evaluation.judge": f"m{seed}"}) for seed in (0, 1)]
    assert len(pool_seeds(runs)[0]) == 1


def test_two_runs_of_one_seed_are_not_taken_for_two_seeds(recorded) -> None:
    runs = [recorded(name, F1, seed=0, config=CONFIG) for name in ("a", "b")]
    columns, notes = pool_seeds(runs)
    assert [column.label for column in columns] == ["a", "b"]
    assert notes == ["a, b: same configuration, and some have the same seed; not taken together"]


def test_scores_of_a_column_have_a_row_for_each_run_that_has_the_method(recorded) -> None:
    runs = [
        recorded("a", {"prag": [1.0, 0.0], "flare": [0.5, 0.5]}, seed=0, config=CONFIG),
        recorded("b", {"prag": [0.25, 0.75]}, seed=1, config=CONFIG),
    ]
    (column,), _ = pool_seeds(runs)
    assert column.methods == ["prag", "flare"]
    np.testing.assert_array_equal(column.f1("prag"), [[1.0, 0.0], [0.25, 0.75]])
    np.testing.assert_array_equal(column.f1("prag", ["q1"]), [[0.0], [0.75]])
    np.testing.assert_array_equal(column.f1("flare"), [[0.5, 0.5]])
    assert column.having("prag", "flare") == (runs[0],)
