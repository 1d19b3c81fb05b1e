"""What a person watches while training runs: speed, sample answers, and which experts passages use.

Shapes: G routed groups, K experts, N passages.
"""

from __future__ import annotations

import time
from typing import Any

import matplotlib.pyplot as plt
import pytorch_lightning as pl
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from polyprag.experts.routing import RowGates
from polyprag.training.batches import Batch
from polyprag.training.module import PoolModule

HEAT_MAP_PASSAGES = 200


class Progress(TQDMProgressBar):
    """Lightning's progress bar without the number of the logger's version."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Loss, speed, pass, and validation score."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


class Throughput(pl.Callback):
    """Logs trained tokens per second, padding not counted, and the pass over the data."""

    def __init__(self, batches_per_pass: float) -> None:
        self.batches_per_pass = batches_per_pass
        self.started = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, idx: int) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Log the rate of this batch; those of other processes are about as large."""
        seconds = time.perf_counter() - self.started
        rate = batch.real_tokens * trainer.world_size / seconds
        pl_module.log("train/tokens_per_second", rate, prog_bar=True)
        pl_module.log("train/pass", (batch_idx + 1) / self.batches_per_pass, prog_bar=True)


class RoutingReport(pl.Callback):
    """Sends a heat map of the passages' gates and a table of sample answers to Weights & Biases."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After each validation, while training."""
        assert isinstance(pl_module, PoolModule)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not loggers or trainer.sanity_checking or not trainer.is_global_zero:
            return
        rows = [[s.question, s.gold, s.prediction, s.f1] for s in pl_module.samples[:20]]
        figure = routing_figure(pl_module.router.all_gates())
        for logger in loggers:
            logger.log_table("val/answers", columns=["question", "gold", "prediction", "f1"], data=rows)
            logger.log_image("routing/gates", [figure])
        plt.close(figure)


def routing_figure(gates_NGK: RowGates | Tensor) -> Figure:
    """A heat map of gates, averaged over groups: passages down, experts across.

    Args:
        gates_NGK: gates of all passages; only the first 200 are drawn.
    """
    mean_NK = gates_NGK[:HEAT_MAP_PASSAGES].mean(1).float().cpu().numpy()
    figure, axes = plt.subplots(figsize=(6, 8), layout="constrained")
    image = axes.imshow(mean_NK, aspect="auto", cmap="viridis", vmin=0)
    axes.set_xlabel("expert")
    axes.set_ylabel("passage")
    figure.colorbar(image, ax=axes, label="mean gate over groups")
    return figure
