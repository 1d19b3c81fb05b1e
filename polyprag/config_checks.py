"""What a configuration may not say: values out of range and combinations that cannot be right."""

from __future__ import annotations

from polyprag.config import Config, DataName, Normalisation
from polyprag.config_keys import config_values, keys, shown
from polyprag.errors import ConfigError

NEVER_EMPTY = (
    "base.model",
    "experts.targets",
    "training.accelerator",
    "training.strategy",
    "prag.targets",
    "evaluation.methods",
    "logging.project",
)


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
    _check_routing(config)
    _check_experts(config)
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
    files = {"data.path": data.path, "data.augmentation": data.augmentation, "data.questions": data.questions}
    if data.name is DataName.JSONL and not data.path and not data.questions:
        raise _refusal("data.name", data.name, "which needs files; set data.path or data.questions")
    for name, value in files.items():
        if data.name is not DataName.JSONL and value:
            raise _refusal(name, value, f"but data.name is {data.name}, which reads no file; set data.name=jsonl")


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


def _refusal(name: str, value: object, reason: str) -> ConfigError:
    return ConfigError(f"{name} is {shown(value)}, {reason}")
