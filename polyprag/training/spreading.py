"""A base model too large for a device: the weights of its blocks spread over the processes that train together.

The base model is no part of the Lightning module, so Lightning's own FSDP and DeepSpeed strategies would shard the
experts alone, which are small, and leave the base whole on every device. Here it is the other way round: PyTorch's
`fully_shard` (FSDP2) spreads the frozen blocks, each of which is gathered when it is needed, and DDP averages the
gradients of the experts, which every process holds. Frozen weights have no gradients, so nothing is reduced.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from polyprag.config import BaseConfig
from polyprag.errors import ConfigError
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.training.processes import wait_for_all


def load_spread(config: BaseConfig, device: torch.device, turn: int, turns: int) -> BaseModel:
    """Load the base model and keep a share of each block's weights on this process's device.

    Every process loads the whole model into main memory first, one after the other, and moves it block by block; so a
    machine needs main memory for one copy, and a device no more than its share, one block, and what is in no block.
    4-bit weights are spread as they are; the scales that belong to them, an eighth of their size, stay whole.

    Args:
        config: name, quantisation and number type.
        device: of this process.
        turn: number of this process on its machine, from 0.
        turns: processes on a machine.

    Raises:
        ConfigError: the model has no list of blocks.
        ModelError: it cannot be found or loaded.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    base: BaseModel | None = None
    for number in range(turns):
        if number == turn:
            base = load_base(config, "cpu")
            for block in blocks_of(base.model, config.model):
                block.to(device)
                fully_shard(block, mesh=mesh, reshard_after_forward=True)
            base.model.to(device)
        wait_for_all()
    assert base is not None, "a turn is below the number of turns"
    return base


def blocks_of(model: nn.Module, name: str) -> Iterable[nn.Module]:
    """The transformer blocks of a causal language model.

    Args:
        model: of transformers.
        name: how the configuration calls it.

    Raises:
        ConfigError: it has no list of them.
    """
    blocks = getattr(model.get_decoder(), "layers", None)  # type: ignore[operator]
    if not isinstance(blocks, nn.ModuleList):
        raise ConfigError(
            f"training.strategy is fsdp, but {name} keeps no list of blocks `layers`, so they cannot be spread; use ddp"
        )
    return blocks
