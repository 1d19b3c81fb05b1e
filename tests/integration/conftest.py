"""The real programs: as subprocesses, or within the test's own process where starting one would be slow."""

from __future__ import annotations

import runpy
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from programs import ROOT, WORLD, command, environment

from polyprag.cli import guarded

Done = subprocess.CompletedProcess[str]
RunProgram = Callable[..., Done]
InProcess = Callable[..., int]


@pytest.fixture(scope="session")
def tiny_keys(tiny_model_folder: Path) -> tuple[str, ...]:
    """Overrides that name the tiny model."""
    return (f"base.model={tiny_model_folder}", "base.quantisation=none", "base.dtype=float32")


@pytest.fixture(scope="session")
def world_keys(tiny_keys: tuple[str, ...]) -> tuple[str, ...]:
    """Overrides of a small run on the demo world."""
    return (*tiny_keys, *WORLD)


@pytest.fixture(scope="session")
def run_program(tmp_path_factory: pytest.TempPathFactory) -> RunProgram:
    """`run_program("train.py", "key=value", …)`: the program in a subprocess, in an empty current folder."""
    folder = tmp_path_factory.mktemp("current")

    def run(program: str, *argv: object) -> Done:
        return subprocess.run(
            command(program, *argv), cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def training(
    tmp_path_factory: pytest.TempPathFactory, run_program: RunProgram, world_keys: tuple[str, ...]
) -> tuple[Path, Done]:
    """The folder of a run that `train.py` trained without interruption, and what the program said."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    return folder, run_program("train.py", f"run.dir={folder}", "logging.wandb=disabled", *world_keys)


@pytest.fixture(scope="session")
def trained(training: tuple[Path, Done]) -> Path:
    """The folder of that run."""
    folder, done = training
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def in_process() -> Iterator[InProcess]:
    """`in_process("train.py", "key=value", …)`: the exit status of the program, run here with as many threads."""

    def run(program: str, *argv: object) -> int:
        return guarded(runpy.run_path(str(ROOT / program))["main"], [str(word) for word in argv])

    threads = torch.get_num_threads()
    torch.set_num_threads(int(environment()["OMP_NUM_THREADS"]))
    yield run
    torch.set_num_threads(threads)
