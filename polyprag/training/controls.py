"""Controls that tell knowledge from answer format: the same training without routing, on all passages or on others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from polyprag.config import Config, DataName, Granularity, MethodName, RoutingConfig, WarmUpConfig
from polyprag.config.checks import validate
from polyprag.config.keys import config_difference, config_values
from polyprag.config.loading import load_config
from polyprag.records import Knowledge
from polyprag.training.outside import outside_data, outside_knowledge

CONTROLS = (MethodName.GLOBAL_LORA, MethodName.FORMAT_LORA)
_OF_OUTSIDE = ("data.", "warm_up.")
"""Keys that `format_lora` has otherwise than its run, since it learns from other passages."""
FORMAT_SUFFIX = "_format"
"""Ends the names of in-context methods that answer under `format_lora`."""


def needed_controls(methods: Iterable[str]) -> list[MethodName]:
    """The controls that some methods need: themselves, and `format_lora` for in-context methods in its form."""
    names = set(methods)
    formatted = any(name.endswith(FORMAT_SUFFIX) for name in names)
    return [name for name in CONTROLS if name in names or (formatted and name is MethodName.FORMAT_LORA)]


def control_folder(run: Path, name: MethodName) -> Path:
    """Where the control of a run is trained."""
    return run / "controls" / name.value


def control_config(config: Config, name: MethodName) -> Config:
    """The configuration that trains a control: a pool of a single expert whose rank is that of the whole pool.

    `global_lora` is trained on the run's own corpus, with the same warm-up if the run has one, `format_lora` on
    passages outside the corpus alone.

    Args:
        config: of the run.
        name: of the control.

    Raises:
        ConfigError: nothing says which passages are outside.
    """
    total_rank = config.experts.count * config.experts.rank + config.experts.shared
    control = dataclasses.replace(
        config,
        experts=dataclasses.replace(config.experts, count=1, rank=total_rank, shared=0, orthogonality=0.0),
        routing=RoutingConfig(granularity=Granularity.SHARED),
        router=dataclasses.replace(config.router, after_pool=False),
        training=dataclasses.replace(config.training, validate_every=0),
    )
    if name is MethodName.FORMAT_LORA:
        data = outside_data(config, config.controls.passages)
        control = dataclasses.replace(control, data=data, warm_up=WarmUpConfig())
    validate(control)
    return control


def control_knowledge(control: Config, name: MethodName, run: Knowledge) -> Knowledge:
    """What a control is trained on: the run's corpus, or what of the outside passages has nothing to do with it.

    Args:
        control: as `control_config` gives it.
        name: of the control.
        run: the run's corpus and questions.

    Raises:
        DataError: the outside passages cannot be used, or none is left.
    """
    return outside_knowledge(control, run).knowledge if name is MethodName.FORMAT_LORA else run


def asked_of_controls(run: Path, config: Config) -> dict[str, Any]:
    """What the trained controls of a run were asked for otherwise than in a configuration.

    Args:
        run: the run's folder.
        config: what is compared with.

    Returns:
        Values by dotted key, without those by which a control differs from its run in any case.

    Raises:
        ConfigError: a control's configuration is of another version.
    """
    asked: dict[str, Any] = {}
    for name in CONTROLS:
        path = control_folder(run, name) / "config.yaml"
        if not path.is_file():
            continue
        own = load_config(path)
        values, is_outside = config_values(own), name is MethodName.FORMAT_LORA
        due = control_config(config, MethodName.GLOBAL_LORA)  # both have all but `_OF_OUTSIDE` in common
        changed = config_difference(due, own)
        asked |= {key: values[key] for key in changed if not (is_outside and key.startswith(_OF_OUTSIDE))}
        if is_outside and (outside := _outside_file(own)) not in ("", config.data.outside):
            asked["data.outside"] = outside
    return asked


def _outside_file(control: Config) -> str:
    """What `data.outside` named when `format_lora` was trained; empty if its passages are what a corpus left over."""
    data = control.data
    return data.path if data.name is DataName.JSONL and not data.skip_passages else ""
