"""Two methods on eight questions, whose F1 is made up, and passages whose pairs and words are counted."""

from pathlib import Path

import numpy as np
import pytest

from polyprag.errors import ConfigError
from polyprag.runs import run_knowledge
from polyprag.sweeps.grid import Run, Sweep
from polyprag.sweeps.outcomes import Outcome
from polyprag.sweeps.saving import saving_grids
from polyprag.sweeps.summary import summarise_sweep

SAVING = ["poly_prag", "prag"]
METHODS = "evaluation.methods=[poly_prag,prag]"


def outcome_of(run: Run, folder: Path, f1: dict[str, list[float]]) -> Outcome:
    """An outcome with these scores by method."""
    by_question = {name: {f"q{at}": score for at, score in enumerate(scores)} for name, scores in f1.items()}
    return Outcome(run, folder, 6, 1.0, {name: {} for name in f1}, by_question)  # type: ignore[typeddict-item]


@pytest.fixture
def saved(make_sweep, tmp_path):
    """`saved({pairs: (F1 of poly_prag, F1 of prag)})`: the table of runs with as many pairs, every question alike."""

    def grid(f1: dict[int, tuple[float, float]], **ours):
        sweep: Sweep = make_sweep({"data.max_pairs": list(f1)}, METHODS, **{"saving": SAVING, **ours})
        scores = {run: f1[run.config.data.max_pairs] for run in sweep.runs}
        outcomes = {
            run: outcome_of(run, tmp_path / run.name, {"poly_prag": [own] * 8, "prag": [other] * 8})
            for run, (own, other) in scores.items()
        }
        return saving_grids(sweep, summarise_sweep(sweep, outcomes))

    return grid


def words_at(configure, pairs: int) -> float:
    """Words of the pairs of a passage, in their mean, counted apart."""
    knowledge = run_knowledge(configure(f"data.max_pairs={pairs}"), Path("none"))
    own = [knowledge.augmentations[passage.id] for passage in knowledge.passages]
    texts = [" ".join([*one.rewrites, *(f"{pair.question} {pair.answer}" for pair in one.qa)]) for one in own]
    return float(np.mean([len(text.split()) for text in texts]))


def test_the_least_data_that_reaches_the_other_methods_best(saved, configure):
    [grid] = saved({1: (0.5, 0.2), 2: (0.75, 0.75), 3: (0.875, 0.625)})
    assert grid.head == ("method", "data.max_pairs", "F1", "pairs", "rewrites", "words", "saved")
    (prag, prag_pairs, *_), (own, own_pairs, *_, share) = grid.rows
    assert (prag, prag_pairs, own, own_pairs) == ("prag", "2", "poly_prag", "2")
    assert share == "0% (0% to 0%)"
    [grid] = saved({1: (0.8, 0.2), 2: (0.75, 0.75), 3: (0.875, 0.625)})
    expected = 1 - words_at(configure, 1) / words_at(configure, 2)
    assert [row[1] for row in grid.rows] == ["2", "1"]
    assert grid.rows[1][-1] == f"{expected:.0%} ({expected:.0%} to {expected:.0%})"
    assert "in 100% of the bootstrap" in grid.note


def test_of_equal_bests_the_one_with_less_data_counts(saved):
    [grid] = saved({1: (0.1, 0.5), 2: (0.5, 0.5)})
    assert [row[1] for row in grid.rows] == ["1", "2"], "prag is as good with one pair, so poly_prag needs more"
    assert grid.rows[1][-1].startswith("-")


def test_what_is_not_reached_is_said(saved):
    [grid] = saved({1: (0.5, 0.8), 2: (0.625, 0.75)})
    assert [row[:2] for row in grid.rows] == [("prag", "1"), ("poly_prag", "2")]
    assert grid.rows[1][-1] == "–"
    assert "poly_prag reaches it in 0% of the bootstrap's resamples: it does not" in grid.note


def test_the_interval_makes_both_choices_anew(make_sweep, tmp_path):
    sweep = make_sweep({"data.max_pairs": [1, 2]}, METHODS, saving=SAVING)
    scores = {1: ([1.0] * 5 + [0.0] * 3, [0.0] * 8), 2: ([1.0] * 8, [0.0] * 4 + [1.0] * 4)}
    outcomes = {
        run: outcome_of(run, tmp_path, dict(zip(SAVING, scores[run.config.data.max_pairs], strict=True)))
        for run in sweep.runs
    }
    [grid] = saving_grids(sweep, summarise_sweep(sweep, outcomes))
    low, high = grid.rows[1][-1].partition("(")[2].rstrip(")").split(" to ")
    assert low == "0%", "in some resamples only the second run reaches it"
    assert int(high.rstrip("%")) > 20


def test_nothing_is_asked_or_finished(saved, make_sweep):
    assert saved({1: (0.5, 0.5)}, saving=[]) == []
    sweep = make_sweep({"data.max_pairs": [1, 2]}, METHODS, saving=SAVING)
    assert saving_grids(sweep, summarise_sweep(sweep, {})) == []


@pytest.mark.parametrize("names", [["poly_prag"], ["poly_prag", "prg"], "prag"])
def test_other_than_two_methods_is_refused(make_sweep, names):
    with pytest.raises(ConfigError, match=r"polyprag\.saving is .*, expected (two methods, such as|a list)"):
        make_sweep({"data.max_pairs": [1, 2]}, saving=names)
