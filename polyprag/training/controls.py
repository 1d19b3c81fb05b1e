"""Controls that tell knowledge from answer format: the same training without routing, on all passages or on others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from polyprag.config import Config, Granularity, MethodName, RoutingConfig, WarmUpConfig
from polyprag.config.checks import validate
from polyprag.records import Knowledge
from polyprag.training.outside import outside_data, outside_knowledge

CONTROLS = (MethodName.GLOBAL_LORA, MethodName.FORMAT_LORA)
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
