"""What brings the gates of a batch to every pooled layer.

Shapes: B rows, T positions, D inputs, K experts, G routed groups, S hidden width of a layer's experts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Made = TypeVar("Made")


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
        self._kept: dict[Hashable, Any] = {}
        self._ahead: tuple[Tensor, dict[nn.Module, Tensor]] | None = None

    def activate(self, gates_BGK: Tensor) -> None:
        """Put gates [B, G, K] in force; they replace those that were."""
        self.deactivate()
        self._gates_GBK = gates_BGK.unbind(1)

    def deactivate(self) -> None:
        """Switch the experts off."""
        self._gates_GBK = self._used = self._ahead = None
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

    def kept(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What was made of the gates in force under this key; made at the first call.

        Args:
            key: names the layer, and the inputs that the form is for.
            make: makes it.
        """
        if key not in self._kept:
            self._kept[key] = make()
        made: Made = self._kept[key]
        return made

    def work_ahead(self, x_BTD: Tensor, hidden: dict[nn.Module, Tensor]) -> None:
        """Leave the hidden numbers [B·T, S] of these inputs to layers that will meet the same tensor."""
        self._ahead = (x_BTD, hidden)

    def worked_ahead(self, layer: nn.Module, x_BTD: Tensor) -> Tensor | None:
        """What was left to a layer for these inputs; None if nothing was."""
        if self._ahead is None or self._ahead[0] is not x_BTD:
            return None
        return self._ahead[1].pop(layer, None)
