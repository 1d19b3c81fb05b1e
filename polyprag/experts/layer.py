"""A linear layer with gated experts beside it.

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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyprag.config import Composition
from polyprag.experts.gate_context import GateContext
from polyprag.experts.updates import FollowingUpdate, GatedUpdate, LeadingUpdate, MixedUpdate, Update

SLICED_SHARE = 0.5
"""Largest share of experts in use at which they are copied out, to leave the others out of the products.

Up to here a prefill of 54 tokens and a few tokens more repay the copy; at three quarters nothing does for a single row
(docs/design.md has the numbers).
"""

FOLDED_ROWS_PER_EXPERT = 2
"""Most rows for each expert at which `factor` mixes the experts into one of rank R for each row: at answering once for
all calls, in training at each.

At as many rows as experts a prefill takes a third, a decoded token as long as unmixed; at twice as many a token takes
up to a third longer, and an answer of 8 tokens still gains. With more rows the mixtures also outweigh the pool by far
(benchmarks/sparse_experts.py).
"""


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
        self.sharing_inputs: tuple[PooledLinear, ...] = ()
        """Layers that meet the same inputs one after the other, this one among them."""
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
        lone = x_BTD.shape[:-1].numel() == 1 and dtype is not torch.float64 and x_BTD.device.type == "cpu"
        return self._update_for(rows, dtype, lone).add_to(y_BTO, x_BTD)

    def update(self, x_BTD: Tensor, w_BK: Tensor) -> Tensor:
        """What all experts add under gates, [B, T, O]; differentiable in inputs, gates and experts."""
        mixes = self.composition is Composition.FACTOR and len(x_BTD) <= FOLDED_ROWS_PER_EXPERT * self.count
        z_BTO = self.update_by_row(x_BTD, w_BK) if mixes else self.update_by_expert(x_BTD, w_BK)
        if self.shared_A is not None and self.shared_B is not None:
            A_SD, B_OS = self.shared_A.to(x_BTD.dtype), self.shared_B.to(x_BTD.dtype)
            z_BTO = z_BTO + self.scale * F.linear(F.linear(x_BTD, A_SD), B_OS)
        return z_BTO

    def update_by_expert(self, x_BTD: Tensor, w_BK: Tensor) -> Tensor:
        """The products of all experts, with the gates between them."""
        dtype = x_BTD.dtype
        w_B1K1 = w_BK.to(dtype)[:, None, :, None]
        h_BTKR = F.linear(x_BTD, self.A.to(dtype)).view(*x_BTD.shape[:-1], self.count, self.rank)
        if self.composition is Composition.FACTOR:
            h_BTKR = (w_B1K1 * h_BTKR).sum(dim=-2, keepdim=True)
        h_BTKR = (w_B1K1 * self.scale) * h_BTKR
        return F.linear(h_BTKR.flatten(-2), self.B.to(dtype))

    def update_by_row(self, x_BTD: Tensor, w_BK: Tensor) -> Tensor:
        """`factor` with the experts mixed for each row first, so that products are those of one expert."""
        dtype = x_BTD.dtype
        exact = torch.promote_types(dtype, torch.float32)
        A_KRD, B_OKR = self.A.view(self.count, self.rank, -1), self.B.view(-1, self.count, self.rank)
        A_BDR = torch.einsum("bk,krd->bdr", w_BK.to(exact), A_KRD.to(exact)).to(dtype)
        B_BRO = torch.einsum("bk,okr->bro", w_BK.to(exact) * self.scale, B_OKR.to(exact)).to(dtype)
        return torch.bmm(torch.bmm(x_BTD, A_BDR), B_BRO)

    def _update_for(self, rows: int, dtype: torch.dtype, lone: bool) -> Update:
        """`update` in a form that many passes under the gates in force can use.

        Args:
            rows: rows of the inputs.
            dtype: their number type.
            lone: whether they are a single token.
        """
        return self.context.kept((self, rows, dtype, lone), lambda: self._make_update(rows, dtype, lone))

    def _make_update(self, rows: int, dtype: torch.dtype, lone: bool) -> Update:
        w_BK = self.context.of(self.group, rows)
        assert w_BK is not None, "a form is wanted while gates are in force"
        gated = self.composition is Composition.SUM or not self.context.used(self.group)
        update = self._gated(w_BK, dtype) if gated else self._mixed(w_BK, dtype)
        if lone:
            return update.for_one_token()
        if isinstance(update, GatedUpdate) and self.sharing_inputs:
            return self._with_shared_product(update, rows, dtype)
        return update

    def _with_shared_product(self, own: GatedUpdate, rows: int, dtype: torch.dtype) -> Update:
        """A gated update whose first product is one with that of the layers that meet the same inputs."""
        if self.sharing_inputs[0] is not self:
            return FollowingUpdate(self, own, self.context)
        updates = [own]
        for layer in self.sharing_inputs[1:]:
            other = layer._update_for(rows, dtype, lone=False)
            if not isinstance(other, FollowingUpdate):  # but a mixture for each row
                return own
            updates.append(other.own)
        A_SD, w_B1S = torch.cat([one.A_SD for one in updates]), torch.cat([one.w_B1S for one in updates], dim=-1)
        return LeadingUpdate(self.sharing_inputs, tuple(updates), GatedUpdate(A_SD, w_B1S, own.B_OS), self.context)

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
