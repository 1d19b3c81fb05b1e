"""Training loops to compare: ours, and what its users would write with PEFT, on the same batches."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftConfig, get_peft_model
from torch import Tensor

from polyprag.config import Config
from polyprag.config.loading import load_config
from polyprag.experts.attention import additive
from polyprag.experts.base_model import load_base
from polyprag.experts.logits import logits_of
from polyprag.records import Knowledge
from polyprag.training.assembly import assemble
from polyprag.training.batches import Batch
from polyprag.training.module import label_loss
from polyprag.training.optimisation import PoolOptimizer, warmup_and_decay

WORLD = Path(__file__).resolve().parents[1] / "configs" / "world.yaml"
POOL = ("experts.count=16", "experts.rank=4", "routing.granularity=module", "routing.top_k=0")
"""The pool of the suite; it has as many weights as one LoRA of rank 64 on the same layers."""
ALONE = (
    *("router.after_pool=false", "training.validation_questions=0", "logging.wandb=disabled"),
    "training.accelerator=cpu",  # where PEFT's loop and the batches are too
)
NOT_LABELLED = -100


def pool_config(*overrides: str) -> Config:
    """The world's configuration with the pool of the suite."""
    return load_config(WORLD, [*POOL, *ALONE, *overrides])


class PoolLoop:
    """Our training step: what Lightning calls, in the same order, without logs and checkpoints.

    Args:
        config: of the pool and its training.
        knowledge: what is trained.
        share: of the configuration's steps that are taken; learning rates fall to zero over these.
    """

    def __init__(self, config: Config, knowledge: Knowledge, share: float = 1.0) -> None:
        torch.manual_seed(config.run.seed)
        training = assemble(config, knowledge)
        self.config, self.module, self.data = config, training.module, training.data
        self.base, self.router = training.base, training.router
        self.optimizer = PoolOptimizer(self.module.experts, self.router.parameters(), config.training)
        self.steps = max(1, round(self.data.steps() * share))
        self.schedule = warmup_and_decay(self.optimizer, config.training.warmup, self.steps)

    def batches(self, count: int) -> list[Batch]:
        """The first batches of the training."""
        return [self.data.collated(indices) for indices in self.data.sampler().batches[:count]]

    def step(self, batch: Batch) -> None:
        """One optimiser step; the loss is that of labelled positions, and the penalties of the configuration."""
        loss, _ = self.module(batch)
        penalties = self.module.penalties(batch.tasks_B).values()
        (loss + sum(weight * value for weight, value in penalties)).backward()
        self._update()

    def step_of_base(self, batch: Batch) -> None:
        """Forward and backward pass of the frozen base model alone, which no training through it can do without."""
        decoder, mask = self.base.model.get_decoder(), additive(batch.mask_B1TT, self.base.model.dtype)
        embedded_BTD = self.base.model.get_input_embeddings()(batch.tokens_BT).requires_grad_()
        hidden_BTD = decoder(
            inputs_embeds=embedded_BTD, position_ids=batch.positions_BT, attention_mask=mask, use_cache=False
        ).last_hidden_state
        logits_LV = logits_of(self.base.model, hidden_BTD[batch.rows_L, batch.sources_L])
        F.cross_entropy(logits_LV.float(), batch.targets_L).backward()

    def step_with_all_logits(self, batch: Batch) -> None:
        """The same step with logits at every position, as a plain loop computes them."""
        with self.module.pool.gated(self.module.gates(batch.tasks_B)):
            plain_loss(self.base.model, batch).backward()
        self._update()

    def _update(self) -> None:
        self.module.on_after_backward()
        torch.nn.utils.clip_grad_norm_(self.module.experts, self.config.training.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()


class PeftLoop:
    """A plain loop on a base model that PEFT wraps, adapters in float32, with the attention that transformers chooses.

    Args:
        config: of the base model and the learning rate.
        adapter: PEFT's configuration.
        labelled_only: compute logits at labelled positions alone, as ours does.
        tasks: give the model the passages of the rows as `task_ids`.
        autocast: multiply in the base model's number type, as ours does, not in that of the adapters.
    """

    def __init__(
        self,
        config: Config,
        adapter: PeftConfig,
        labelled_only: bool = False,
        tasks: bool = False,
        autocast: bool = False,
    ) -> None:
        torch.manual_seed(config.run.seed)
        base = load_base(config.base)
        base.model.set_attn_implementation("sdpa")
        with warnings.catch_warnings():  # PEFT 0.21 asks transformers 5 by a name that is being retired
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
            self.model: Any = get_peft_model(base.model, adapter)
        self.labelled_only, self.tasks = labelled_only, tasks
        self.autocast = torch.autocast(base.device.type, base.model.dtype, enabled=autocast)
        weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.trained = sum(weight.numel() for weight in weights)
        self.optimizer = torch.optim.AdamW(weights, lr=config.training.learning_rate)

    def step(self, batch: Batch) -> None:
        """One optimiser step."""
        more = {"task_ids": batch.tasks_B} if self.tasks else {}
        with self.autocast:
            loss = label_loss(self.model, batch) if self.labelled_only else plain_loss(self.model, batch, **more)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def plain_loss(model: Any, batch: Batch, **more: Any) -> Tensor:
    """The loss that transformers computes itself, from logits at every position; it equals `label_loss`.

    Args:
        model: a causal LM.
        batch: rows in which no position has two labels.
        more: further arguments of the model.
    """
    labels_BT = torch.full_like(batch.tokens_BT, NOT_LABELLED)
    labels_BT[batch.rows_L, batch.sources_L + 1] = batch.targets_L
    loss: Tensor = model(
        input_ids=batch.tokens_BT,
        position_ids=batch.positions_BT,
        attention_mask=batch.mask_B1TT,
        labels=labels_BT,
        use_cache=False,
        **more,
    ).loss
    return loss


def tokens_in(batches: Sequence[Batch]) -> int:
    """Tokens of some batches, padding not counted."""
    return sum(batch.real_tokens for batch in batches)
