"""What a layer's experts add under gates that stay in force, in the form that suits the inputs; without gradients.

Shapes: B rows, T positions, N = B·T tokens, D inputs, O outputs, S hidden width: experts in use times their rank, and
the rank of the shared expert.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyprag.experts.gate_context import GateContext


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
        return self.add_hidden(y_BTO, self.hidden(x_BTD)) if len(self.A_SD) else y_BTO

    def hidden(self, x_BTD: Tensor) -> Tensor:
        """The gated hidden numbers [N, S] of inputs."""
        return F.linear(x_BTD, self.A_SD).mul_(self.w_B1S).flatten(0, 1)

    def add_hidden(self, y_BTO: Tensor, h_NS: Tensor) -> Tensor:
        """Add what hidden numbers come to, in place."""
        y_BTO.view(-1, y_BTO.shape[-1]).addmm_(h_NS, self.B_OS.t())
        return y_BTO

    def for_one_token(self) -> LoneUpdate:
        """The same for a single row and token."""
        w_S1 = self.w_B1S[0, 0, :, None].float()
        return LoneUpdate(self.A_SD.t().float().contiguous(), self.B_OS.t().float().mul(w_S1).contiguous())


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

    def for_one_token(self) -> LoneUpdate:
        """The same for a single row and token."""
        return LoneUpdate(self.A_BDS[0].float().contiguous(), self.B_BSO[0].float().contiguous())


@dataclass(frozen=True)
class LoneUpdate:
    """A layer's update of a single token, which a CPU computes in half the time in single precision.

    Attributes:
        A_DS: the experts in use, or their mixture.
        B_SO: the same, gates and scale included.
    """

    A_DS: Tensor
    B_SO: Tensor

    def add_to(self, y_BTO: Tensor, x_BTD: Tensor) -> Tensor:
        """Add the update of a token, [1, 1, D], to the base layer's output, in place."""
        return y_BTO.add_(x_BTD.float() @ self.A_DS @ self.B_SO)


@dataclass(frozen=True)
class LeadingUpdate:
    """The update of the first of some layers with the same inputs, which computes the hidden numbers of all at once.

    Attributes:
        layers: these layers, the first of them first.
        updates: the update of each.
        joint: their A and gates side by side; its B is that of the first.
        context: where hidden numbers are left to the others.
    """

    layers: tuple[nn.Module, ...]
    updates: tuple[GatedUpdate, ...]
    joint: GatedUpdate
    context: GateContext

    def add_to(self, y_BTO: Tensor, x_BTD: Tensor) -> Tensor:
        """Add the first layer's update to its base layer's outputs, in place."""
        if not len(self.joint.A_SD):
            return y_BTO
        sizes = [len(update.A_SD) for update in self.updates]
        h_NS, *others = torch.split_with_sizes(self.joint.hidden(x_BTD), sizes, dim=1)
        self.context.work_ahead(x_BTD, dict(zip(self.layers[1:], others, strict=True)))
        return self.updates[0].add_hidden(y_BTO, h_NS)


@dataclass(frozen=True)
class FollowingUpdate:
    """The update of another of these layers.

    Attributes:
        layer: the layer.
        own: its update, for inputs that the first layer has not met.
        context: where hidden numbers are left to it.
    """

    layer: nn.Module
    own: GatedUpdate
    context: GateContext

    def add_to(self, y_BTO: Tensor, x_BTD: Tensor) -> Tensor:
        """Add the update to the base layer's outputs, in place."""
        h_NS = self.context.worked_ahead(self.layer, x_BTD)
        return self.own.add_to(y_BTO, x_BTD) if h_NS is None else self.own.add_hidden(y_BTO, h_NS)


Update = GatedUpdate | MixedUpdate | LoneUpdate | LeadingUpdate | FollowingUpdate
