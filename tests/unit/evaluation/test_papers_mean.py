import numpy as np
import pytest

from polyprag.evaluation.columns import pool_seeds
from polyprag.evaluation.papers_mean import PAPERS_COLUMNS, PAPERS_HEAD, papers_means

WIKI = ["comparison", "comparison", "bridge_comparison", "inference", "compositional"]
BENCHMARKS = {
    "2wikimultihopqa": ([1.0, 0.0, 0.2, 0.4, 0.8], WIKI),
    "hotpotqa": ([0.6, 0.3], ["bridge", "comparison"]),
    "popqa": ([0.1, 0.5], ["author", "capital"]),
    "complexwebquestions": ([0.9, 0.7, 0.2], ["composition", "conjunction", "composition"]),
}
COLUMNS = [0.5, 0.2, 0.4, 0.8, 0.6, 0.3, 0.3, 0.6]


@pytest.fixture
def columns(recorded):
    """Columns of a base model on all benchmarks; keywords replace a benchmark's scores and types, or leave it out."""

    def make(base="tiny", **changes):
        wanted = {**BENCHMARKS, **changes}
        runs = [
            recorded(
                f"{base}-{name}", {"prag": found[0], "vanilla": [0.0] * len(found[0])}, found[1], data=name, base=base
            )
            for name, found in wanted.items()
            if found is not None
        ]
        return pool_seeds(runs)[0]

    return make


def test_the_columns_are_those_of_the_papers() -> None:
    assert len(PAPERS_COLUMNS) == len(PAPERS_HEAD) == 8


def test_each_column_counts_alike(columns) -> None:
    found, notes = papers_means(columns(), 500, seed=0)
    mean = found["tiny, none"]["prag"]
    assert mean["columns"] == pytest.approx(COLUMNS)
    assert mean["mean"] == pytest.approx(np.mean(COLUMNS))
    low, high = mean["ci95"]
    assert low < mean["mean"] < high
    nothing = {"columns": [0.0] * 8, "mean": 0.0, "ci95": [0.0, 0.0]}
    assert found["tiny, none"]["vanilla"] == {**nothing, "prag_f1": nothing}
    assert not notes


def test_columns_and_mean_are_told_by_prags_scorer_too(columns) -> None:
    by_squad = papers_means(columns(), 500, seed=0)[0]["tiny, none"]["prag"]
    by_prag = by_squad["prag_f1"]
    assert by_prag["columns"] == pytest.approx([value / 2 for value in COLUMNS])
    assert by_prag["mean"] == pytest.approx(by_squad["mean"] / 2)
    assert by_prag["ci95"] == pytest.approx([end / 2 for end in by_squad["ci95"]])


def test_files_of_prags_release_stand_for_their_benchmark(columns, recorded) -> None:
    f1, types = BENCHMARKS["2wikimultihopqa"]
    scores = {"prag": f1, "vanilla": f1}
    released = recorded("released", scores, types, data="jsonl", benchmark="2wikimultihopqa")
    unknown = recorded("unknown", scores, types, data="jsonl", benchmark="")
    others = columns(**{"2wikimultihopqa": None})
    found, notes = papers_means([*others, *pool_seeds([released])[0]], 50, seed=0)
    assert found["tiny, none"]["prag"]["columns"] == pytest.approx(COLUMNS)
    assert not notes
    assert papers_means([*others, *pool_seeds([unknown])[0]], 50, seed=0) == ({}, [])


def test_base_models_have_means_of_their_own_and_need_all_benchmarks(columns) -> None:
    both = [*columns("a"), *columns("b", popqa=None), *columns("c")]
    found, notes = papers_means(both, 50, seed=0)
    assert list(found) == ["a, none", "c, none"]
    assert not notes


def test_a_type_without_questions_leaves_no_mean_and_a_line(columns) -> None:
    found, notes = papers_means(columns(hotpotqa=([0.5], ["bridge"])), 50, seed=0)
    assert not found
    assert notes == ["tiny, none: no mean of the papers' columns, no questions of hotpotqa comparison"]


def test_two_runs_on_a_benchmark_leave_no_mean_and_a_line(columns, recorded) -> None:
    again = pool_seeds([recorded("again", {"prag": [0.5]}, data="popqa")])[0]
    found, notes = papers_means([*columns(), *again], 50, seed=0)
    assert not found
    assert "several runs on one benchmark among" in notes[0]
    assert "again" in notes[0]
