"""Putting a training together: seed, device, loggers, the Lightning trainer, and what it will cost."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from polyprag.config import Config, LoggingConfig, RoutingConfig, RunConfig, TrainingConfig, WandbMode
from polyprag.experts.base_model import device_of
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.records import Passage, Question
from polyprag.retrieval.retriever import Retriever
from polyprag.training.batches import Batch
from polyprag.training.callbacks import Progress, RoutingReport, Throughput
from polyprag.training.checkpoint import AtomicCheckpointIO, Checkpointing
from polyprag.training.datamodule import KnowledgeData
from polyprag.training.dead_experts import DeadExperts
from polyprag.training.module import PoolModule
from polyprag.training.place import world_of
from polyprag.training.processes import cluster


def prepare_process(config: RunConfig) -> None:
    """Set threads and seed of this process."""
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)


def build_trainer(config: Config, folder: Path, data: KnowledgeData, checkpoints: Checkpointing) -> pl.Trainer:
    """The trainer of a run, with its loggers and callbacks.

    Args:
        config: the whole configuration.
        folder: the run's folder.
        data: the data module, for the number of batches.
        checkpoints: saves the run's checkpoints.
    """
    quiet_lightning()
    training = config.training
    batches = len(data.sampler())
    per_pass = batches / training.epochs
    validated = bool(training.validate_every and data.validation)
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu" if device_of(training.accelerator) == "cpu" else "gpu",
        devices=training.devices,
        num_nodes=training.nodes,
        strategy=strategy_of(training),
        max_epochs=1,
        max_steps=training.max_steps,
        accumulate_grad_batches=training.accumulate,
        val_check_interval=min(batches, max(1, round(per_pass * training.validate_every))) if validated else None,
        limit_val_batches=1.0 if validated else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=config.logging.every_steps,
        logger=loggers(config, folder),
        callbacks=[
            Progress(),
            Throughput(per_pass),
            RoutingReport(),
            *([DeadExperts(config, data.steps())] if config.routing.reseed_below else []),
            checkpoints,
        ],
        plugins=[AtomicCheckpointIO(), cluster()],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def told_device(device: torch.device, training: TrainingConfig) -> str:
    """Where training takes place, for people, and why where that is not what a GPU's owner expects.

    Args:
        device: of this process.
        training: what was asked for.
    """
    world = world_of(training)
    beside = f"; {world} processes together" if world > 1 else ""
    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}{beside}"
    refused = "; torch finds no CUDA device, which training.accelerator=gpu would refuse"
    return f"{device}{refused if training.accelerator == 'auto' else ''}{beside}"


def strategy_of(training: TrainingConfig) -> str | DDPStrategy:
    """Lightning's strategy: one device alone, or several that average the experts' gradients."""
    return "auto" if world_of(training) == 1 else DDPStrategy(gradient_as_bucket_view=True)


def quiet_lightning() -> None:
    """Keep Lightning's advertisements and harmless warnings off the terminal."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for harmless in (".*does not have many workers.*", ".*isinstance.treespec, LeafSpec.*", ".*GPU available but.*"):
        warnings.filterwarnings("ignore", harmless)


def loggers(config: Config, folder: Path) -> list[Logger]:
    """CSV always; Weights & Biases online with a key, offline without, or not at all."""
    chosen: list[Logger] = [CSVLogger(str(folder), name="logs")]
    mode = wandb_mode(config.logging)
    if mode is not WandbMode.DISABLED:
        os.environ.setdefault("WANDB_SILENT", "true")
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        chosen.append(
            WandbLogger(
                project=config.logging.project,
                name=folder.name,
                group=config.logging.group or None,
                save_dir=str(folder),
                offline=mode is WandbMode.OFFLINE,
            )
        )
    return chosen


def wandb_mode(config: LoggingConfig) -> WandbMode:
    """Where Weights & Biases writes: `auto` means online with a key or under an agent of a W&B sweep, else offline."""
    if config.wandb is not WandbMode.AUTO:
        return config.wandb
    online = os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_SWEEP_ID")
    return WandbMode.ONLINE if online else WandbMode.OFFLINE


def validation_of(questions: Sequence[Question], tasks: dict[str, int], limit: int) -> list[Question]:
    """Validation questions that name a gold passage of the corpus, spread evenly over the split."""
    usable = [q for q in questions if q.passage_ids and all(passage in tasks for passage in q.passage_ids)]
    step = max(1, len(usable) / limit) if limit else 1
    return [usable[int(at * step)] for at in range(min(limit, len(usable)))]


def similar_passages(retriever: Retriever, passages: Sequence[Passage], config: RoutingConfig) -> Tensor | None:
    """For each passage the others that its text retrieves, [N, M], whose gates are merged in; None when that is off.

    M is `routing.merge_passages` - 1; rows short of hits are filled with the passage itself, which merges nothing.
    """
    if not config.merge_in_training:
        return None
    count = config.merge_passages - 1
    found = retriever.search([passage.text for passage in passages], count + 1)
    rows = []
    for own, hits in enumerate(found):
        others = [hit.position for hit in hits if hit.position != own][:count]
        rows.append(others + [own] * (count - len(others)))
    return torch.tensor(rows).reshape(len(passages), count)


@dataclass(frozen=True)
class Sizes:
    """What a training will take, told before it starts."""

    passages: int
    packs: int
    tokens_per_pass: int
    labels_per_pass: int
    steps: int
    trainable_parameters: int
    store_bytes: int
    passes: float
    seconds: float

    def lines(self) -> list[str]:
        """One line each, for people."""
        return [
            f"tasks (passages)       {self.passages:,}",
            f"packed sequences       {self.packs:,}",
            f"tokens per pass        {self.tokens_per_pass:,} ({self.labels_per_pass:,} labels)",
            f"optimiser steps        {self.steps:,}",
            f"trainable parameters   {self.trainable_parameters:,}",
            f"store, about           {self.store_bytes / 1e6:,.1f} MB",
            f"training, about        {self.seconds / 60:,.1f} minutes on this machine (from one step, timed)",
        ]


def measure_sizes(module: PoolModule, data: KnowledgeData, pool: ExpertPool, router: TaskRouter) -> Sizes:
    """Count what a training will take, and time the middle-sized batch once for a guess of its duration.

    Experts and router are afterwards where the base model is.
    """
    sampler = data.sampler()
    batches = sorted(sampler.batches, key=lambda batch: sum(len(data.packs[index]) for index in batch))
    batch = data.collated(batches[len(batches) // 2])
    seconds = _seconds_of_step(module, batch)
    tokens_per_second = batch.real_tokens / seconds
    tokens = sum(len(pack) for pack in data.packs)
    training = data.config.training
    # processes on one machine's CPU share it, so they are no faster than one
    abreast = training.nodes if module.base.device.type == "cpu" else world_of(training)
    parameters = sum(parameter.numel() for parameter in [*pool.parameters(), *router.parameters()])
    bytes_each = torch.finfo(module.base.model.dtype).bits // 8
    return Sizes(
        passages=router.rows.num_embeddings,
        packs=len(data.packs),
        tokens_per_pass=tokens,
        labels_per_pass=sum(len(pack.targets) for pack in data.packs),
        steps=data.steps(),
        trainable_parameters=parameters,
        store_bytes=bytes_each * parameters + 2 * tokens,
        passes=data.passes(),
        seconds=tokens * data.passes() / tokens_per_second / abreast,
    )


def _seconds_of_step(module: PoolModule, batch: Batch) -> float:
    """Seconds of one forward and backward pass as training makes it, the better of two."""
    model, device = module.base.model, module.base.device
    module.to(device)
    on_device = batch.to(device)
    model.train(module.config.training.gradient_checkpointing)  # else activations would not be recomputed
    seconds = min(_timed_step(module, on_device) for _ in range(2))
    model.eval()
    return seconds


def _timed_step(module: PoolModule, batch: Batch) -> float:
    """Seconds of one forward and backward pass."""
    started = _settled(module.base.device)
    module(batch)[0].backward()
    module.on_after_backward()
    return _settled(module.base.device) - started


def _settled(device: torch.device) -> float:
    """The clock in seconds, read when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
