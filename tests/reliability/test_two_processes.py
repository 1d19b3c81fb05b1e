"""Two processes that train together do what one does with the same global batch, stop together, and go on together."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from polyprag.store import open_store, verify_store
from polyprag.training.checkpoint import LAST, AtomicCheckpointIO

ROOT = Path(__file__).resolve().parents[2]
CURVES = ("train/loss", "train/gradient_norm", "train/load_balance", "routing/entropy", "routing/dead", "val/f1")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tiny_knowledge, tmp_path_factory) -> Path:
    """Three passages with pairs to train and to validate on."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    with path.open("w", encoding="utf-8") as lines:
        for passage in tiny_knowledge.passages:
            pairs = [{"question": p.question, "answer": p.answer} for p in tiny_knowledge.augmentations[passage.id].qa]
            for asked in ("Tell when {} began.", "What is {}'s first year?", "Since when is there {}?", "{} began in?"):
                pairs.append({"question": asked.format(passage.title), "answer": passage.text[-5:-1]})
            lines.write(json.dumps({"title": passage.title, "text": passage.text, "qas": pairs}) + "\n")
    return path


@pytest.fixture(scope="module")
def command(tiny_model_folder, corpus) -> list[str]:
    """A training in which everything random is on, and whose last step has a single batch."""
    return [
        *(sys.executable, str(ROOT / "train.py"), "data.name=jsonl", f"data.path={corpus}", "data.train_qas=2"),
        *("data.validation_questions=3", f"base.model={tiny_model_folder}", "base.quantisation=none"),
        *("base.dtype=float32", "experts.count=4", "experts.rank=2", "routing.gumbel=true", "routing.load_balance=0.1"),
        *("routing.merge_in_training=0.5", "routing.merge_passages=2", "routing.reseed_below=0.9"),
        *(
            "routing.reseed_every=2",
            "tasks.pack_examples=1",
            "training.epochs=3",
            "training.batch_tokens=220",
            "training.validate_every=3",
        ),
        *("training.accelerator=cpu", "answering.max_new_tokens=3", "router.steps=2", "run.threads=1"),
        *("logging.wandb=disabled", "logging.every_steps=1"),
    ]


def run(command: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *more], capture_output=True, text=True, timeout=600, check=False)


def trained(command: list[str], *more: str) -> None:
    done = run(command, *more)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def together(command, tmp_path_factory) -> Path:
    """The run of two processes."""
    folder = tmp_path_factory.mktemp("runs") / "together"
    trained(command, f"run.dir={folder}", "training.devices=2")
    return folder


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Every logged value by its name and step; a resumed run goes on in a file of its own."""
    found: dict[str, dict[int, float]] = {name: {} for name in CURVES}
    for path in sorted((folder / "logs").rglob("metrics.csv")):
        with path.open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                for name in CURVES:
                    if row.get(name):
                        found[name][int(row["step"])] = float(row[name])
    return found


def assert_same_training(ours: Path, expected: Path, tolerance: float, unlogged: int = 0) -> None:
    """The same curves and the same store, to a tolerance in absolute terms; a stop leaves its last step unlogged."""
    for name, curve in curves(expected).items():
        own = curves(ours)[name]
        assert len(curve) - unlogged <= len(own) <= len(curve) != 0, name
        assert own == pytest.approx({step: curve[step] for step in own}, rel=0, abs=tolerance), name
    one, other = open_store(ours / "store"), open_store(expected / "store")
    for name, tensor in other.pool().items():
        torch.testing.assert_close(one.pool()[name], tensor, rtol=0, atol=tolerance)
    torch.testing.assert_close(one.rows_NGK, other.rows_NGK, rtol=0, atol=tolerance)


def test_two_processes_equal_one_with_the_same_global_batch(command, together, tmp_path):
    trained(command, f"run.dir={tmp_path / 'alone'}", "training.accumulate=2")
    assert_same_training(together, tmp_path / "alone", 1e-5)
    assert "whole" not in curves(together)
    batches = AtomicCheckpointIO().load_checkpoint(tmp_path / "alone" / "checkpoints" / LAST)
    assert batches["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["batches"] % 2 == 1
    assert sorted(path.name for path in together.iterdir()) == sorted(
        [*(path.name for path in (tmp_path / "alone").iterdir()), "processes"]
    )
    verify_store(together / "store")


def test_neither_spreading_the_base_model_nor_a_signal_makes_a_difference(command, together, tmp_path):
    folder = tmp_path / "run"
    both = [*command, f"run.dir={folder}", "training.devices=2", "training.strategy=fsdp"]
    process = subprocess.Popen(
        [*both, "training.checkpoint_minutes=0.00001"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    last = folder / "checkpoints" / LAST
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    assert "go on with --resume auto" in said.splitlines()[-1]
    assert not (folder / "store").exists()
    state = AtomicCheckpointIO().load_checkpoint(last)["callbacks"]["Checkpointing"]
    assert len(state["others"]) == 1
    trained(both, "--resume", "auto")
    assert_same_training(folder, together, 0.0, unlogged=1)
