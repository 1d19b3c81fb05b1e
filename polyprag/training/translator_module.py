"""The Lightning module of DyPRAG's parameter translator (arXiv 2503.23895).

Shapes: P passages, L labels, E hidden size, R rank, D inputs, O outputs, V vocabulary.

The loss of a passage, in its three parts, with the weights of the official code:

    L = L_lm + 100 · Σ_matrices mean (translated − PRAG's)² + 0.01 · KL(model under PRAG's ‖ model under translated)

L_lm is the mean cross-entropy over the labels of the passage's sequences. As in the code, the divergence is added up
over the labels of a sequence, and its mean is over sequences. Otherwise than there, only labelled positions count, not
padding, and a translated update has the scale of PRAG's adapters (`translator.scale`): the code drops alpha / r, so
that weights equal to PRAG's would not be PRAG's adapter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from polyprag.config import Config
from polyprag.config.loading import to_yaml
from polyprag.errors import TrainingError
from polyprag.experts.adapter_pool import AdapterPool, as_experts
from polyprag.experts.base_model import BaseModel
from polyprag.experts.translator import Adapters, ParameterTranslator
from polyprag.training.batches import Batch, collate
from polyprag.training.checkpoint import BASE, check_base
from polyprag.training.module import label_logits
from polyprag.training.translator_data import Lesson, read_adapters


class Losses(NamedTuple):
    """The parts of the loss, means over passages, without their weights."""

    lm: Tensor
    mse: Tensor
    kl: Tensor


@final
class TranslatorModule(pl.LightningModule):
    """Trains a parameter translator; the base model stays as it is, and is no submodule.

    Args:
        translator: to be trained.
        base: the base model, with the pool in it.
        pool: takes translated adapters, at the scale of translated updates.
        target_scale: factor on the update of PRAG's adapters.
        config: the whole configuration.
    """

    def __init__(
        self, translator: ParameterTranslator, base: BaseModel, pool: AdapterPool, target_scale: float, config: Config
    ) -> None:
        super().__init__()
        self.translator, self.base, self.pool = translator, base, pool
        self.target_scale, self.config = target_scale, config

    def training_step(self, lessons: list[Lesson], batch_idx: int) -> Tensor:
        """One step on a batch of passages.

        Raises:
            TrainingError: the loss is not finite; no weight has been changed by it.
        """
        settings, losses = self.config.translator, self.losses(lessons)
        loss = losses.lm + settings.mse * losses.mse + settings.kl * losses.kl
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the translator's loss is {loss.item()} at step {self.global_step}; weights are as before that step: "
                "lower translator.learning_rate"
            )
        self.log("translator/loss", loss, prog_bar=True, batch_size=len(lessons))
        parts = {f"translator/{name}": value for name, value in losses._asdict().items()}
        self.log_dict(parts, batch_size=len(lessons))
        return loss

    def losses(self, lessons: Sequence[Lesson]) -> Losses:
        """The parts of the loss of some passages."""
        translated = self.translator(torch.stack([lesson.state_E for lesson in lessons]).to(self.base.device))
        targets = read_adapters([one.adapter for one in lessons], list(translated), self.base.device)
        packs = [dataclasses.replace(own, task=at) for at, one in enumerate(lessons) for own in one.packs]
        batch = collate(packs, self.base.tokenizer.pad_token_id).to(self.base.device)
        logits_LV = self._logits(translated, batch)
        with torch.no_grad():
            target_logits_LV = self._logits(self._at_our_scale(targets), batch)
        divergence_L = F.kl_div(
            logits_LV.log_softmax(-1), target_logits_LV.log_softmax(-1), reduction="none", log_target=True
        ).sum(-1)
        owners_L = batch.tasks_B[batch.rows_L]
        labels_P = torch.bincount(owners_L, minlength=len(lessons))
        sequences_P = torch.tensor([lesson.sequences for lesson in lessons], device=self.base.device)
        losses_L = F.cross_entropy(logits_LV, batch.targets_L, reduction="none")
        return Losses(
            lm=(losses_L / labels_P[owners_L]).sum() / len(lessons),
            mse=squared_distance(translated, targets),
            kl=(divergence_L / sequences_P[owners_L]).sum() / len(lessons),
        )

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Lessons stay where they are until they are put into one batch."""
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at one rate, as in the official code."""
        return torch.optim.AdamW(self.translator.parameters(), lr=self.config.translator.learning_rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the configuration and the base model's fingerprint, so that a resumed training is held against them."""
        checkpoint["polyprag_config"] = to_yaml(self.config)
        checkpoint[BASE] = self.base.fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what was learned from another base model."""
        check_base(checkpoint, self.base)

    def _logits(self, adapters: Adapters, batch: Batch) -> Tensor:
        """Logits [L, V], each row of the batch under the adapter of its own passage."""
        count = len(next(iter(adapters.values()))[0])
        self.pool.make_room(count)
        weights = {f"model.{name}": weight for name, weight in as_experts(adapters).items()}
        gates_B1P = F.one_hot(batch.tasks_B, count).float()[:, None]
        with self.pool.pool.gated(gates_B1P):
            logits_LV: Tensor = functional_call(_Labelled(self.base.model), weights, (batch,), tie_weights=False)
        return logits_LV

    def _at_our_scale(self, targets: Adapters) -> Adapters:
        """PRAG's adapters, B so much larger as the pool's factor is smaller than theirs."""
        ratio = self.target_scale / next(iter(self.pool.pool.layers.values())).scale
        return {name: (A_PRD, ratio * B_POR) for name, (A_PRD, B_POR) in targets.items()}


@final
class _Labelled(nn.Module):
    """`label_logits` as a module, whose weights can be given for one call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return label_logits(self.model, batch)


def squared_distance(ours: Adapters, targets: Adapters) -> Tensor:
    """The mean squared difference of each matrix, added up over matrices; mean over passages."""
    pairs = [pair for name, own in ours.items() for pair in zip(own, targets[name], strict=True)]
    return torch.stack([F.mse_loss(own, target) for own, target in pairs]).sum()


@torch.no_grad()
def explained(translator: ParameterTranslator, lessons: Sequence[Lesson], device: torch.device) -> float:
    """How much of what tells the passages' adapters apart the translator has learned, at most 1.

    1 − Σ‖translated − PRAG's‖² / Σ‖PRAG's − their mean‖², over matrices and passages. A translator that gives the mean
    adapter to every passage has 0.

    Args:
        translator: trained.
        lessons: the passages.
        device: of the translator.
    """
    layers = list(translator.shapes)
    total: dict[str, list[Tensor]] = {}
    for lesson in lessons:
        for name, own in read_adapters([lesson.adapter], layers, device).items():
            before = total.get(name, [torch.zeros_like(side) for side in own])
            total[name] = [a + b for a, b in zip(before, own, strict=True)]
    missed = spread = 0.0
    for lesson in lessons:
        translated = translator(lesson.state_E[None].to(device))
        for name, target in read_adapters([lesson.adapter], layers, device).items():
            for own, side, summed in zip(translated[name], target, total[name], strict=True):
                missed += float((own - side).square().sum())
                spread += float((side - summed / len(lessons)).square().sum())
    return 1 - missed / spread if spread else 0.0
