"""The optimiser: AdamW for the experts, lazy Adam for the rows of the task router, one warm-up and decay for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import AdamW, Optimizer, SparseAdam
from torch.optim.lr_scheduler import LambdaLR

from polyprag.config import TrainingConfig


class PoolOptimizer(Optimizer):
    """AdamW on the experts and SparseAdam on the task rows, as one optimiser with two parameter groups.

    SparseAdam updates only the rows that have a gradient, moments included, so rows outside the batch stay as they
    are and a step costs the same however many passages there are.

    SparseAdam corrects bias by the count of all steps, while a row's moments have seen that row's own visits alone, so
    the seldomer a row is met, the larger its steps. Under a constant gradient the n-th visit, in step t, moves it by
    the learning rate times (1 - 0.9ⁿ) / √(1 - 0.999ⁿ) · √(1 - 0.999ᵗ) / (1 - 0.9ᵗ): by the learning rate itself where
    it is met in every step, by up to 6.6 times as much where others come between. Steps therefore grow with the
    number of passages: for a large corpus lower `training.router_learning_rate`.

    Args:
        experts: dense parameters, with the configured learning rate and weight decay.
        rows: parameters with sparse gradients, with the router's learning rate and no weight decay.
        config: learning rates and weight decay.
    """

    def __init__(self, experts: Iterable[nn.Parameter], rows: Iterable[nn.Parameter], config: TrainingConfig) -> None:
        experts, rows = list(experts), list(rows)
        self.dense = AdamW(experts, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        self.sparse = SparseAdam(rows, lr=config.router_learning_rate)
        super().__init__([{"params": experts}, {"params": rows}], {})
        self.param_groups = [*self.dense.param_groups, *self.sparse.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update both; the closure, if any, computes loss and gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.dense.step()
        self.sparse.step()  # type: ignore[no-untyped-call]
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Both optimisers' states."""
        return {"experts": self.dense.state_dict(), "rows": self.sparse.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.dense.load_state_dict(state_dict["experts"])
        self.sparse.load_state_dict(state_dict["rows"])
        self.param_groups = [*self.dense.param_groups, *self.sparse.param_groups]


def warmup_and_decay(optimizer: Optimizer, warmup: float, steps: int) -> LambdaLR:
    """Learning rates that rise linearly over a share of the steps and fall linearly to zero over the rest.

    Args:
        optimizer: whose groups are scheduled.
        warmup: share of the steps, in [0, 1).
        steps: optimiser steps in all.
    """
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return max(0.0, (steps - step) / max(1, steps - rising))

    return LambdaLR(optimizer, factor)


def ends_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether an optimiser step ends with a batch; else its gradients are added to those of the next.

    Args:
        trainer: the one that is training.
        batch_idx: the batch's position in the epoch, from 0.
    """
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or bool(trainer.is_last_batch)
