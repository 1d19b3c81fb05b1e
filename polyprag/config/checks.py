"""What a configuration may not say: values out of range and combinations that cannot be right."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from polyprag.config import (
    BENCHMARKS,
    AugmentBy,
    Config,
    DataConfig,
    DataName,
    DataPart,
    Normalisation,
    PromptStyle,
    RetrievalBackend,
)
from polyprag.config.keys import config_values, keys, shown
from polyprag.config.sharding import Shard
from polyprag.errors import ConfigError

SHORTEST_CHAIN = 64
"""Tokens below which most chains of thought end before their answer."""
NEVER_EMPTY = (
    "base.model",
    "experts.targets",
    "training.accelerator",
    "training.strategy",
    "prag.targets",
    "evaluation.methods",
    "logging.project",
)
ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
STRATEGIES = ("auto", "ddp", "fsdp")
"""How processes that train together share the base model: whole in each, or spread over them."""


def validate(config: Config) -> None:
    """Refuse a configuration that no run could follow.

    Args:
        config: a configuration whose types are right, as `load_config` returns it.

    Raises:
        ConfigError: one line with the key, its value and the remedy.
    """
    _check_ranges(config)
    _check_presence(config)
    _check_data(config)
    _check_augmentation(config)
    _check_routing(config)
    _check_experts(config)
    _check_retrieval(config)
    _check_judge(config)
    _check_prompt(config)
    _check_processes(config)
    if config.training.max_steps == 0:
        raise _refusal("training.max_steps", 0, "which trains nothing; use 1 or more, or -1 for no limit")


def _check_ranges(config: Config) -> None:
    values = config_values(config)
    for name, key in keys().items():
        value = values[name]
        if key.allowed is not None and value not in key.allowed:
            raise _refusal(name, value, f"but must be {key.allowed}")


def _check_presence(config: Config) -> None:
    values = config_values(config)
    for name in NEVER_EMPTY:
        if not values[name]:
            raise _refusal(name, values[name], f"which is empty; give {keys()[name].help}")
    for name, key in keys().items():
        if not key.is_list:
            continue
        items = values[name]
        if "" in items:
            raise _refusal(name, items, "with an empty element; remove it")
        repeated = [item for item in items if items.count(item) > 1]
        if repeated:
            raise _refusal(name, items, f"which names {repeated[0]} more than once; name each once")


def _check_data(config: Config) -> None:
    data = config.data
    if data.name is DataName.DEMO:
        _check_demo_data(data)
    elif data.name is DataName.JSONL and not data.path and not data.questions:
        raise _refusal("data.name", data.name, "which needs files; set data.path or data.questions")
    elif data.name in BENCHMARKS:
        if not data.path:
            raise _refusal("data.path", "", f"but data.name is {data.name}; name its published file or folder")
        if data.questions:
            reason = f"but {data.name} brings its own; leave it empty, or set data.name=jsonl"
            raise _refusal("data.questions", data.questions, reason)
    if data.part is DataPart.OUTSIDE and data.name not in BENCHMARKS:
        raise _refusal("data.part", data.part, "which only benchmarks have; use test, or see data.outside")
    if data.collection and data.part is DataPart.TEST:
        _check_collection(data)


def _check_demo_data(data: DataConfig) -> None:
    files = {
        "data.path": data.path,
        "data.augmentation": data.augmentation,
        "data.questions": data.questions,
        "data.collection": data.collection,
    }
    for name, value in files.items():
        if value:
            raise _refusal(name, value, f"but data.name is {data.name}, which reads no file; set data.name=jsonl")
    if data.retrieved:
        raise _refusal("data.retrieved", data.retrieved, f"but data.name is {data.name}, which is kept whole; use 0")


def _check_collection(data: DataConfig) -> None:
    if not data.retrieved:
        reason = "but data.collection is set; say how many passages a question retrieves from it, such as 3"
        raise _refusal("data.retrieved", 0, reason)
    if data.name is DataName.JSONL and data.path:
        raise _refusal("data.path", data.path, "but data.collection is set, which takes its place; leave one empty")
    for name, value in {"data.skip_passages": data.skip_passages, "data.max_passages": data.max_passages}.items():
        if value:
            raise _refusal(name, value, "but data.collection is set, of which data.retrieved says what is used; use 0")


def _check_augmentation(config: Config) -> None:
    asked = config.augmentation
    if asked.by is not AugmentBy.NONE and asked.rewrites + asked.pairs == 0:
        raise _refusal("augmentation.pairs", 0, "and so is augmentation.rewrites; ask for one of them, or by=none")
    if asked.by is AugmentBy.FILE and not asked.file:
        raise _refusal("augmentation.file", asked.file, "but augmentation.by is file; name the file")
    if asked.by is AugmentBy.SERVER:
        if not asked.model:
            raise _refusal("augmentation.model", asked.model, "but augmentation.by is server; name the server's model")
        if reason := _url_fault(asked.url):
            raise _refusal("augmentation.url", asked.url, f"{reason}; use for example http://localhost:8000/v1")


def _url_fault(url: str) -> str:
    """What is wrong with a server's base URL; empty if nothing is."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or any(letter.isspace() or not letter.isprintable() for letter in url):
        return "which is no http or https address"
    if parts.query or parts.fragment or parts.path.rstrip("/").endswith("/completions"):
        return "which goes on after the base URL"
    return ""


def _check_routing(config: Config) -> None:
    routing, count = config.routing, config.experts.count
    if routing.top_k > count:
        raise _refusal("routing.top_k", routing.top_k, f"but there are {count} experts; use 0 to {count}")
    if routing.gumbel and routing.normalisation is not Normalisation.SIGMOID:
        reason = f"but routing.normalisation is {routing.normalisation}; use sigmoid, or routing.gumbel=false"
        raise _refusal("routing.gumbel", "true", reason)
    if routing.merge_in_training > 0 and routing.merge_passages == 1:
        reason = "which merges a row with itself; use 2 or more, or routing.merge_in_training=0"
        raise _refusal("routing.merge_passages", 1, reason)
    choices = {
        "routing.load_balance": routing.load_balance,
        "routing.entropy": routing.entropy,
        "routing.reseed_below": routing.reseed_below,
    }
    for name, value in choices.items():
        if value > 0 and count == 1:
            raise _refusal(name, value, "but experts.count is 1, which leaves no choice; use 0")
    if routing.entropy > 0 and routing.top_k == 1:
        reason = "but routing.top_k is 1, which leaves one gate of 1; use routing.entropy=0"
        raise _refusal("routing.entropy", routing.entropy, reason)


def _check_experts(config: Config) -> None:
    experts = config.experts
    if experts.orthogonality > 0 and experts.shared == 0:
        reason = "but experts.shared is 0, so there is no expert to be orthogonal to; set its rank, or use 0"
        raise _refusal("experts.orthogonality", experts.orthogonality, reason)


def _check_retrieval(config: Config) -> None:
    asked = config.retrieval
    if asked.backend is RetrievalBackend.ELASTICSEARCH:
        if reason := _url_fault(asked.url):
            raise _refusal("retrieval.url", asked.url, f"{reason}; use for example http://localhost:9200")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,199}", asked.index):
            reason = "which no index may be called; use lower-case letters, digits, '-', '_' and '.'"
            raise _refusal("retrieval.index", asked.index, reason)
    if asked.backend is RetrievalBackend.DENSE and not asked.encoder:
        raise _refusal("retrieval.encoder", "", f"which is empty; give {keys()['retrieval.encoder'].help}")


def _check_prompt(config: Config) -> None:
    asked = config.answering
    if asked.prompt is PromptStyle.DIRECT:
        return
    if asked.max_new_tokens < SHORTEST_CHAIN:
        reason = (
            f"but answering.prompt is {asked.prompt}, which thinks before it answers; use 128 as in PRAG's paper, or "
            f"{SHORTEST_CHAIN} at least"
        )
        raise _refusal("answering.max_new_tokens", asked.max_new_tokens, reason)
    if asked.shots >= 0:
        reason = f"but answering.prompt is {asked.prompt}, whose examples are in all prompts; leave it at -1"
        raise _refusal("answering.shots", asked.shots, reason)


def _check_judge(config: Config) -> None:
    asked = config.evaluation
    if asked.judge and (reason := _url_fault(asked.judge_url)):
        raise _refusal("evaluation.judge_url", asked.judge_url, f"{reason}; use for example http://localhost:8000/v1")


def _check_processes(config: Config) -> None:
    Shard.of(config.run.shard)
    training, router = config.training, config.router
    if training.accelerator not in ACCELERATORS:
        reason = f"but must be {', '.join(ACCELERATORS[:-1])} or {ACCELERATORS[-1]}"
        raise _refusal("training.accelerator", training.accelerator, reason)
    name, strategy = "training.strategy", training.strategy
    if strategy.startswith("deepspeed"):
        reason = (
            "which could shard the small experts alone, and not step sparse task rows; use ddp, or fsdp if the base"
        )
        raise _refusal(name, strategy, f"{reason} model is too large for a device")
    if strategy not in STRATEGIES:
        raise _refusal(name, strategy, f"but must be {', '.join(STRATEGIES[:-1])} or {STRATEGIES[-1]}")
    if strategy != "fsdp":
        return
    if training.devices * training.nodes == 1:
        raise _refusal(name, strategy, "but one process trains, so there is nobody to share with; set training.devices")
    if router.after_pool and not router.encoder and (router.layers or router.lm_steps):
        reason = (
            "so router.layers and router.lm_steps find no whole base model; set both to 0, or router.after_pool=false"
        )
        raise _refusal(name, strategy, reason)


def _refusal(name: str, value: object, reason: str) -> ConfigError:
    return ConfigError(f"{name} is {shown(value)}, {reason}")
