import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from polyprag.config import Config
from polyprag.config.weights import changed_keys
from polyprag.errors import ConfigError
from polyprag.knowledge.loading import load_knowledge
from polyprag.records import Knowledge
from polyprag.store import Store, open_store
from polyprag.training import assembly
from polyprag.training.assembly import assemble
from polyprag.training.checkpoint import resume_path
from polyprag.training.router_stage import train_router
from polyprag.training.trainer import prepare_process, told_device

pytestmark = pytest.mark.filterwarnings(
    "ignore:Experiment logs directory .* exists and is not empty:UserWarning",
    "ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning",  # the name that all of transformers 5 knows
)

Train = Callable[..., None]


@pytest.fixture
def quick(configure) -> Callable[..., Config]:
    """`quick(*overrides)`: a training on the library of a few steps, of the pool alone."""
    few = ("training.epochs=1", "training.accelerator=cpu", "training.validate_every=0", "router.after_pool=false")

    def configured(*overrides: str) -> Config:
        config: Config = configure(*few, *overrides)
        return config

    return configured


def train(config: Config, folder: Path, knowledge: Knowledge | None = None, *, resume: bool = False) -> None:
    """What `train.py` does for a pool."""
    knowledge = knowledge or load_knowledge(config.data)
    prepare_process(config.run)
    checkpoint = resume_path("auto" if resume else None, folder / "checkpoints", config)
    assemble(config, knowledge).fit(folder, checkpoint)


def stored(folder: Path) -> Store:
    return open_store(folder / "store")


def test_the_device_is_told_before_training_and_in_its_plan(quick, tmp_path, capsys):
    config = quick("training.accelerator=auto")
    training = assemble(config, load_knowledge(config.data))
    told = told_device(training.base.device, config.training)
    assert f"device                 {told}" in training.plan(tmp_path)
    assert not capsys.readouterr().out
    training.fit(tmp_path, None)
    assert f"training on {told}" in capsys.readouterr().out.splitlines()


class TestStore:
    """Which store is kept when a training is taken up again after its last step."""

    @pytest.fixture
    def killed_before_storing(self, monkeypatch) -> Train:
        """`killed_before_storing(config, folder, ...)`: a training that is stopped between checkpoint and store."""

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        def run(*arguments: Any) -> None:
            with monkeypatch.context() as patched:
                patched.setattr(assembly, "save_store", killed)
                with pytest.raises(KeyboardInterrupt):
                    train(*arguments)

        return run

    def test_its_own_is_kept(self, quick, tmp_path):
        config = quick()
        train(config, tmp_path)
        first = stored(tmp_path)
        assert first.manifest.training["learned_from"] == load_knowledge(config.data).fingerprint
        train(quick("prag.rank=7"), tmp_path, resume=True)
        assert stored(tmp_path).manifest.digest == first.manifest.digest

    def test_that_of_another_configuration_is_replaced(self, quick, tmp_path, killed_before_storing):
        train(quick(), tmp_path)
        other = quick("training.learning_rate=0.01")
        killed_before_storing(other, tmp_path)
        assert changed_keys(stored(tmp_path).config_yaml, other) == ["training.learning_rate"]
        train(other, tmp_path, resume=True)
        assert changed_keys(stored(tmp_path).config_yaml, other) == []

    def test_that_of_other_passages_is_replaced(self, quick, tmp_path, killed_before_storing):
        config = quick()
        train(config, tmp_path)
        known = load_knowledge(config.data)
        first = dataclasses.replace(known.passages[0], text=known.passages[0].text.replace("Arlen", "Ostra"))
        other = dataclasses.replace(known, passages=(first, *known.passages[1:]))
        killed_before_storing(config, tmp_path, other)
        train(config, tmp_path, other, resume=True)
        assert stored(tmp_path).passages[0].text == first.text
        assert stored(tmp_path).manifest.training["learned_from"] == other.fingerprint

    def test_one_that_tells_neither_data_nor_another_configuration_is_kept(self, quick, tmp_path, monkeypatch):
        save = assembly.save_store

        def as_before(*arguments: Any) -> None:
            *others, facts = arguments
            save(*others, {name: value for name, value in facts.items() if name != "learned_from"})

        with monkeypatch.context() as patched:
            patched.setattr(assembly, "save_store", as_before)
            train(quick(), tmp_path)
        first = stored(tmp_path).manifest
        assert "learned_from" not in first.training
        train(quick(), tmp_path, resume=True)
        assert stored(tmp_path).manifest.digest == first.digest


def test_a_base_model_that_was_replaced_is_refused_at_a_resume(quick, tmp_path, tiny_model_folder, other_model_folder):
    model = shutil.copytree(tiny_model_folder, tmp_path / "model")
    config = quick(f"base.model={model}", "training.max_steps=2")
    train(config, tmp_path / "run")
    first = stored(tmp_path / "run").manifest.digest
    train(config, tmp_path / "run", resume=True)
    shutil.copytree(other_model_folder, model, dirs_exist_ok=True)
    with pytest.raises(ConfigError, match=rf"^--resume: base\.model={model} has other weights"):
        train(config, tmp_path / "run", resume=True)
    assert stored(tmp_path / "run").manifest.digest == first


class TestAfterwards:
    """The query router's stage goes on with the base model and the experts in it."""

    @pytest.mark.parametrize("recomputes", ["true", "false"])
    def test_the_base_model_is_in_evaluation_mode(self, quick, tmp_path, recomputes):
        config = quick(f"training.gradient_checkpointing={recomputes}", "training.max_steps=2")
        training = assemble(config, load_knowledge(config.data))
        training.fit(tmp_path, None)
        assert not training.base.model.training

    def test_experts_and_rows_are_where_the_base_model_is(self, quick, tmp_path, monkeypatch):
        config = quick()
        training = assemble(config, load_knowledge(config.data))
        training.base.model.to("meta")
        left_on_the_cpu = SimpleNamespace(is_global_zero=False, global_step=0, fit=lambda *_, **__: None)
        monkeypatch.setattr(assembly, "build_trainer", lambda *_: left_on_the_cpu)
        assert {parameter.device.type for parameter in training.module.parameters()} == {"cpu"}
        training.fit(tmp_path, None)
        assert {parameter.device.type for parameter in training.module.parameters()} == {"meta"}

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_router_is_fine_tuned_behind_it_on_cuda(self, quick, tmp_path):
        config = quick(
            *("training.accelerator=gpu", "training.gradient_checkpointing=true", "training.max_steps=2"),
            *("router.steps=2", "router.lm_steps=2", f"run.dir={tmp_path}"),
        )
        training = assemble(config, load_knowledge(config.data))
        training.fit(tmp_path, None)
        train_router(config, tmp_path, base=training.base, pool=training.pool)
        assert {parameter.device.type for parameter in training.pool.parameters()} == {"cuda"}
        assert (tmp_path / "router").is_dir()
