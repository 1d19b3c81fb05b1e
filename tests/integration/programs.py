"""How the tests call the programs of this repository."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORLD = (
    *("data.world.passages=20", "data.world.questions=8", "data.world.validation_questions=6"),
    *("data.world.phrasings=1", "data.world.qa_per_fact=1"),
    *("experts.count=3", "experts.rank=2", "tasks.max_tokens=512"),
    *("training.epochs=1", "training.batch_tokens=512", "training.validation_questions=4"),
    *("router.steps=20", "router.validate_every=10"),
    *("answering.passages=1", "answering.shots=0", "answering.combine=sum", "answering.max_new_tokens=4"),
    *("prag.learning_rate=0.01", "evaluation.bootstrap=100"),
)
"""A demo world of 20 passages, trained in one pass, with nothing left to choose."""


def environment() -> dict[str, str]:
    """The environment of a subprocess: one thread, no network, no Weights & Biases key."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return {**inherited, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def command(program: str, *argv: object) -> list[str]:
    """The command line of a program of this repository."""
    return [sys.executable, str(ROOT / program), *map(str, argv)]


def snapshot(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder with its content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
