"""Experts that no passage uses are found while training runs, and seeded anew.

Shapes: D inputs, O outputs, K experts, R rank, G routed groups, N passages.
"""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from polyprag.config import Config
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.experts.routing_measures import dead_experts
from polyprag.training.module import PoolModule
from polyprag.training.optimisation import PoolOptimizer, ends_step

MOMENTS = ("exp_avg", "exp_avg_sq")


class DeadExperts(pl.Callback):
    """Looks for dead experts every few steps, logs how many there are as `routing/dead`, and seeds them anew.

    It draws from the run's seed and the step alone, so that all processes and a resumed run draw alike. In the last
    `routing.reseed_every` steps it leaves the experts as they are: what is seeded then would learn too little.

    Args:
        config: the run's seed, the threshold, the steps between looks, and the initial range of logits.
        steps: optimiser steps of the whole training.
    """

    def __init__(self, config: Config, steps: int) -> None:
        self.config, self.steps = config, steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look after every so many optimiser steps."""
        assert isinstance(pl_module, PoolModule)
        step, every = trainer.global_step, self.config.routing.reseed_every
        if not ends_step(trainer, batch_idx) or step % every or step + every > self.steps:
            return
        dead_GK = dead_experts(pl_module.router.all_gates(), self.config.routing)
        for logger in trainer.loggers:  # at once, since looks need not fall on steps that Lightning logs
            logger.log_metrics({"routing/dead": float(dead_GK.sum())}, step)
        optimizer = trainer.optimizers[0]
        assert isinstance(optimizer, PoolOptimizer)
        generator = torch.Generator().manual_seed(self.config.run.seed * 2**31 + step)
        reseed(pl_module.pool, pl_module.router, optimizer, dead_GK, generator)


@torch.no_grad()
def reseed(
    pool: ExpertPool, router: TaskRouter, optimizer: PoolOptimizer, dead_GK: Tensor, generator: torch.Generator
) -> None:
    """Make dead experts new: A and the passages' logits as at the start, B zero, and no memory of their gradients.

    Args:
        pool: the experts; a dead one is seeded anew in all layers of its group.
        router: the task router, whose logits for dead experts are drawn anew for every passage.
        optimizer: whose moments of these weights and logits become zero.
        dead_GK: true for the dead, [G, K].
        generator: what is drawn from, on the CPU.
    """
    dead = [(group, expert) for group, expert in dead_GK.nonzero().tolist()]
    for layer in pool.layers.values():
        for expert in (expert for group, expert in dead if group == layer.group):
            part = slice(expert * layer.rank, (expert + 1) * layer.rank)
            fresh_RD = torch.empty(layer.rank, layer.A.shape[1])
            layer.A[part] = nn.init.kaiming_uniform_(fresh_RD, a=math.sqrt(5), generator=generator).to(layer.A)
            layer.B[:, part] = 0.0
            for moment_SD in _moments(optimizer.dense, layer.A):
                moment_SD[part] = 0.0
            for moment_OS in _moments(optimizer.dense, layer.B):
                moment_OS[:, part] = 0.0
    rows = router.rows.weight
    for group, expert in dead:
        column, width = group * router.experts + expert, router.config.init
        fresh_N = torch.empty(len(rows)).uniform_(-width, width, generator=generator)
        rows[:, column] = fresh_N.to(rows)
        for moment in _moments(optimizer.sparse, rows):
            moment[:, column] = 0.0


def _moments(optimizer: Optimizer, parameter: Tensor) -> list[Tensor]:
    """Adam's running means of a parameter's gradient and its square; none before its first step."""
    state = optimizer.state.get(parameter, {})
    return [state[name] for name in MOMENTS if name in state]
