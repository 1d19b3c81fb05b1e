import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polyprag.config import Config, DataName
from polyprag.config.keys import config_difference
from polyprag.config.loading import load_config, to_yaml
from polyprag.errors import ConfigError, Interrupted, StoreError
from polyprag.files import write_text
from polyprag.knowledge.loading import load_knowledge
from polyprag.records import Knowledge
from polyprag.store import open_store, verify_store
from polyprag.training import warm_up
from polyprag.training.assembly import PoolTraining, assemble
from polyprag.training.checkpoint import Checkpointing, changed_keys
from polyprag.training.trainer import prepare_process
from polyprag.training.warm_up import (
    FACTS,
    start_from,
    warm_up_config,
    warm_up_data,
    warm_up_folder,
    warm_up_pool,
    warm_up_seconds,
)

pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists and is not empty:UserWarning")

TOWNS = ("Gard", "Holm", "Ister", "Joll")


def write_towns(path: Path, towns: tuple[str, ...] = TOWNS) -> Path:
    rows = [
        {
            "title": town,
            "text": f"{town} is a town by the sea. {town} was founded in {1500 + at}.",
            "qas": [
                {"question": f"What is {town}?", "answer": "a town"},
                {"question": f"In which year did {town} begin?", "answer": str(1500 + at)},
            ],
        }
        for at, town in enumerate(towns)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def warm(configure, tmp_path) -> Callable[..., Config]:
    """`warm(*overrides)`: a run on the library with a warm-up on four towns, two passes."""
    towns = write_towns(tmp_path / "towns.jsonl")

    def configured(*overrides: str) -> Config:
        ours = ("warm_up.pool=true", "warm_up.epochs=2", f"data.outside={towns}", "experts.shared=2")
        quick = (
            "training.epochs=1",
            "training.batch_tokens=128",
            "training.accelerator=cpu",
            "router.after_pool=false",
        )
        return configure(*ours, *quick, *overrides)

    return configured


def warmed(config: Config, run: Path, **options: bool) -> Knowledge:
    knowledge = load_knowledge(config.data)
    warm_up_pool(config, run, knowledge, **options)
    return knowledge


def stored(run: Path) -> dict[str, Tensor]:
    """The experts on disk, copied from the mapped file."""
    return {name: tensor.clone() for name, tensor in open_store(warm_up_folder(run) / "store").pool().items()}


def same(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return ours.keys() == expected.keys() and all(torch.equal(ours[name], expected[name]) for name in ours)


def fresh(config: Config, knowledge: Knowledge) -> PoolTraining:
    """What training begins with, drawn by the seed."""
    prepare_process(config.run)
    return assemble(config, knowledge)


def after_assembling(config: Config, knowledge: Knowledge) -> torch.Generator:
    """The random state that assembling leaves in a process that has just begun."""
    fresh(config, knowledge)
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    return generator


class TestConfig:
    def test_only_data_and_passes_differ_from_the_training_of_the_run(self, warm):
        config = warm("training.epochs=3", "training.validate_every=1", "routing.top_k=2", "router.after_pool=true")
        ours = warm_up_config(config)
        changed = {key for key in config_difference(config, ours) if not key.startswith("data.")}
        assert changed == {"training.epochs", "training.validate_every", "warm_up.pool", "router.after_pool"}
        assert (ours.training.epochs, ours.training.validate_every) == (2, 0)
        assert (ours.data.name, ours.data.path) == (DataName.JSONL, config.data.outside)

    def test_a_checkpoint_sees_what_the_weights_depend_on(self, warm):
        before = to_yaml(warm())
        others = ("warm_up.pool=false", "warm_up.pairs=50", "warm_up.epochs=1", "data.outside=elsewhere.jsonl")
        for override in others:
            assert changed_keys(before, warm(override)) == [override.partition("=")[0]]
        assert changed_keys(before, warm("warm_up.prag=true", "prag.rank=5")) == []

    def test_the_pairs_are_the_first_ones(self, warm):
        config = warm("warm_up.pairs=21")
        write_towns(Path(config.data.outside), tuple(f"Town {at}" for at in range(30)))
        outside = warm_up_data(config, load_knowledge(config.data))
        assert [passage.title for passage in outside.passages] == [f"Town {at}" for at in range(10)]

    def test_a_run_that_leaves_nothing_outside_is_refused(self, warm):
        with pytest.raises(ConfigError, match=r"^data\.outside is empty"):
            warm_up_config(warm("data.outside="))


class TestStart:
    def test_it_is_a_run_of_its_own(self, warm, tmp_path):
        config = warm()
        warmed(config, tmp_path / "run")
        folder = warm_up_folder(tmp_path / "run")
        assert folder == tmp_path / "run" / "warm_up" / "pool"
        verify_store(folder / "store")
        assert [passage.title for passage in open_store(folder / "store").passages] == list(TOWNS)
        assert load_config(folder / "config.yaml") == warm_up_config(config)
        assert warm_up_seconds(config, tmp_path / "run") > 0
        facts = json.loads((folder / FACTS).read_text())
        assert (facts["passages"], facts["pairs"], facts["left_out"]) == (4, 8, {})

    def test_the_pool_starts_from_the_stored_tensors_exactly(self, warm, tmp_path):
        config = warm()
        knowledge = warmed(config, tmp_path)
        training = fresh(config, knowledge)
        assert not same(training.pool.state(), stored(tmp_path))
        start_from(training.pool, tmp_path, training.base)
        assert same(training.pool.state(), stored(tmp_path))
        learned = [name for name, tensor in stored(tmp_path).items() if name.endswith("B") and tensor.abs().max() > 0]
        assert any("shared" in name for name in learned)
        assert any("shared" not in name for name in learned)

    def test_what_a_half_precision_store_holds_is_trained_in_float32(self, warm, tmp_path):
        config = warm("base.dtype=bfloat16")
        knowledge = warmed(config, tmp_path)
        training = fresh(config, knowledge)
        start_from(training.pool, tmp_path, training.base)
        assert {tensor.dtype for tensor in stored(tmp_path).values()} == {torch.bfloat16}
        assert {tensor.dtype for tensor in training.pool.state().values()} == {torch.float32}
        assert same(training.pool.state(), {name: tensor.float() for name, tensor in stored(tmp_path).items()})

    def test_rows_are_drawn_as_without_a_warm_up(self, warm, tmp_path):
        config = warm()
        knowledge = load_knowledge(config.data)
        without = fresh(config, knowledge)
        warm_up_pool(config, tmp_path, knowledge)
        training = assemble(config, knowledge)
        start_from(training.pool, tmp_path, training.base)
        assert torch.equal(training.router.all_logits(), without.router.all_logits())
        assert torch.rand(1) == torch.rand(1, generator=after_assembling(config, knowledge))

    def test_training_goes_on_from_there(self, warm, tmp_path):
        config = warm()
        knowledge = warmed(config, tmp_path)
        training = fresh(config, knowledge)
        start_from(training.pool, tmp_path, training.base)
        training.fit(tmp_path, None)
        assert not same(open_store(tmp_path / "store").pool(), stored(tmp_path))
        assert len(open_store(tmp_path / "store").passages) == len(knowledge.passages)

    def test_a_pool_of_another_shape_is_refused(self, warm, tmp_path):
        knowledge = warmed(warm(), tmp_path)
        training = fresh(warm("experts.rank=3"), knowledge)
        with pytest.raises(StoreError, match="the model wants"):
            start_from(training.pool, tmp_path, training.base)

    def test_without_a_warm_up_no_seconds_are_counted(self, warm, tmp_path):
        assert warm_up_seconds(warm("warm_up.pool=false"), tmp_path) == 0


class TestAgain:
    @pytest.fixture
    def trainings(self, monkeypatch) -> list[Path | None]:
        """The checkpoints that warm-ups went on from, None for a fresh one."""
        seen: list[Path | None] = []
        fit = PoolTraining.fit

        def recorded(self: PoolTraining, folder: Path, checkpoint: Path | None) -> bool:
            seen.append(checkpoint)
            return fit(self, folder, checkpoint)

        monkeypatch.setattr(PoolTraining, "fit", recorded)
        return seen

    def test_what_is_there_is_taken_as_it_is(self, warm, tmp_path, trainings, capsys):
        warmed(warm(), tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        capsys.readouterr()
        for options in ({}, {"resume": True}, {"dry_run": True}):
            warmed(warm("prag.rank=3", "warm_up.prag=true", "evaluation.seed=5"), tmp_path, **options)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert trainings == [None]
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("override", ["training.learning_rate=0.01", "warm_up.epochs=1", "run.seed=1"])
    def test_another_configuration_is_trained_anew(self, warm, tmp_path, trainings, override):
        warmed(warm(), tmp_path)
        first = stored(tmp_path)
        warmed(warm(override), tmp_path)
        assert trainings == [None, None]
        assert not same(stored(tmp_path), first)

    def test_other_pairs_under_the_same_name_are_trained_anew_even_on_resume(self, warm, tmp_path, trainings):
        config = warm()
        warmed(config, tmp_path)
        write_towns(Path(config.data.outside), TOWNS[1:])
        warmed(config, tmp_path, resume=True)
        assert trainings == [None, None]
        assert [passage.title for passage in open_store(warm_up_folder(tmp_path) / "store").passages] == [*TOWNS[1:]]

    def test_a_kill_before_the_first_save_leaves_nothing_of_other_pairs(self, warm, tmp_path, monkeypatch):
        config = warm()
        warmed(config, tmp_path / "killed")
        write_towns(Path(config.data.outside), (*TOWNS[1:], "Kell"))
        warmed(config, tmp_path / "whole")
        monkeypatch.setattr(PoolTraining, "fit", _killed)
        with pytest.raises(KeyboardInterrupt):
            warmed(config, tmp_path / "killed", resume=True)
        monkeypatch.undo()
        warmed(config, tmp_path / "killed", resume=True)
        assert same(stored(tmp_path / "killed"), stored(tmp_path / "whole"))

    def test_a_checkpoint_of_other_pairs_than_are_noted_is_refused(self, warm, tmp_path):
        config = warm()
        warmed(config, tmp_path)
        write_towns(Path(config.data.outside), TOWNS[1:])
        other = warm_up_data(config, load_knowledge(config.data)).fingerprint
        write_text(warm_up_folder(tmp_path) / FACTS, json.dumps({"sha256": other}))
        with pytest.raises(ConfigError, match="pairs are others than those of the checkpoint"):
            warmed(config, tmp_path, resume=True)

    @pytest.mark.parametrize("damage", ["store", "facts"])
    def test_a_damaged_one_is_made_good(self, warm, tmp_path, trainings, damage):
        warmed(warm(), tmp_path)
        first, folder = stored(tmp_path), warm_up_folder(tmp_path)
        if damage == "store":
            (folder / "store" / "pool.safetensors").write_bytes(b"x")
        else:
            write_text(folder / FACTS, "[1")
        warmed(warm(), tmp_path)
        assert len(trainings) == 2
        assert same(stored(tmp_path), first)

    def test_interrupted_and_resumed_it_ends_as_if_uninterrupted(self, warm, tmp_path, trainings, monkeypatch):
        config = warm()
        warmed(config, tmp_path / "whole")
        original, batches = Checkpointing.on_train_batch_end, iter(range(3))

        def stopping(self: Checkpointing, *arguments: Any) -> None:
            if next(batches, 9) == 2:
                self.signum = signal.SIGTERM
            original(self, *arguments)

        monkeypatch.setattr(Checkpointing, "on_train_batch_end", stopping)
        with pytest.raises(Interrupted):
            warmed(config, tmp_path / "parts")
        assert not (warm_up_folder(tmp_path / "parts") / "store").exists()
        warmed(config, tmp_path / "parts", resume=True)
        assert trainings[:2] == [None, None]
        assert trainings[2] is not None
        assert same(stored(tmp_path / "parts"), stored(tmp_path / "whole"))

    def test_a_dry_run_tells_sizes_and_leaves_nothing(self, warm, tmp_path, trainings, capsys):
        warmed(warm(), tmp_path / "run", dry_run=True)
        said = capsys.readouterr().out
        assert said.startswith("warm-up: 4 outside passages with 8 pairs\n")
        assert "tasks (passages)       4" in said
        assert not (tmp_path / "run").exists()
        assert trainings == []

    def test_a_kill_before_the_last_note_trains_nothing_twice(self, warm, tmp_path, trainings, monkeypatch):
        config = warm()
        monkeypatch.setattr(warm_up, "open_store", _killed)
        with pytest.raises(KeyboardInterrupt):
            warmed(config, tmp_path)
        monkeypatch.undo()
        first = stored(tmp_path)
        written = (warm_up_folder(tmp_path) / "store" / "manifest.json").stat().st_mtime_ns
        warmed(config, tmp_path, resume=True)
        assert (warm_up_folder(tmp_path) / "store" / "manifest.json").stat().st_mtime_ns == written
        assert same(stored(tmp_path), first)


def _killed(*arguments: Any) -> None:
    raise KeyboardInterrupt
