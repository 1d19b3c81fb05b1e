import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from polyprag.config.keys import keys
from polyprag.errors import DataError
from polyprag.evaluation.grids import grid_markdown, grid_table, print_tables
from polyprag.evaluation.results import MethodResult
from polyprag.evaluation.statistics import bootstrap_ci, seeds_bootstrap_ci
from polyprag.sweeps.figures import bytes_figure, f1_figure, sizes_differ, write_figures
from polyprag.sweeps.grid import Run
from polyprag.sweeps.outcomes import Outcome
from polyprag.sweeps.summary import summarise_sweep, sweep_csv, sweep_grids

AXES = {"experts.count": [2, 4], "run.seed": [0, 1]}


@pytest.fixture
def finished(make_sweep, run_all, outcomes_of):
    """`finished(parameters, …)`: a sweep that has run, and its outcomes."""

    def finish(*args, **ours):
        sweep = make_sweep(*args, **ours)
        assert run_all(sweep) == {}
        return sweep, outcomes_of(sweep)

    return finish


@pytest.fixture
def invented(make_sweep):
    """`invented(parameters, …)`: a sweep, and outcomes that look as if it had run."""

    def invent(*args, **ours):
        sweep = make_sweep(*args, **ours)
        return sweep, {run: outcome_of(run, seed) for seed, run in enumerate(sweep.runs)}

    return invent


def outcome_of(run: Run, seed: int) -> Outcome:
    """Random scores of both methods on eight questions."""
    generator = np.random.default_rng(seed)
    f1 = {method: {f"q{at}": float(generator.random()) for at in range(8)} for method in run.methods}
    methods = {method: result_of(np.array(list(values.values()))) for method, values in f1.items()}
    return Outcome(run, Path(f"runs/{run.name}-{run.training_id}"), 6, 12.5, methods, f1)


def result_of(f1_N: np.ndarray) -> MethodResult:
    seconds = {"total": 0.25, "retrieve": 0.05, "route": 0.0, "load_merge": 0.0, "generate": 0.2}
    return MethodResult(
        n=len(f1_N),
        f1=float(f1_N.mean()),
        em=0.25,
        contains=0.375,
        prag_f1=0.5,
        f1_ci95=list(bootstrap_ci(f1_N, 100, 0)),
        seconds_per_question=seconds,
        prompt_tokens=40.0,
        new_tokens=3.0,
        bytes_per_passage=1000.0,
        train_seconds=12.5,
        choice={},
        tokens_in=41.5,
        retrievals=0.0,
    )


def markdown_of(summary) -> str:
    """The tables of a summary in Markdown."""
    return "\n\n".join(map(grid_markdown, sweep_grids(summary))) + "\n"


def rows_of(text: str) -> list[list[str]]:
    """The cells of all rows of Markdown tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


class TestScores:
    def test_they_are_means_over_seeds_with_a_two_level_interval(self, invented):
        sweep, outcomes = invented(AXES)
        [(group, lines)] = summarise_sweep(sweep, outcomes)
        assert group is sweep.groups[0]
        for line in lines:
            assert len(line.outcomes) == 2
            for method, score in line.scores.items():
                values = np.array([list(outcome.f1[method].values()) for outcome in line.outcomes])
                assert list(line.outcomes[0].f1[method]) == list(line.outcomes[1].f1[method])
                results = [outcome.methods[method]["f1"] for outcome in line.outcomes]
                assert score.mean == pytest.approx(np.mean(results))
                assert (score.low, score.high) == seeds_bootstrap_ci(values, 100, 0)
                assert score.questions == 8

    def test_what_is_missing_leaves_a_gap(self, invented):
        sweep, outcomes = invented({"experts.count": [2, 3, 4], "run.seed": [0, 1]})
        some = {run: outcomes[run] for run in (sweep.runs[0], sweep.runs[3], sweep.runs[1])}
        [(group, lines)] = summarise_sweep(sweep, some)
        _, _, *rows = rows_of(markdown_of([(group, lines)]))
        assert [row[:2] for row in rows] == [["`2`", "2"], ["`3`", "1 of 2"], ["`4`", "0 of 2"]]
        assert rows[2][2:] == ["–", "–", "–"]
        [axes] = f1_figure(group, lines).axes
        assert axes.get_xticks().tolist() == [2, 3]

    def test_seeds_that_answered_other_questions_are_not_averaged(self, invented):
        sweep, outcomes = invented({"experts.count": [2], "run.seed": [0, 1]})
        outcomes[sweep.runs[1]].f1["poly_prag"].popitem()
        with pytest.raises(
            DataError, match=r"has answered other questions than .*, so their scores cannot be put together"
        ):
            summarise_sweep(sweep, outcomes)


class TestTables:
    def test_a_row_for_each_combination(self, invented):
        sweep, outcomes = invented(AXES)
        summary = summarise_sweep(sweep, outcomes)
        text = markdown_of(summary)
        head, _, *rows = rows_of(text)
        assert text.startswith("**F1 by experts.count**\n")
        assert head == ["experts.count", "seeds", "poly_prag", "poly_prag_oracle", "training"]
        assert [row[:2] for row in rows] == [["`2`", "2"], ["`4`", "2"]]
        for row in rows:
            assert all(re.fullmatch(r"[01]\.\d{3} \([01]\.\d\d–[01]\.\d\d\)", cell) for cell in row[2:4])
            assert row[4] == "12.5 s"
        console = Console(file=io.StringIO(), width=100)
        print_tables(map(grid_table, sweep_grids(summary)), console)
        assert "F1 by experts.count" in console.file.getvalue()

    def test_a_table_for_each_key_around_a_centre(self, invented):
        summary = summarise_sweep(*invented({"experts.count": [2, 3], "experts.rank": [2, 4]}, design="one_at_a_time"))
        text = markdown_of(summary)
        assert re.findall(r"\*\*(.*)\*\*", text) == ["F1 by experts.count", "F1 by experts.rank"]
        rows = rows_of(text)
        assert rows[3][1:] == rows[6][1:], "the centre"

    def test_methods_are_the_rows_where_nothing_is_swept(self, invented):
        _, _, *rows = rows_of(markdown_of(summarise_sweep(*invented({"run.seed": [0, 1]}))))
        assert [row[:3] for row in rows] == [["`poly_prag`", "2", "8"], ["`poly_prag_oracle`", "2", "8"]]


def test_csv_has_all_keys_of_every_run_and_method(invented):
    sweep, outcomes = invented({**AXES, "routing.gumbel": [True]})
    rows = list(csv.DictReader(io.StringIO(sweep_csv(sweep, outcomes))))
    assert len(rows) == 8
    head = list(rows[0])
    assert head[:5] == ["run", "method", "experts.count", "routing.gumbel", "run.seed"]
    assert set(keys()) <= set(head)
    assert len(head) == len(set(head))
    expected = [(outcome, method) for outcome in outcomes.values() for method in outcome.methods]
    for row, (outcome, method) in zip(rows, expected, strict=True):
        result = outcome.methods[method]
        assert (row["run"], row["method"]) == (outcome.folder.name, method)
        assert (row["run.seed"], row["routing.gumbel"]) == (str(outcome.run.config.run.seed), "true")
        assert (int(row["n"]), int(row["passages"])) == (8, 6)
        for name in ("f1", "em", "contains", "train_seconds", "bytes_per_passage"):
            assert float(row[name]) == result[name]
        assert [float(row["f1_low"]), float(row["f1_high"])] == result["f1_ci95"]
        assert float(row["seconds_per_question"]) == result["seconds_per_question"]["total"]
        assert [row[name] for name in ("tokens_in", "retrievals", "tokens_out")] == ["41.5", "0.0", ""]


class TestFigures:
    def test_all_of_them_in_both_formats(self, finished, tmp_path):
        sweep, outcomes = finished(AXES)
        summary, folder = summarise_sweep(sweep, outcomes), tmp_path / "figures"
        write_figures(folder, summary, outcomes.values())
        runs = [outcome.folder.name for outcome in outcomes.values()]
        names = ["f1_experts.count", "f1_bytes_experts.count", "f1_passages_per_expert"]
        names += [f"{kind}_{run}" for run in runs for kind in ("routing", "use", "similarity")]
        assert {path.name for path in folder.iterdir()} == {f"{name}.{end}" for name in names for end in ("png", "svg")}
        assert all((folder / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)
        assert all("</svg>" in (folder / f"{name}.svg").read_text() for name in names)

    def test_drawn_again_they_are_the_same_and_looks_into_runs_are_kept(self, finished, tmp_path):
        sweep, outcomes = finished({"experts.count": [2, 4]})
        summary, folder = summarise_sweep(sweep, outcomes), tmp_path / "figures"
        write_figures(folder, summary, outcomes.values())
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
        (folder / "f1_stale.png").touch()
        (folder / "notes.txt").touch()
        write_figures(folder, summary, outcomes.values())
        after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
        (folder / "notes.txt").unlink()
        after.pop(folder / "notes.txt")
        assert {path: content for path, (content, _) in after.items()} == {
            path: content for path, (content, _) in before.items()
        }
        assert all(after[path] == before[path] for path in after if not path.name.startswith("f1_"))

    @pytest.mark.parametrize(
        ("axis", "scale", "ticks"),
        [
            ({"experts.count": [2, 4]}, "log", [2, 4]),
            ({"experts.count": [2, 3, 6]}, "linear", [2, 3, 6]),
            ({"training.router_learning_rate": [0.3, 0.01]}, "log", [0.01, 0.3]),
        ],
    )
    def test_numbers_have_their_places(self, invented, axis, scale, ticks):
        [(group, lines)] = summarise_sweep(*invented(axis))
        [axes] = f1_figure(group, lines).axes
        assert axes.get_xscale() == scale
        assert axes.get_xticks().tolist() == ticks
        assert axes.get_xlabel() == group.keys[0]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["poly_prag", "poly_prag_oracle"]
        for container, method in zip(axes.containers, ("poly_prag", "poly_prag_oracle"), strict=True):
            places, means = container.lines[0].get_data()
            expected = {float(line.point.values[0]): line.scores[method].mean for line in lines}
            assert places.tolist() == pytest.approx(sorted(expected), rel=0.05), "set aside a little"
            assert means.tolist() == [expected[value] for value in sorted(expected)]

    @pytest.mark.parametrize(
        ("axis", "labels"),
        [
            ({"routing.top_k": [0, 1]}, ["0", "1"]),
            ({"routing.gumbel": [False, True]}, ["false", "true"]),
            ({"routing.granularity": ["shared", "block"]}, ["shared", "block"]),
            ({"experts.targets": [["gate_proj"], ["gate_proj", "up_proj"]]}, ["gate_proj", "gate_proj\nup_proj"]),
        ],
    )
    def test_anything_else_stands_side_by_side(self, invented, axis, labels):
        [(group, lines)] = summarise_sweep(*invented(axis))
        [axes] = f1_figure(group, lines).axes
        assert [text.get_text() for text in axes.get_xticklabels()] == labels
        first, second = (container.lines[0].get_xdata() for container in axes.containers)
        assert (first < second).all(), "methods do not cover one another"

    def test_scores_stand_over_what_is_stored_where_that_differs(self, invented):
        sweep, outcomes = invented({"experts.rank": [1, 2]})
        [(group, lines)] = summarise_sweep(sweep, outcomes)
        assert not sizes_differ(lines)
        for outcome in outcomes.values():
            outcome.methods["poly_prag"]["bytes_per_passage"] *= outcome.run.config.experts.rank
        assert sizes_differ(lines)
        [axes] = bytes_figure(group, lines).axes
        points = [container.lines[0].get_xydata()[0].tolist() for container in axes.containers]
        means = [line.scores[method].mean for method in ("poly_prag", "poly_prag_oracle") for line in lines]
        assert points == [[size, mean] for size, mean in zip([1000, 2000, 1000, 1000], means, strict=True)]
        assert [text.get_text() for text in axes.texts] == ["1", "2", "1", "2"]

    def test_a_second_key_gives_panels(self, invented):
        [(group, lines)] = summarise_sweep(*invented({"experts.count": [2, 4], "experts.rank": [1, 2]}))
        panels = f1_figure(group, lines).axes
        assert [axes.get_title() for axes in panels] == ["rank 1", "rank 2"]
