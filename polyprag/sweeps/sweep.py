"""The story of `python train.py sweep`: read the file, say what it takes, run what is missing, sum everything up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from polyprag.child import Child
from polyprag.cli import Call
from polyprag.config.loading import to_yaml
from polyprag.errors import ConfigError, PolyPragError, SweepError
from polyprag.evaluation.grids import grid_markdown, grid_table, print_tables
from polyprag.files import write_text
from polyprag.sweeps.definition import Definition, read_definition
from polyprag.sweeps.estimate import expected_seconds
from polyprag.sweeps.figures import write_figures
from polyprag.sweeps.grid import Run, Sweep, build_sweep
from polyprag.sweeps.outcomes import Outcome, is_trained, read_outcome, run_folder
from polyprag.sweeps.present import PresentData, is_unwritten
from polyprag.sweeps.runner import Runner, held
from polyprag.sweeps.saving import saving_grids
from polyprag.sweeps.summary import summarise_sweep, sweep_csv, sweep_grids

T = TypeVar("T")
TABLE, CSV, FIGURES = "table.md", "results.csv", "figures"


def run_sweep(call: Call, programs: Path) -> None:
    """Run a sweep to its end, from wherever an earlier call has left it.

    Args:
        call: `--config` names the sweep file, overrides hold for all runs, `run.dir` is the sweep's folder.
        programs: the folder of `train.py` and `evaluate.py`.

    Raises:
        ConfigError: the file or one of its combinations cannot be used; nothing has been run.
        Interrupted: a signal asked to stop; the same command goes on.
        SweepError: some runs have failed, or another sweep is at work in the folder.
    """
    if call.config_path is None:
        raise ConfigError("train.py sweep: names no sweep file; add --config and one, such as configs/sweeps/rank.yaml")
    definition = read_definition(call.config_path)
    sweep = build_sweep(definition, call.overrides)
    if call.print_config:
        print(to_yaml(sweep.base), end="")
        return
    folder = Path(sweep.base.run.dir or f"runs/sweeps/{definition.path.stem}")
    present = PresentData()
    pending = _announce(sweep, folder, present)
    if call.dry_run:
        return
    reasons = _run_missing(sweep, folder, programs, pending, present) if pending else {}
    _sum_up(sweep, folder, present, _results_folder(folder, definition, sweep))
    if reasons:
        first, reason = next(iter(reasons.items()))
        raise SweepError(
            f"{len(reasons)} of {len(sweep.runs)} runs failed, first {first}: {reason}; "
            "the same command tries them again"
        )


def _announce(sweep: Sweep, folder: Path, present: PresentData) -> dict[Run, float]:
    """Say how many runs there are and how long they will take; returns the missing ones with their seconds."""
    finished = _outcomes(sweep, folder, present)
    missing = [run for run in sweep.runs if run not in finished]
    trainings = len({run.training_id for run in sweep.runs})
    print(f"{len(sweep.runs)} runs of {trainings} trainings in {folder}, {len(finished)} of them finished")
    seen: set[str] = set()
    pending = []
    for run in missing:
        pending.append((run, run.training_id not in seen and not _or_none(is_trained, folder, run, present)))
        seen.add(run.training_id)
    seconds = expected_seconds(pending, list(finished.values()), folder)
    if pending:
        writes = any(is_unwritten(run.config, run_folder(folder, run)) for run, trains in pending if trains)
        beside = ", without the writing of rewrites and pairs" if writes else ""
        hours = f"{sum(seconds) / 3600:.2f} hours"
        print(f"expected: {hours} for the other {len(pending)} on this machine{beside}", flush=True)
    return dict(zip(missing, seconds, strict=True))


def _run_missing(
    sweep: Sweep, folder: Path, programs: Path, pending: dict[Run, float], present: PresentData
) -> dict[str, str]:
    """Run what is missing; returns why runs have failed, by their labels."""
    with held(folder) as descriptor:
        child = Child(descriptor)
        with child.listening():
            runner = Runner(sweep, folder, programs, Console(stderr=True), child.execute, lambda: child.signum, present)
            return runner.run(list(pending), list(pending.values()))


def _sum_up(sweep: Sweep, folder: Path, present: PresentData, results: Path) -> None:
    """Write table, CSV and figures of all that is finished, and print the table."""
    outcomes = _outcomes(sweep, folder, present)
    if not outcomes:
        return
    summary = summarise_sweep(sweep, outcomes)
    grids = [*sweep_grids(summary), *saving_grids(sweep, summary)]
    write_text(results / TABLE, "\n\n".join(map(grid_markdown, grids)) + "\n")
    write_text(results / CSV, sweep_csv(sweep, outcomes))
    write_figures(results / FIGURES, summary, outcomes.values())
    print_tables(map(grid_table, grids), Console())
    print(f"this table, {CSV} and {FIGURES}: {results}")


def _outcomes(sweep: Sweep, folder: Path, present: PresentData) -> Mapping[Run, Outcome]:
    """The finished runs."""
    found = {run: _or_none(read_outcome, folder, run, present) for run in sweep.runs}
    return {run: outcome for run, outcome in found.items() if outcome is not None}


def _or_none(read: Callable[[Path, Run, PresentData], T], folder: Path, run: Run, present: PresentData) -> T | None:
    """What is read of a run; None if that cannot be done, of which the runner will tell why."""
    try:
        return read(run_folder(folder, run), run, present)
    except PolyPragError:
        return None


def _results_folder(folder: Path, definition: Definition, sweep: Sweep) -> Path:
    """Where table and figures go; in a folder that sweeps may share, each has a subfolder of its own."""
    return folder / definition.path.stem if sweep.base.run.dir else folder
