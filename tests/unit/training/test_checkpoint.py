from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from polyprag.config import Config
from polyprag.config.loading import load_config, to_yaml
from polyprag.errors import ConfigError
from polyprag.experts.base_model import BaseModel
from polyprag.training.checkpoint import LAST, AtomicCheckpointIO, Checkpointing, resume_path
from polyprag.training.module import PoolModule
from polyprag.training.router_module import RouterModule
from polyprag.training.translator_module import TranslatorModule


@pytest.fixture
def folder(tmp_path) -> Path:
    """The folder of a checkpoint of the default configuration, learned from data whose fingerprint is `ours`."""
    content = {"polyprag_config": to_yaml(Config()), "polyprag_data": "ours"}
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / LAST)
    return tmp_path


@pytest.mark.parametrize("resume", ["auto", "path"])
def test_a_checkpoint_of_other_data_is_refused(folder, resume):
    named = "auto" if resume == "auto" else str(folder / LAST)
    says = (
        rf"^--resume {folder / LAST}: passages, rewrites or pairs are others than those .* train anew without --resume"
    )
    with pytest.raises(ConfigError, match=says):
        resume_path(named, folder, Config(), learned_from="others")
    assert resume_path(named, folder, Config(), learned_from="ours") == folder / LAST


def test_data_are_compared_only_where_both_sides_tell_them(folder):
    assert resume_path("auto", folder, Config()) == folder / LAST
    older = {"polyprag_config": to_yaml(Config())}
    AtomicCheckpointIO().save_checkpoint(older, folder / LAST)
    assert resume_path("auto", folder, Config(), learned_from="others") == folder / LAST


def test_without_a_checkpoint_or_a_wish_to_resume_there_is_no_path(folder, tmp_path):
    assert resume_path(None, folder, Config(), learned_from="others") is None
    assert resume_path("auto", tmp_path / "none", Config(), learned_from="others") is None


@pytest.mark.parametrize("content", [torch.zeros(2), [1, 2], {}])
def test_a_torch_file_of_another_kind_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ConfigError, match=rf"^--resume {tmp_path / 'other.ckpt'}: not a checkpoint of polyprag$"):
        resume_path(str(tmp_path / "other.ckpt"), tmp_path, Config())


def test_other_keys_are_named_before_other_data(folder):
    config = load_config(None, ["experts.rank=7"])
    with pytest.raises(ConfigError, match=r"experts\.rank differ from the checkpoint"):
        resume_path("auto", folder, config, learned_from="others")


@pytest.mark.parametrize("kind", [PoolModule, TranslatorModule, RouterModule])
def test_every_module_refuses_what_it_learned_inside_another_base_model(kind):
    checkpoint: dict[str, Any] = {}
    ours, other = (SimpleNamespace(base=BaseModel(None, None, "m", name), config=Config(), best={}) for name in "ab")
    kind.on_save_checkpoint(ours, checkpoint)
    kind.on_load_checkpoint(ours, checkpoint)
    says = r"^--resume: base\.model=m has other weights \(fingerprint b\) than the base model of the checkpoint \(a\); "
    with pytest.raises(ConfigError, match=says):
        kind.on_load_checkpoint(other, checkpoint)
    checkpoint["polyprag_base"] = "b-1"  # as rows of all matrices are told, which `b` lacks
    kind.on_load_checkpoint(other, checkpoint)
    del checkpoint["polyprag_base"]  # as older ones were written
    kind.on_load_checkpoint(other, checkpoint)


class TestRandomState:
    """What a process goes on with on its own device, whatever other devices were or are visible to it."""

    @pytest.fixture
    def states(self, monkeypatch) -> dict[int, Tensor]:
        """The random states of the devices that are visible, by index; a single one to begin with."""
        found = {0: torch.tensor([7])}

        def put(state: Tensor, device: torch.device) -> None:
            assert device.index in found, "no such device"
            found[device.index] = state

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: found[device.index])
        monkeypatch.setattr(torch.cuda, "set_rng_state", put)
        return found

    def started(self, folder: Path, device: str, saved: dict[str, Any] | None = None) -> Checkpointing:
        """The callback of a process on a device, after training has begun, or gone on from what was saved."""
        checkpoints = Checkpointing(folder, 1)
        if saved is not None:
            checkpoints.load_state_dict(saved)
        trainer, module = SimpleNamespace(global_rank=0), SimpleNamespace(device=torch.device(device))
        checkpoints.on_train_start(trainer, module)
        checkpoints.teardown(trainer, module, "fit")
        return checkpoints

    def saved_before(self, *cuda: int) -> dict[str, Any]:
        """As checkpoints were written that hold the states of all devices."""
        states = [torch.tensor([state]) for state in cuda]
        return {"cpu": torch.get_rng_state(), "cuda": states, "others": [], "seconds": 1.0}

    def test_that_of_the_own_device_alone_is_saved(self, tmp_path, states):
        states[1] = torch.tensor([8])
        saved = self.started(tmp_path, "cuda:1").state_dict()
        assert [state.tolist() for state in saved["cuda"]] == [[8]]
        assert self.started(tmp_path, "cpu").state_dict()["cuda"] == []

    def test_it_goes_on_on_another_device(self, tmp_path, states):
        states[1] = torch.tensor([8])
        saved = self.started(tmp_path, "cuda:1").state_dict()
        del states[1]
        self.started(tmp_path, "cuda:0", saved)
        assert states[0].tolist() == [8]

    @pytest.mark.parametrize(("visible", "device", "expected"), [(1, 0, 5), (3, 1, 6), (3, 2, 6)])
    def test_older_checkpoints_hold_those_of_all_devices(self, tmp_path, states, visible, device, expected):
        states.update({index: torch.tensor([0]) for index in range(visible)})
        self.started(tmp_path, f"cuda:{device}", self.saved_before(5, 6))
        assert states[device].tolist() == [expected]
        assert all(state.tolist() != [expected] for index, state in states.items() if index != device)

    @pytest.mark.parametrize(("device", "cuda"), [("cpu", (5, 6)), ("cuda:0", ())])
    def test_without_a_gpu_before_or_now_that_of_the_cpu_goes_on(self, tmp_path, states, device, cuda):
        saved = self.saved_before(*cuda)
        expected = torch.rand(3)
        self.started(tmp_path, device, saved)
        assert torch.equal(torch.rand(3), expected)
        assert states[0].tolist() == [7]

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_numbers_on_cuda_go_on(self, tmp_path):
        saved = self.started(tmp_path, "cuda:0").state_dict()
        expected = torch.rand(3, device="cuda:0")
        assert not torch.equal(torch.rand(3, device="cuda:0"), expected)
        self.started(tmp_path, "cuda:0", saved)
        assert torch.equal(torch.rand(3, device="cuda:0"), expected)
