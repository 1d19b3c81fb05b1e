"""The expert pool: K latent LoRA experts around each chosen linear layer, mixed by a gate vector per row.

Shapes: B rows, T positions, D inputs, O outputs, K experts, R rank, G routed groups, N passages.

All experts of a layer lie in two plain matrices, A [K·R, D] and B [O, K·R], so that a layer costs one pair of
matrix products whatever K is. Between the two stands the gate w [B, K]; with h = A x seen as [.., K, R]:

    sum     h'_k = w_k h_k              so  ΔW = s Σ_k w_k B_k A_k
    factor  h'_k = w_k Σ_j w_j h_j      so  ΔW = s (Σ_k w_k B_k)(Σ_j w_j A_j)     (Poly, arXiv 2202.13914)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyprag.config import Composition, ExpertsConfig, Granularity
from polyprag.errors import ConfigError, StoreError


class GateContext:
    """Carries the gates of the present batch to every pooled layer.

    The gates stay in force from `activate` to `deactivate`, so that a backward pass that recomputes activations
    meets the same gates as the forward pass did. With no gates in force the base model runs alone.
    """

    def __init__(self) -> None:
        self._gates_GBK: tuple[Tensor, ...] | None = None

    def activate(self, gates_BGK: Tensor) -> None:
        """Put gates [B, G, K] in force; they replace those that were."""
        self._gates_GBK = gates_BGK.unbind(1)

    def deactivate(self) -> None:
        """Switch the experts off."""
        self._gates_GBK = None

    def of(self, group: int, rows: int) -> Tensor | None:
        """The gates [rows, K] of one group.

        Beam search and `num_return_sequences` repeat each row of a batch; the gates are repeated likewise.

        Args:
            group: index of the routed group.
            rows: rows of the layer's input, a multiple of B.

        Returns:
            None when the experts are off.

        Raises:
            ValueError: the rows are no multiple of the gates' rows.
        """
        if self._gates_GBK is None:
            return None
        gates_BK = self._gates_GBK[group]
        if rows == gates_BK.shape[0]:
            return gates_BK
        if rows % gates_BK.shape[0]:
            raise ValueError(f"a batch of {rows} rows met gates for {gates_BK.shape[0]} rows")
        return gates_BK.repeat_interleave(rows // gates_BK.shape[0], dim=0)


class PooledLinear(nn.Module):
    """A frozen linear layer (plain or 4-bit) with K gated experts of rank R beside it.

    Args:
        base: the frozen layer.
        group: index of the routed group whose gates this layer obeys.
        count: experts, K.
        rank: rank of each expert, R.
        scale: factor s on the experts' output.
        composition: sum or factor.
        context: where the gates come from.
    """

    def __init__(
        self,
        base: nn.Linear,
        group: int,
        count: int,
        rank: int,
        scale: float,
        composition: Composition,
        context: GateContext,
    ) -> None:
        super().__init__()
        self.base = base
        self.group, self.count, self.rank, self.scale = group, count, rank, scale
        self.composition = composition
        self.context = context
        device = base.weight.device
        self.A = nn.Parameter(torch.empty(count * rank, base.in_features, device=device))
        self.B = nn.Parameter(torch.zeros(base.out_features, count * rank, device=device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Base output plus the gated experts' output, [B, T, O]."""
        y_BTO: Tensor = self.base(x_BTD)
        w_BK = self.context.of(self.group, x_BTD.shape[0])
        if w_BK is None:
            return y_BTO
        w_B1K1 = w_BK.to(x_BTD.dtype)[:, None, :, None]
        h_BTKR = F.linear(x_BTD, self.A.to(x_BTD.dtype)).view(*x_BTD.shape[:-1], self.count, self.rank)
        if self.composition is Composition.FACTOR:
            h_BTKR = (w_B1K1 * h_BTKR).sum(dim=-2, keepdim=True)
        h_BTKR = (w_B1K1 * self.scale) * h_BTKR
        return y_BTO + F.linear(h_BTKR.flatten(-2), self.B.to(x_BTD.dtype))


class ExpertPool:
    """The pooled layers of one base model and the context that gates them.

    The layers live inside the base model; the pool knows them by name, in the order of the model.

    Args:
        model: the base model; its chosen linear layers are replaced by pooled ones, all its weights are frozen.
        config: count, rank, scale, composition and target layers.
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
            layer = PooledLinear(base, group, config.count, config.rank, config.scale, config.composition, self.context)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer)
            self.layers[name] = layer

    @property
    def groups(self) -> int:
        """Number of routed groups, G."""
        return len(self.group_names)

    def parameters(self) -> list[nn.Parameter]:
        """All expert weights, layer by layer."""
        return [parameter for layer in self.layers.values() for parameter in (layer.A, layer.B)]

    @contextmanager
    def gated(self, gates_BGK: Tensor) -> Iterator[None]:
        """Answer with these gates, [B, G, K], inside the block; outside the base model runs alone."""
        self.context.activate(gates_BGK)
        try:
            yield
        finally:
            self.context.deactivate()

    def state(self) -> dict[str, Tensor]:
        """The expert weights by name, `<layer>.A` [K·R, D] and `<layer>.B` [O, K·R], detached."""
        return {
            f"{name}.{part}": getattr(layer, part).detach()
            for name, layer in self.layers.items()
            for part in ("A", "B")
        }

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
        for name, layer in self.layers.items():
            layer.A.data = state[f"{name}.A"].to(layer.A.device)
            layer.B.data = state[f"{name}.B"].to(layer.B.device)


def _target_layers(model: nn.Module, config: ExpertsConfig) -> dict[str, nn.Linear]:
    """The linear layers that carry experts, by qualified name, in the model's order."""
    wanted = set(config.targets)
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    targets = {
        name: layer
        for name, layer in linears.items()
        if name.rpartition(".")[2] in wanted and _block_of(name) >= config.first_layer
    }
    missing = wanted - {name.rpartition(".")[2] for name in targets}
    if missing:
        known = sorted({name.rpartition(".")[2] for name in linears})
        raise ConfigError(
            f"experts.targets: no linear layer named {', '.join(sorted(missing))!r} "
            f"from block {config.first_layer} on; the model has {', '.join(known)}"
        )
    return targets


def _block_of(name: str) -> int:
    """The index of the transformer block in a layer's name, such as 3 in `model.layers.3.mlp.up_proj`."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else 0


def _group_of(name: str, granularity: Granularity) -> str:
    """The routed group of a layer: the whole model, its block, or the layer itself."""
    if granularity is Granularity.SHARED:
        return "all"
    if granularity is Granularity.BLOCK:
        return f"block.{_block_of(name)}"
    return name


def _group_names(layer_names: list[str], granularity: Granularity) -> list[str]:
    """The groups in the order in which the model meets them."""
    return list(dict.fromkeys(_group_of(name, granularity) for name in layer_names))
