"""A linear layer with gated experts beside it, and the context that brings the gates of a batch to every layer.

Shapes: B rows, T positions, D inputs, O outputs, K experts, R rank, G routed groups, U experts in use, S hidden
width (U·R and the rank of the shared expert).

All experts of a layer lie in two plain matrices, A [K·R, D] and B [O, K·R], so that a layer costs one pair of
matrix products whatever K is. Between the two stands the gate w [B, K]; with h = A x seen as [.., K, R]:

    sum     h'_k = w_k h_k              so  ΔW = s Σ_k w_k B_k A_k
    factor  h'_k = w_k Σ_j w_j h_j      so  ΔW = s (Σ_k w_k B_k)(Σ_j w_j A_j)     (Poly, arXiv 2202.13914)

A shared expert, if there is one, adds s B_shared A_shared, whatever the gates are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyprag.config import Composition

SLICED_SHARE = 0.5
"""Largest share of experts in use at which they are copied out, to leave the others out of the products.

Up to here a prefill of 54 tokens and a few tokens more repay the copy; at three quarters nothing does for a single row
(docs/design.md has the numbers).
"""

FOLDED_ROWS_PER_EXPERT = 2
"""Most rows for each expert at which `factor` mixes the experts into one of rank R for each row, once for all calls.

At as many rows as experts a prefill takes a third, a decoded token as long as unmixed; at twice as many a token takes
up to a third longer, and an answer of 8 tokens still gains. With more rows the mixtures also outweigh the pool by far
(benchmarks/sparse_experts.py).
"""


class GateContext:
    """Carries the gates of the present batch to every pooled layer.

    The gates stay in force from `activate` to `deactivate`, so that a backward pass that recomputes activations
    meets the same gates as the forward pass did. With no gates in force the base model runs alone.

    Without gradients, layers keep here what they work out from gates and weights, until other gates are put in force;
    so weights may change between two passes under the same gates only while gradients are on.
    """

    def __init__(self) -> None:
        self._gates_GBK: tuple[Tensor, ...] | None = None
        self._used: list[list[int]] | None = None
        self._kept: dict[tuple[PooledLinear, int, torch.dtype], Update] = {}

    def activate(self, gates_BGK: Tensor) -> None:
        """Put gates [B, G, K] in force; they replace those that were."""
        self.deactivate()
        self._gates_GBK = gates_BGK.unbind(1)

    def deactivate(self) -> None:
        """Switch the experts off."""
        self._gates_GBK = self._used = None
        self._kept.clear()

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

    def used(self, group: int) -> list[int]:
        """The experts of a group that some row of the batch gives a gate other than zero; gates must be in force."""
        assert self._gates_GBK is not None, "experts are in use while gates are in force"
        if self._used is None:  # of all groups at once, since a GPU has to be waited for
            used_GK = (torch.stack(self._gates_GBK) != 0).any(dim=1).tolist()
            self._used = [[expert for expert, used in enumerate(row) if used] for row in used_GK]
        return self._used[group]

    def kept(self, layer: PooledLinear, rows: int, dtype: torch.dtype, make: Callable[[], Update]) -> Update:
        """What a layer made of the gates in force for inputs of so many rows and this number type; made once."""
        key = (layer, rows, dtype)
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


@dataclass(frozen=True)
class GatedUpdate:
    """A layer's update for gates in force: y_b += ((x_b Aᵀ) ∘ w_b) Bᵀ.

    Attributes:
        A_SD: the experts in use.
        w_B1S: the gate of each hidden number, scale included.
        B_OS: the experts in use.
    """

    A_SD: Tensor
    w_B1S: Tensor
    B_OS: Tensor

    def add_to(self, y_BTO: Tensor, x_BTD: Tensor) -> Tensor:
        """Add the update of inputs to the base layer's outputs, in place."""
        if not len(self.A_SD):
            return y_BTO
        h_BTS = F.linear(x_BTD, self.A_SD).mul_(self.w_B1S)
        y_BTO.view(-1, y_BTO.shape[-1]).addmm_(h_BTS.flatten(0, 1), self.B_OS.t())
        return y_BTO


@dataclass(frozen=True)
class MixedUpdate:
    """A layer's update for gates in force, mixed for each row: y_b += (x_b A_b) B_b.

    Attributes:
        A_BDS: the row's mixture, and the shared expert.
        B_BSO: the row's mixture, and the shared expert, scale included.
    """

    A_BDS: Tensor
    B_BSO: Tensor

    def add_to(self, y_BTO: Tensor, x_BTD: Tensor) -> Tensor:
        """Add the update of inputs to the base layer's outputs, in place."""
        return y_BTO.baddbmm_(torch.bmm(x_BTD, self.A_BDS), self.B_BSO)


Update = GatedUpdate | MixedUpdate


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
        shared: rank of the expert that speaks under all gates; 0 for none.
    """

    shared_A: nn.Parameter | None
    shared_B: nn.Parameter | None

    def __init__(
        self,
        base: nn.Linear,
        group: int,
        count: int,
        rank: int,
        scale: float,
        composition: Composition,
        context: GateContext,
        shared: int = 0,
    ) -> None:
        super().__init__()
        self.base = base
        self.group, self.count, self.rank, self.scale = group, count, rank, scale
        self.composition = composition
        self.context = context
        self.A, self.B = _low_rank(base, count * rank)
        self.shared_A, self.shared_B = _low_rank(base, shared) if shared else (None, None)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Base output plus the gated experts' output, [B, T, O]."""
        y_BTO: Tensor = self.base(x_BTD)
        rows, dtype = x_BTD.shape[0], x_BTD.dtype
        w_BK = self.context.of(self.group, rows)
        if w_BK is None:
            return y_BTO
        folds = self.composition is Composition.SUM or rows <= FOLDED_ROWS_PER_EXPERT * self.count
        if torch.is_grad_enabled() or not folds:
            return y_BTO + self.update(x_BTD, w_BK)
        return self.context.kept(self, rows, dtype, lambda: self._update_for(w_BK, dtype)).add_to(y_BTO, x_BTD)

    def update(self, x_BTD: Tensor, w_BK: Tensor) -> Tensor:
        """What all experts add under gates, [B, T, O]; differentiable in inputs, gates and experts."""
        dtype = x_BTD.dtype
        w_B1K1 = w_BK.to(dtype)[:, None, :, None]
        h_BTKR = F.linear(x_BTD, self.A.to(dtype)).view(*x_BTD.shape[:-1], self.count, self.rank)
        if self.composition is Composition.FACTOR:
            h_BTKR = (w_B1K1 * h_BTKR).sum(dim=-2, keepdim=True)
        h_BTKR = (w_B1K1 * self.scale) * h_BTKR
        z_BTO = F.linear(h_BTKR.flatten(-2), self.B.to(dtype))
        if self.shared_A is not None and self.shared_B is not None:
            z_BTO = z_BTO + self.scale * F.linear(F.linear(x_BTD, self.shared_A.to(dtype)), self.shared_B.to(dtype))
        return z_BTO

    def _update_for(self, w_BK: Tensor, dtype: torch.dtype) -> Update:
        """`update` in a form that many passes under the same gates can use."""
        if self.composition is Composition.SUM or not self.context.used(self.group):
            return self._gated(w_BK, dtype)
        return self._mixed(w_BK, dtype)

    def _gated(self, w_BK: Tensor, dtype: torch.dtype) -> GatedUpdate:
        A_URD, B_OUR, w_BU = self._experts_in_use(w_BK)
        A_SD, B_OS = A_URD.flatten(0, 1), B_OUR.flatten(1)
        w_BS = w_BU.repeat_interleave(self.rank, dim=1)
        if self.shared_A is not None and self.shared_B is not None:
            A_SD, B_OS = torch.cat([A_SD, self.shared_A]), torch.cat([B_OS, self.shared_B], dim=1)
            w_BS = F.pad(w_BS, (0, len(self.shared_A)), value=1.0)
        return GatedUpdate(A_SD.to(dtype), (w_BS * self.scale).to(dtype)[:, None], B_OS.to(dtype))

    def _mixed(self, w_BK: Tensor, dtype: torch.dtype) -> MixedUpdate:
        exact = torch.promote_types(dtype, torch.float32)
        A_URD, B_OUR, w_BU = (part.to(exact) for part in self._experts_in_use(w_BK))
        A_BDS = torch.einsum("bu,urd->bdr", w_BU, A_URD)
        B_BSO = torch.einsum("bu,our->bro", w_BU, B_OUR)
        if self.shared_A is not None and self.shared_B is not None:
            rows = len(w_BK)
            A_BDS = torch.cat([A_BDS, self.shared_A.to(exact).t().expand(rows, -1, -1)], dim=2)
            B_BSO = torch.cat([B_BSO, self.shared_B.to(exact).t().expand(rows, -1, -1)], dim=1)
        return MixedUpdate(A_BDS.to(dtype), (B_BSO * self.scale).to(dtype))

    def _experts_in_use(self, w_BK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A [U, R, D], B [O, U, R] and gates [B, U] of the experts that the batch uses, or of all if those are many."""
        A_KRD, B_OKR = self.A.view(self.count, self.rank, -1), self.B.view(-1, self.count, self.rank)
        used = self.context.used(self.group)
        if len(used) > SLICED_SHARE * self.count:
            return A_KRD, B_OKR, w_BK
        used_U = torch.tensor(used, dtype=torch.long, device=w_BK.device)
        return A_KRD.index_select(0, used_U), B_OKR.index_select(1, used_U), w_BK.index_select(1, used_U)


def _low_rank(base: nn.Linear, rank: int) -> tuple[nn.Parameter, nn.Parameter]:
    """A [rank, D], drawn as LoRA's is, and B [O, rank] of zeros, beside a layer."""
    device = base.weight.device
    a_SD = nn.Parameter(torch.empty(rank, base.in_features, device=device))
    nn.init.kaiming_uniform_(a_SD, a=math.sqrt(5))
    return a_SD, nn.Parameter(torch.zeros(base.out_features, rank, device=device))
