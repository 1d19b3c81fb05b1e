"""Running the runs of a sweep, each as processes of its own, so that one can fail, be killed and be taken up again."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from polyprag.errors import Interrupted, PolyPragError, SweepError
from polyprag.evaluation.report import is_control
from polyprag.files import current_folder
from polyprag.sweeps.grid import Run, Sweep, needs_translator
from polyprag.sweeps.outcomes import (
    Outcome,
    evaluation_folder,
    is_trained,
    mark_evaluated,
    mark_trained,
    read_outcome,
    run_folder,
)
from polyprag.sweeps.present import PresentData
from polyprag.training.controls import control_folder, needed_controls

TRAIN, EVALUATE = ("train.py",), ("evaluate.py",)
CONTROLS_STAGE, TRANSLATOR_STAGE = ("train.py", "controls"), ("train.py", "translator")
"""The programs of a run, with their verbs."""
LONGEST_REASON = 300

Execute = Callable[[Sequence[str], Path], int]
"""Runs a command with its output in a file, and returns its exit status."""


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Hold a sweep's folder, so that no two sweeps train in it at once.

    Yields:
        A file descriptor for the processes of runs to inherit: should the sweep be killed, the folder stays held
        until the run that it left behind has ended.

    Raises:
        SweepError: another sweep holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass
class Runner:
    """Brings every run of a sweep to its end, one after the other.

    Args:
        sweep: the runs.
        folder: the sweep's folder.
        programs: where `train.py` and `evaluate.py` are.
        console: where a line for each run goes.
        execute: runs a command.
        interrupted: the number of the signal that has asked to stop; 0 for none.
        present: what the data of the runs are now.
    """

    sweep: Sweep
    folder: Path
    programs: Path
    console: Console
    execute: Execute
    interrupted: Callable[[], int] = lambda: 0
    present: PresentData = field(default_factory=PresentData)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, pending: Sequence[Run], expected: Sequence[float]) -> dict[str, str]:
        """Train and evaluate runs.

        Args:
            pending: the runs that are not finished.
            expected: seconds that each is expected to take.

        Returns:
            Why runs have failed, by their labels.

        Raises:
            Interrupted: a signal asked to stop; the run at work has saved its state.
        """
        reasons: dict[str, str] = {}
        done = len(self.sweep.runs) - len(pending)
        started = time.monotonic()
        for at, run in enumerate(pending):
            number = f"run {done + at + 1} of {len(self.sweep.runs)}"
            began = time.monotonic()
            with self.console.status(f"{number}: {run.label}"):
                result = self._finish(run)
            if self.interrupted():
                raise Interrupted(self.interrupted(), f"stopped in {number} ({run.label}); go on with the same command")
            if isinstance(result, str):
                reasons[run.label] = result
            pace = (time.monotonic() - started) / sum(expected[: at + 1])
            rest = f"about {_minutes(pace * sum(expected[at + 1 :]))} left" if expected[at + 1 :] else "the last"
            said = f"failed: {result}" if isinstance(result, str) else _scores(result)
            self._say(f"{number}: {run.label}: {said}; {_minutes(time.monotonic() - began)}, {rest}")
        return reasons

    def _finish(self, run: Run) -> Outcome | str:
        """The outcome of a run, or why there is none."""
        folder = run_folder(self.folder, run)
        try:
            if not is_trained(folder, run, self.present):
                reason = self.failed.get(run.training_id) or self._call(TRAIN, run, folder)
                if reason:
                    self.failed[run.training_id] = reason
                    return reason
                mark_trained(folder)
            outcome = read_outcome(folder, run, self.present)
            if outcome is None:
                reason = self._train_others(run, folder) or self._call(EVALUATE, run, folder)
                if not reason:
                    mark_evaluated(folder, run)
                    outcome = read_outcome(folder, run, self.present)
                if outcome is None:
                    return reason or f"{folder}: no results of all its methods"
        except PolyPragError as error:
            return str(error)
        if not self.sweep.definition.keep_checkpoints:
            for checkpoints in list(folder.rglob("checkpoints")):
                shutil.rmtree(checkpoints, ignore_errors=True)
        return outcome

    def _train_others(self, run: Run, folder: Path) -> str:
        """Train what a run's methods need beside the pool, if that is not done; why not, if that fails.

        Whether a translator is the one of these keys only its own stage can tell, since evaluations with other `prag.*`
        share the folder.
        """
        stages = []
        needed = needed_controls(run.methods)
        if not all(current_folder(control_folder(folder, name) / "store").exists() for name in needed):
            stages.append(CONTROLS_STAGE)
        if needs_translator(run.methods):
            stages.append(TRANSLATOR_STAGE)
        return next((reason for stage in stages if (reason := self._call(stage, run, folder))), "")

    def _call(self, program: tuple[str, ...], run: Run, folder: Path) -> str:
        """Run a program on a run; an empty text if that went well, else what the program complained of."""
        if self.interrupted():
            return "interrupted"
        log = folder / f"{program[-1].removesuffix('.py')}.log"
        status = self.execute(self.command(program, run, folder), log)
        return "" if status == 0 else _complaint(status, log)

    def command(self, program: tuple[str, ...], run: Run, folder: Path) -> list[str]:
        """The command line of a program on a run."""
        name, *verb = program
        call = [sys.executable, str(self.programs / name), *verb, "--config", str(self.sweep.definition.base)]
        call += [*run.overrides, f"run.dir={folder}"]
        if program == EVALUATE:  # else it would stand in the run's configuration, for evaluations by hand
            call.append(f"evaluation.dir={evaluation_folder(run)}")
        if not run.config.logging.group:
            call.append(f"logging.group={self.folder.name}")
        return call if program == EVALUATE else [*call, "--resume", "auto"]

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SweepError(
            f"{folder}: another sweep, or a run that a killed one has left, is at work there; wait for its end, or "
            "choose another run.dir"
        ) from None


def _scores(outcome: Outcome) -> str:
    """F1 of the methods proper, or of all where there are only controls."""
    proper = [method for method in outcome.methods if not is_control(method)] or list(outcome.methods)
    return ", ".join(f"{method} F1 {outcome.methods[method]['f1']:.3f}" for method in proper)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _complaint(status: int, log: Path) -> str:
    """Why a program ended as it did: its own last line, or the signal that killed it."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name} (see {log})"
    lines = [line.strip() for line in re.split(r"[\r\n]+", log.read_text(encoding="utf-8", errors="replace"))]
    last = next((line for line in reversed(lines) if line), f"exit status {status}")
    said = last.rpartition("error: ")[2]  # a progress bar may stand before it
    return f"{said[:LONGEST_REASON]} (see {log})"
