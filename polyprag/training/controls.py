"""Controls that tell knowledge from answer format: the same training without routing, on all passages or on others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from polyprag.config import Config, DataConfig, DataName, Granularity, MethodName, RoutingConfig
from polyprag.config_checks import validate
from polyprag.errors import ConfigError

CONTROLS = (MethodName.GLOBAL_LORA, MethodName.FORMAT_LORA)


def control_folder(run: Path, name: MethodName) -> Path:
    """Where the control of a run is trained."""
    return run / "controls" / name.value


def control_config(config: Config, name: MethodName) -> Config:
    """The configuration that trains a control: a pool of a single expert whose rank is that of the whole pool.

    `global_lora` is trained on the run's own corpus, `format_lora` on passages outside it: for the demo world those of
    another seed, for files `controls.outside`, or what `data.max_passages` leaves over.

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
        control = dataclasses.replace(control, data=_outside(config))
    validate(control)
    return control


def _outside(config: Config) -> DataConfig:
    """Data with no passage of the run's corpus."""
    data, controls = config.data, config.controls
    if data.name is DataName.DEMO:
        world = dataclasses.replace(data.world, seed=data.world.seed + 1, passages=controls.passages, questions=0)
        return dataclasses.replace(data, world=world, max_passages=0, limit=0, types=[])
    if controls.outside:
        return DataConfig(
            name=DataName.JSONL, path=controls.outside, train_qas=data.train_qas, max_passages=controls.passages
        )
    if data.path and data.max_passages:
        skipped = data.skip_passages + data.max_passages
        return dataclasses.replace(
            data, questions="", skip_passages=skipped, max_passages=controls.passages, limit=0, types=[]
        )
    raise ConfigError(
        "controls.outside is empty, and data.max_passages leaves no passage over: format_lora needs passages outside "
        "the corpus; name a file of passages with pairs in controls.outside"
    )
