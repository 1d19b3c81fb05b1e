"""The expert pool: K latent LoRA experts around each chosen linear layer, mixed by a gate vector per row.

Shapes: B rows, D inputs, O outputs, K experts, R rank, S rank of the shared expert, G routed groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyprag.config import ExpertsConfig, Granularity
from polyprag.errors import ConfigError, StoreError
from polyprag.experts.gate_context import GateContext
from polyprag.experts.layer import PooledLinear

__all__ = ["ExpertPool", "GateContext", "PooledLinear"]

SAME_INPUTS = (("gate_proj", "up_proj"), ("q_proj", "k_proj", "v_proj"))
"""Names of linear layers that transformers calls one after the other on the same tensor."""


class ExpertPool:
    """Pooled layers put in place of linear layers of the caller's base model, and the context that gates them.

    Making a pool changes the model: the layers live inside it; the pool knows them by name, in the order of the model.

    Args:
        model: the base model; its chosen linear layers are replaced by pooled ones, all its weights are frozen.
        config: count, rank, scale, composition, target layers, and rank of the shared expert.
        granularity: which layers share a routed group.

    Raises:
        ConfigError: no linear layer of the model is a target.
    """

    def __init__(self, model: nn.Module, config: ExpertsConfig, granularity: Granularity) -> None:
        self.config = config
        self.context = GateContext()
        self.layers: dict[str, PooledLinear] = {}
        targets = _target_layers(model, config)
        self.group_names = _group_names(list(targets), granularity)
        model.requires_grad_(False)
        for name, base in targets.items():
            group = self.group_names.index(_group_of(name, granularity))
            layer = PooledLinear(
                base,
                group,
                config.count,
                config.rank,
                config.scale,
                config.composition,
                self.context,
                config.shared,
            )
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer)
            self.layers[name] = layer
        _link_sharing_inputs(self.layers)

    @property
    def groups(self) -> int:
        """Number of routed groups, G."""
        return len(self.group_names)

    def parameters(self) -> list[nn.Parameter]:
        """All expert weights, layer by layer."""
        return list(self._named().values())

    @contextmanager
    def gated(self, gates_BGK: Tensor) -> Iterator[None]:
        """Answer with these gates, [B, G, K], inside the block; outside the base model runs alone."""
        self.context.activate(gates_BGK)
        try:
            yield
        finally:
            self.context.deactivate()

    @contextmanager
    def at_strength(self, factor: float) -> Iterator[None]:
        """Multiply the update of all experts, the shared one included, by a factor inside the block.

        Args:
            factor: 1 changes nothing, 0 leaves the base model alone.
        """
        try:
            for layer in self.layers.values():
                layer.scale = self.config.scale * factor
            yield
        finally:
            for layer in self.layers.values():
                layer.scale = self.config.scale

    def orthogonality(self) -> Tensor:
        """How far the experts' rows lie along those of the shared expert; 0 if they are orthogonal in every layer.

        The mean over layers of ‖Ŝ Âᵀ‖²_F, the sum of squared cosines between the rows of A_shared [S, D] and those of
        A [K·R, D]: O-LoRA's penalty (arXiv 2310.14152) on rows of unit length, so that shrinking them does not lower
        it. A_shared counts as fixed: the experts give way to it, not it to them.
        """
        penalties = []
        for layer in self.layers.values():
            assert layer.shared_A is not None, "a pool without a shared expert has nothing to be orthogonal to"
            shared_SD = F.normalize(layer.shared_A.detach(), dim=1)
            penalties.append((shared_SD @ F.normalize(layer.A, dim=1).t()).square().sum())
        return torch.stack(penalties).mean()

    def state(self) -> dict[str, Tensor]:
        """The expert weights by name, detached.

        `<layer>.A` [K·R, D] and `<layer>.B` [O, K·R]; `<layer>.shared_A` [S, D] and `<layer>.shared_B` [O, S] where
        there is a shared expert.
        """
        return {name: parameter.detach() for name, parameter in self._named().items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Put stored weights in place and take over their number type.

        Args:
            state: as `state` gives them.

        Raises:
            StoreError: a name or a shape does not match; nothing is loaded then.
        """
        own = self.state()
        unmatched = sorted(own.keys() ^ state.keys())
        if unmatched:
            raise StoreError(f"stored experts do not fit the model: {len(unmatched)} unmatched, such as {unmatched[0]}")
        for name, tensor in state.items():
            if tensor.shape != own[name].shape:
                raise StoreError(
                    f"stored expert {name} has shape {list(tensor.shape)}, the model wants {list(own[name].shape)}"
                )
        for name, parameter in self._named().items():
            parameter.data = state[name].to(parameter.device)

    def _named(self) -> dict[str, nn.Parameter]:
        """The expert weights as parameters, by layer and part."""
        return {
            f"{name}.{part}": parameter
            for name, layer in self.layers.items()
            for part, parameter in layer.named_parameters(recurse=False)
        }


def _target_layers(model: nn.Module, config: ExpertsConfig) -> dict[str, nn.Linear]:
    """The linear layers that carry experts, by qualified name, in the model's order."""
    wanted = set(config.targets)
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    targets = {
        name: layer
        for name, layer in linears.items()
        if name.rpartition(".")[2] in wanted and block_of(name) >= config.first_layer
    }
    missing = wanted - {name.rpartition(".")[2] for name in targets}
    if missing:
        known = sorted({name.rpartition(".")[2] for name in linears})
        raise ConfigError(
            f"experts.targets: no linear layer named {', '.join(sorted(missing))!r} "
            f"from block {config.first_layer} on; the model has {', '.join(known)}"
        )
    return targets


def _link_sharing_inputs(layers: Mapping[str, PooledLinear]) -> None:
    """Tell each layer which ones are called on the same tensor, itself included, in the order of their calls."""
    for name in layers:
        parent, _, child = name.rpartition(".")
        for together in SAME_INPUTS:
            present = [layers[f"{parent}.{other}"] for other in together if f"{parent}.{other}" in layers]
            if child in together and len(present) > 1:
                layers[name].sharing_inputs = tuple(present)


def block_of(name: str) -> int:
    """The index of the transformer block in a layer's name, such as 3 in `model.layers.3.mlp.up_proj`."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else 0


def _group_of(name: str, granularity: Granularity) -> str:
    """The routed group of a layer: the whole model, its block, or the layer itself."""
    if granularity is Granularity.SHARED:
        return "all"
    if granularity is Granularity.BLOCK:
        return f"block.{block_of(name)}"
    return name


def _group_names(layer_names: list[str], granularity: Granularity) -> list[str]:
    """The groups in the order in which the model meets them."""
    return list(dict.fromkeys(_group_of(name, granularity) for name in layer_names))
