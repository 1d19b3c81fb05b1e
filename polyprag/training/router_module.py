"""The Lightning module of the query router: distil the task rows, then fine-tune through the frozen pool.

Shapes: B queries, G routed groups, K experts, N passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from polyprag.answering.query_router import QueryRouter
from polyprag.answering.question_encoder import QuestionEncoder, batches_of
from polyprag.config import Config
from polyprag.config.loading import to_yaml
from polyprag.errors import TrainingError
from polyprag.experts.base_model import BaseModel
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import RowGates
from polyprag.training.batches import collate
from polyprag.training.checkpoint import BASE, check_base
from polyprag.training.module import label_loss
from polyprag.training.router_data import Query

ATTENDED = 8
"""Passages whose gates are mixed in fine-tuning; the others' weights are next to nothing."""


class RouterModule(pl.LightningModule):
    """Trains a query router; base model, pool and task rows stay as they are.

    The state that finds most held-back questions' own passages first is kept, of equals the one with the lower loss on
    them; the state before training counts too.

    Args:
        encoder: represents questions.
        router: to be trained.
        gates_NGK: the gates of every passage.
        held_back: questions that choose the stopping point.
        config: the whole configuration.
        base: the base model.
        pool: the experts; None without fine-tuning through the language-model loss.
    """

    def __init__(
        self,
        encoder: QuestionEncoder,
        router: QueryRouter,
        gates_NGK: RowGates | Tensor,
        held_back: Sequence[Query],
        config: Config,
        base: BaseModel,
        pool: ExpertPool | None,
    ) -> None:
        super().__init__()
        self.encoder, self.router, self.gates_NGK, self.held_back = encoder, router, gates_NGK, list(held_back)
        self.config, self.base, self.pool = config, base, pool
        self.best: dict[str, Any] = {}

    def training_step(self, queries: list[Query], batch_idx: int) -> Tensor:
        """One step of the stage that the step number says.

        Raises:
            TrainingError: the loss is not finite; no weight has been changed by it.
        """
        settings = self.config.router
        questions_BD = self.router.represent(self.encoder.encode([q.text for q in queries]), settings.token_dropout)
        if batch_idx < settings.steps:
            tasks_B = torch.tensor([query.tasks[0] for query in queries], device=questions_BD.device)
            loss = self.router.distillation_loss(questions_BD, tasks_B, self.gates_NGK, settings.identity)
        else:
            loss = self._lm_loss(questions_BD, queries)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the router's loss is {loss.item()} at step {self.global_step}; weights are as before that step: "
                "lower router.learning_rate or router.lm_learning_rate"
            )
        self.log("router/loss", loss, prog_bar=True)
        return loss

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Queries are texts and stay where they are."""
        return batch

    def on_after_backward(self) -> None:
        """The gates end with the backward pass."""
        if self.pool is not None:
            self.pool.context.deactivate()

    def on_train_start(self) -> None:
        """The state before training is the first candidate."""
        if not self.best:
            self.look(step=0)

    @torch.no_grad()
    def held_back_scores(self) -> tuple[float, float]:
        """The share of held-back questions whose first choice is a passage of theirs, and the mean loss on them.

        The loss is minus the logarithm of the attention that falls on these passages.
        """
        right, loss = 0, 0.0
        for queries in batches_of(self.held_back):
            questions_BD = self.router.represent(self.encoder.encode([query.text for query in queries]))
            attention_BN = self.router.logits(questions_BD, self.gates_NGK).softmax(-1)
            for own, attention_N in zip(queries, attention_BN, strict=True):
                right += int(attention_N.argmax()) in own.tasks
                loss -= float(attention_N[list(own.tasks)].sum().clamp_min(1e-12).log())
        return right / len(self.held_back), loss / len(self.held_back)

    def look(self, step: int) -> None:
        """Score the held-back questions, and keep this state if it is the best so far; without any the last is kept.

        Args:
            step: steps done.
        """
        first, loss = self.held_back_scores() if self.held_back else (0.0, -float(step))
        if not self.best or (first, -loss) > (self.best["first_choice"], -self.best["loss"]):
            state = {name: tensor.clone() for name, tensor in self.router.state_dict().items()}
            self.best = {"step": step, "first_choice": first, "loss": loss, "state": state}
        if step and self.held_back:
            self.log("router/first_choice", first, prog_bar=True)
            self.log("router/held_back_loss", loss)

    def configure_optimizers(self) -> Any:
        """Adam with a rate for the token weights and one for the rest; lower rates in fine-tuning, no decay."""
        settings = self.config.router
        rates = {
            name: settings.token_learning_rate if name == "log_weights_V" else settings.learning_rate
            for name, _ in self.router.named_parameters()
        }
        named = list(self.router.named_parameters())
        optimizer = torch.optim.Adam([{"params": [weight], "lr": rates[name] or 1e-12} for name, weight in named])

        def factor_of(rate: float) -> Any:
            return lambda step: 1.0 if step < settings.steps else settings.lm_learning_rate / (rate or 1e-12)

        schedule = LambdaLR(optimizer, [factor_of(rates[name]) for name, _ in named])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best state so far, the configuration and the base model's fingerprint."""
        checkpoint["polyprag_config"] = to_yaml(self.config)
        checkpoint[BASE] = self.base.fingerprint
        checkpoint["best"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the best state so far, unless it is of another base model."""
        check_base(checkpoint, self.base)
        self.best = checkpoint["best"]

    def _lm_loss(self, questions_BD: Tensor, queries: Sequence[Query]) -> Tensor:
        assert self.pool is not None, "fine-tuning goes through the pool"
        gates_BGK = self.router.gates(questions_BD, self.gates_NGK, ATTENDED)
        packs = [query.pack for query in queries if query.pack is not None]
        batch = collate(packs, self.base.tokenizer.pad_token_id).to(self.base.device)
        self.pool.context.activate(gates_BGK)
        return label_loss(self.base.model, batch)


class HeldBackLooks(pl.Callback):
    """Looks at the held-back questions every few steps, and after the last.

    As a callback it can stand before the one that writes checkpoints, so that a checkpoint holds its own step's look.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look when it is time."""
        assert isinstance(pl_module, RouterModule)
        settings, done = pl_module.config.router, batch_idx + 1
        if done % settings.validate_every == 0 or done == settings.steps + settings.lm_steps:
            pl_module.look(step=done)
