"""Sweeps over the library of made-up people, and programs that finish their runs within the test's own process."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from polyprag.cli import parse_call
from polyprag.config import Composition, Config
from polyprag.config.loading import load_config, to_yaml
from polyprag.evaluation.harness import Harness
from polyprag.experts.adapter_pool import AdapterPool
from polyprag.experts.base_model import load_base
from polyprag.files import write_text
from polyprag.methods.workbench import Workbench
from polyprag.runs import run_config, run_knowledge, training_knowledge
from polyprag.sweeps.definition import read_definition
from polyprag.sweeps.grid import Run, Sweep, build_sweep
from polyprag.sweeps.outcomes import Outcome, read_outcome, run_folder
from polyprag.sweeps.present import PresentData
from polyprag.sweeps.runner import Runner
from polyprag.training.controls import control_config, control_folder, needed_controls
from polyprag.translator_store import FOLDER, TranslatorFacts, write_translator

SETTLED = ("answering.shots=0", "answering.passages=1", "answering.combine=sum", "router.after_pool=false")
METHODS = "evaluation.methods=[poly_prag,poly_prag_oracle]"

MakeSweep = Callable[..., Sweep]


@pytest.fixture
def base_file(configure, tmp_path) -> Path:
    """A base configuration on the tiny model and the library, with nothing left to choose."""
    path = tmp_path / "base.yaml"
    write_text(path, to_yaml(configure(*SETTLED, METHODS)))
    return path


@pytest.fixture
def sweep_file(base_file, tmp_path) -> Callable[..., Path]:
    """`sweep_file({key: [values]}, design=…)`: a sweep file around that base; a bare value is a constant."""

    def write(parameters: dict[str, Any], **ours: Any) -> Path:
        path = tmp_path / "sweep.yaml"
        content = {
            "program": "train.py",
            "method": "grid",
            "parameters": {
                key: {"values": value} if isinstance(value, list) else {"value": value}
                for key, value in parameters.items()
            },
            "command": ["${program}", "--config", str(base_file), "${args_no_hyphens}"],
        }
        path.write_text(yaml.safe_dump({**content, **({"polyprag": ours} if ours else {})}, sort_keys=False))
        return path

    return write


@pytest.fixture
def make_sweep(sweep_file) -> MakeSweep:
    """`make_sweep({key: [values]}, "key=value", …, design=…)`: that sweep, worked out."""

    def make(parameters: dict[str, Any], *overrides: str, **ours: Any) -> Sweep:
        return build_sweep(read_definition(sweep_file(parameters, **ours)), overrides)

    return make


def leave_translator(config: Config, folder: Path) -> None:
    """Leave an untrained parameter translator in a run."""
    base = load_base(config.base)
    shapes = AdapterPool(base.model, config.prag.targets, config.prag.rank, 1.0, Composition.SUM).shapes
    size, hidden = base.model.config.hidden_size, config.translator.hidden
    facts = TranslatorFacts(
        base.fingerprint, base.name, shapes, size, config.prag.rank, hidden, 0.5, "direct", {}, {"seconds": 7.5}
    )
    write_translator(folder / FOLDER, facts.new_translator(0.3), facts, {"ab" * 32})


@dataclass
class Programs:
    """Stands for `train.py` and `evaluate.py`: random experts, real answers, and failures on demand.

    Attributes:
        train: leaves a store.
        calls: verb and folder of each call so far.
        fails: beginnings of folder names whose training fails.
        fails_late: whether evaluations fail after their results are written.
    """

    train: Callable[..., None]
    calls: list[tuple[str, str]] = field(default_factory=list)
    fails: tuple[str, ...] = ()
    fails_late: bool = False

    def execute(self, command: Sequence[str], log: Path) -> int:
        program = Path(command[1]).stem
        call = parse_call(command[2:], program, (program, "controls", "translator"), "", resumable=True)
        config, folder = run_config(call.config_path, call.overrides)
        self.calls.append((call.verb, folder.name))
        log.parent.mkdir(parents=True, exist_ok=True)
        if call.verb == "train" and folder.name.startswith(self.fails or ("-",)):
            log.write_text("Epoch 0:  50%|###  |\rerror: the loss is nan at step 3\n")
            return 2
        if call.verb == "train":
            asked = load_config(call.config_path, call.overrides)
            known = training_knowledge(asked, folder).fingerprint
            self.train(asked, folder, seed=config.run.seed, learned_from=known)
        elif call.verb == "controls":
            for name in needed_controls(config.evaluation.methods):
                self.train(control_config(config, name), control_folder(folder, name))
        elif call.verb == "translator":
            leave_translator(config, folder)
        else:
            bench = Workbench(config, run_knowledge(config, folder), folder)
            Harness(bench, Console(file=io.StringIO())).run(config.evaluation.methods)
            if self.fails_late:
                log.write_text("error: the judge's server cannot be reached\n")
                return 2
        return 0


@pytest.fixture
def programs(train_at_random) -> Programs:
    return Programs(train_at_random)


@pytest.fixture
def run_all(programs, tmp_path) -> Callable[..., dict[str, str]]:
    """`run_all(sweep, runs=None)`: run a sweep, or some of its runs, by these programs; what failed, by label."""

    def run(sweep: Sweep, runs: Sequence[Run] | None = None, console: Console | None = None) -> dict[str, str]:
        console = console or Console(file=io.StringIO())
        pending = list(sweep.runs if runs is None else runs)
        runner = Runner(sweep, tmp_path / "sweep", Path("here"), console, programs.execute)
        return runner.run(pending, [1.0] * len(pending))

    return run


@pytest.fixture
def outcomes_of(tmp_path) -> Callable[[Sweep], dict[Run, Outcome]]:
    """The finished runs of a sweep."""

    def read(sweep: Sweep) -> dict[Run, Outcome]:
        present = PresentData()
        found = {run: read_outcome(run_folder(tmp_path / "sweep", run), run, present) for run in sweep.runs}
        return {run: outcome for run, outcome in found.items() if outcome is not None}

    return read
