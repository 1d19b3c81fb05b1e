"""A training that was interrupted and taken up again ends where an uninterrupted one does, bit for bit."""

import importlib.util
import json
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from polyprag.cli import guarded
from polyprag.errors import Interrupted
from polyprag.store import open_store, verify_store
from polyprag.training.checkpoint import LAST, AtomicCheckpointIO, Checkpointing

ROOT = Path(__file__).resolve().parents[2]
Train = Callable[..., int]

pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists and is not empty:UserWarning")


def program() -> ModuleType:
    """`train.py` of this checkout."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(tiny_model_folder, tiny_knowledge, tmp_path) -> list[str]:
    """Of a training in which random numbers matter everywhere: Gumbel samples, merged rows, an own order each pass."""
    corpus = tmp_path / "corpus.jsonl"
    rows = [
        {
            "id": passage.id,
            "title": passage.title,
            "text": passage.text,
            "qas": [
                *({"question": p.question, "answer": p.answer} for p in tiny_knowledge.augmentations[passage.id].qa),
                {"question": f"Tell the year in which {passage.title} began.", "answer": passage.text[-5:-1]},
            ],
        }
        for passage in tiny_knowledge.passages
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [
        *("data.name=jsonl", f"data.path={corpus}", "data.train_qas=2", "data.validation_questions=2"),
        *(f"base.model={tiny_model_folder}", "base.quantisation=none", "base.dtype=float32"),
        *("experts.count=4", "experts.rank=2", "routing.gumbel=true", "routing.merge_in_training=0.5"),
        *("routing.merge_passages=2", "training.epochs=4", "training.batch_tokens=128", "training.accelerator=cpu"),
        *("answering.max_new_tokens=3", "run.threads=1", "logging.wandb=disabled"),
    ]


@pytest.fixture
def train(arguments, capsys) -> Train:
    """Runs `train.py` in this process and gives its exit status."""
    module = program()

    def run(folder: Path, *more: str) -> int:
        return guarded(module.main, [*arguments, f"run.dir={folder}", *more])

    return run


def checkpoint(folder: Path) -> dict[str, Any]:
    return AtomicCheckpointIO().load_checkpoint(folder / "checkpoints" / LAST)


def differences(ours: Any, expected: Any, where: str = "") -> list[str]:
    """Places at which two nested values differ; tensors must agree bit for bit."""
    if isinstance(ours, Tensor) and isinstance(expected, Tensor):
        return [] if ours.dtype == expected.dtype and torch.equal(ours, expected) else [where]
    if isinstance(ours, dict) and isinstance(expected, dict):
        if ours.keys() != expected.keys():
            return [f"{where}: {sorted(map(str, ours.keys() ^ expected.keys()))}"]
        return [place for key in ours for place in differences(ours[key], expected[key], f"{where}/{key}")]
    if isinstance(ours, list | tuple) and isinstance(expected, list | tuple) and len(ours) == len(expected):
        pairs = enumerate(zip(ours, expected, strict=True))
        return [place for at, (one, other) in pairs for place in differences(one, other, f"{where}/{at}")]
    return [] if ours == expected else [f"{where}: {ours!r}, not {expected!r}"]


def learned(folder: Path) -> dict[str, Any]:
    """All of a checkpoint that training depends on: weights, optimiser, schedule and random state."""
    found = checkpoint(folder)
    [random_state] = [state for name, state in found["callbacks"].items() if name.startswith("Checkpointing")]
    names = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
    return {**{name: found[name] for name in names}, "random": random_state["cpu"]}


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused call says on standard error."""
    lines = capsys.readouterr().err.strip().splitlines()
    [line] = [line for line in lines if line.startswith("error: ")]
    assert line == lines[-1]
    return line


RESEEDING = (
    *("routing.top_k=1", "routing.reseed_below=0.5", "routing.reseed_every=2", "routing.load_balance=0.1"),
    *("experts.shared=2", "experts.orthogonality=0.1"),
)


@pytest.mark.parametrize("more", [(), ("training.accumulate=2",), ("training.gradient_checkpointing=true",), RESEEDING])
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
def test_resumed_equals_uninterrupted_bit_for_bit(train, stop_after, tmp_path, monkeypatch, more):
    assert train(tmp_path / "whole", *more) == 0
    expected = learned(tmp_path / "whole")
    steps = expected["global_step"]
    assert steps > 8

    stops = 0
    folder = tmp_path / "parts"
    for batches in (1, 2, 5, 3, 1000):  # in the middle of passes, at their ends, one batch after a resume
        stop_after(batches)
        resume = ("--resume", "auto") if stops else ()
        status = train(folder, *more, *resume)
        if status == 0:
            break
        assert status == 128 + signal.SIGTERM
        stops += 1
        assert checkpoint(folder)["global_step"] < steps
    assert stops >= 3
    assert status == 0
    assert differences(learned(folder), expected) == []


def test_interrupted_in_its_warm_up_and_after_it_a_run_ends_as_if_uninterrupted(train, stop_after, tmp_path):
    rows = [
        {"title": town, "text": f"{town} is a town.", "qas": [{"question": f"What is {town}?", "answer": "a town"}]}
        for town in ("Gard", "Holm", "Ister", "Joll")
    ]
    outside = tmp_path / "outside.jsonl"
    outside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    warm = ("warm_up.pool=true", "warm_up.epochs=4", f"data.outside={outside}")
    assert train(tmp_path / "whole", *warm) == 0

    folder = tmp_path / "parts"
    stop_after(2)
    assert train(folder, *warm) == 128 + signal.SIGTERM
    assert checkpoint(folder / "warm_up" / "pool")["global_step"] == 2
    assert not (folder / "checkpoints").exists()
    stop_after(checkpoint(tmp_path / "whole" / "warm_up" / "pool")["global_step"])
    assert train(folder, *warm, "--resume", "auto") == 128 + signal.SIGTERM
    assert checkpoint(folder)["global_step"] == 2
    stop_after(1000)
    assert train(folder, *warm, "--resume", "auto") == 0
    assert differences(learned(folder), learned(tmp_path / "whole")) == []
    for store in ("store", "warm_up/pool/store"):
        ours, expected = open_store(folder / store), open_store(tmp_path / "whole" / store)
        assert differences(ours.pool(), expected.pool()) == []
        assert torch.equal(ours.rows_NGK, expected.rows_NGK)


def test_random_numbers_matter_to_that_comparison(train, tmp_path):
    assert train(tmp_path / "one") == 0
    assert train(tmp_path / "same") == 0
    assert train(tmp_path / "other", "run.seed=1") == 0
    assert differences(learned(tmp_path / "same"), learned(tmp_path / "one")) == []
    assert "/random" in differences(learned(tmp_path / "other"), learned(tmp_path / "one"))


def test_a_finished_run_that_is_resumed_stays_as_it_is(train, tmp_path):
    assert train(tmp_path / "run") == 0
    before, store = learned(tmp_path / "run"), open_store(tmp_path / "run" / "store")
    assert train(tmp_path / "run", "--resume", "auto") == 0
    assert differences(learned(tmp_path / "run"), before) == []
    again = open_store(tmp_path / "run" / "store")
    assert differences(again.pool(), store.pool()) == []
    assert torch.equal(again.rows_NGK, store.rows_NGK)


def test_nothing_to_resume_means_to_begin(train, tmp_path):
    assert train(tmp_path / "run", "--resume", "auto", "training.max_steps=2") == 0
    assert checkpoint(tmp_path / "run")["global_step"] == 2


def test_after_a_kill_training_goes_on_from_the_last_checkpoint_that_was_due(train, tmp_path, monkeypatch):
    assert train(tmp_path / "whole") == 0
    original = Checkpointing.on_train_batch_end

    def killed_later(self: Checkpointing, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 6:
            raise Interrupted(signal.SIGKILL, "killed without a chance to save")
        self.saved_at = 0.0 if trainer.global_step == 4 else time.monotonic()
        original(self, trainer, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpointing, "on_train_batch_end", killed_later)
        assert train(tmp_path / "killed", "training.checkpoint_minutes=0.001") == 128 + signal.SIGKILL
    assert checkpoint(tmp_path / "killed")["global_step"] == 4

    moved = (tmp_path / "killed" / "checkpoints" / LAST).rename(tmp_path / "moved.ckpt")
    assert train(tmp_path / "new", "--resume", str(moved)) == 0
    assert differences(learned(tmp_path / "new"), learned(tmp_path / "whole")) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("experts.count=5", "experts.count"),
        ("training.learning_rate=0.1", "training.learning_rate"),
        ("data.train_qas=1", "data.train_qas"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(train, stop_after, tmp_path, capsys, change, named):
    stop_after(2)
    assert train(tmp_path / "run") == 143
    capsys.readouterr()
    before = (tmp_path / "run" / "checkpoints" / LAST).read_bytes()
    assert train(tmp_path / "run", change, "--resume", "auto") == 2
    line = one_line(capsys)
    assert f"{named} differ" in line
    assert "train anew without --resume" in line
    assert (tmp_path / "run" / "checkpoints" / LAST).read_bytes() == before


def test_a_checkpoint_of_a_corpus_that_was_changed_since_is_refused(train, stop_after, tmp_path, capsys):
    stop_after(2)
    assert train(tmp_path / "run", "--resume", "auto") == 143
    corpus = tmp_path / "corpus.jsonl"
    before = corpus.read_text(encoding="utf-8")
    corpus.write_text(before.replace("Arlen was founded in 1867.", "Arlen was founded in 1868."), encoding="utf-8")
    assert corpus.read_text(encoding="utf-8") != before
    capsys.readouterr()
    assert train(tmp_path / "run", "--resume", "auto") == 2
    line = one_line(capsys)
    assert "passages, rewrites or pairs are others than those of the checkpoint" in line
    assert not (tmp_path / "run" / "store").exists()
    corpus.write_text(before, encoding="utf-8")
    stop_after(1000)
    assert train(tmp_path / "run", "--resume", "auto") == 0


def test_what_does_not_touch_the_weights_may_change(train, stop_after, tmp_path):
    stop_after(2)
    assert train(tmp_path / "run") == 143
    stop_after(1000)
    changes = ("logging.every_steps=1", "training.checkpoint_minutes=9", "answering.batch_size=2")
    assert train(tmp_path / "run", *changes, "--resume", "auto") == 0


@pytest.mark.parametrize(
    "damage", ["empty", "one byte", "half", "last byte lost", "text", "pickle", "foreign", "missing"]
)
def test_a_damaged_checkpoint_is_refused_in_one_line(train, stop_after, tmp_path, capsys, damage):
    path = tmp_path / "run" / "checkpoints" / LAST
    stop_after(2)
    assert train(tmp_path / "run") == 143
    capsys.readouterr()
    content = path.read_bytes()
    contents = {
        "empty": b"",
        "one byte": content[:1],
        "half": content[: len(content) // 2],
        "last byte lost": content[:-1],
        "text": b"no checkpoint at all\n",
        "pickle": pickle.dumps(Path("no", "tensors"), protocol=2),
    }
    if damage == "foreign":
        torch.save({"state_dict": {}}, path)
    elif damage == "missing":
        path = tmp_path / "missing.ckpt"
    else:
        path.write_bytes(contents[damage])
    assert train(tmp_path / "run", "--resume", str(path)) == 2
    line = one_line(capsys)
    assert f"--resume {path}: " in line
    assert ("not a checkpoint of polyprag" if damage == "foreign" else "no readable checkpoint") in line


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_that_training_goes_on_from(arguments, train, tmp_path, signum):
    folder = tmp_path / "run"
    long = ["training.epochs=60", "training.validate_every=0"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments, *long, f"run.dir={folder}"]
    last = folder / "checkpoints" / LAST
    process = subprocess.Popen(
        [*command, "training.checkpoint_minutes=0.00001"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signum)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signum, said
    assert "Traceback" not in said
    assert "go on with --resume auto" in said.splitlines()[-1]
    assert not (folder / "store").exists()

    stopped_at = checkpoint(folder)["global_step"]
    assert train(folder, *long, "--resume", "auto") == 0
    assert checkpoint(folder)["global_step"] > stopped_at
    verify_store(folder / "store")
