"""Adapters that are made elsewhere, put into pooled layers as experts: a row's gates say which of them it meets.

Shapes: B rows, K adapters, R rank, D inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from polyprag.config import Composition, ExpertsConfig, Granularity
from polyprag.experts.pool import ExpertPool
from polyprag.experts.translator import Adapters


@final
class AdapterPool:
    """Pooled layers of a base model whose experts are as many adapters as are put in.

    Args:
        model: the base model; see `ExpertPool`.
        targets: names of the linear layers that carry adapters.
        rank: of each adapter, R.
        scale: factor on an adapter's update (alpha / r of a LoRA).
        composition: sum adds up the updates of a row's adapters, factor multiplies their mean B by their mean A.

    Raises:
        ConfigError: no linear layer of the model is a target.
    """

    def __init__(
        self, model: nn.Module, targets: Sequence[str], rank: int, scale: float, composition: Composition
    ) -> None:
        experts = ExpertsConfig(count=1, rank=rank, scale=scale, composition=composition, targets=list(targets))
        self.pool = ExpertPool(model, experts, Granularity.SHARED)
        self.composition = composition

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each layer, by its name."""
        return {name: (layer.base.in_features, layer.base.out_features) for name, layer in self.pool.layers.items()}

    def make_room(self, count: int) -> None:
        """Let every layer take so many adapters, whatever it held."""
        for layer in self.pool.layers.values():
            layer.count = count

    def put(self, adapters: Adapters) -> None:
        """Put adapters in the place of those that were; gates of as many experts must be put in force with them."""
        weights = as_experts(adapters)
        self.make_room(len(next(iter(adapters.values()))[0]))
        for name, layer in self.pool.layers.items():
            layer.A.data, layer.B.data = weights[f"{name}.A"].detach(), weights[f"{name}.B"].detach()

    def gates(self, chosen: Sequence[Sequence[int]], count: int) -> Tensor:
        """The gates [B, 1, K] under which each row meets the adapters chosen for it; without any, the base alone."""
        gates_B1K = torch.zeros(len(chosen), 1, count)
        for row, own in enumerate(chosen):
            gates_B1K[row, 0, list(own)] = 1.0 if self.composition is Composition.SUM else 1.0 / max(1, len(own))
        return gates_B1K


def as_experts(adapters: Adapters) -> dict[str, Tensor]:
    """Adapters as the weights of pooled layers: A [K·R, D] and B [O, K·R], by layer and part; differentiable."""
    weights = {}
    for name, (A_KRD, B_KOR) in adapters.items():
        weights[f"{name}.A"] = A_KRD.flatten(0, 1)
        weights[f"{name}.B"] = B_KOR.transpose(0, 1).flatten(1)
    return weights
