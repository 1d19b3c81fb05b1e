"""The Lightning module: one step of joint training of experts and task router.

Shapes: B rows, T positions, L labels, D hidden size, V vocabulary, G routed groups, K experts, N passages,
M neighbours, P merged passages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from polyprag.answering.generation import Generator
from polyprag.config import Composition, Config
from polyprag.config.loading import to_yaml
from polyprag.errors import TrainingError
from polyprag.experts.attention import additive
from polyprag.experts.base_model import BaseModel
from polyprag.experts.logits import logits_of
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.experts.routing_measures import routing_losses, usage
from polyprag.knowledge.prompts import PromptWriter
from polyprag.metrics import score
from polyprag.records import Question
from polyprag.training.batches import Batch
from polyprag.training.checkpoint import BASE, check_base
from polyprag.training.datamodule import KnowledgeData
from polyprag.training.draws import drawn_for
from polyprag.training.exchange import StepMeans, average_gradient, from_all, together
from polyprag.training.optimisation import PoolOptimizer, ends_step, warmup_and_decay

CHUNK = 1024
"""Most labels whose logits are in memory at once."""
WHOLE = "whole"
"""The loss with its penalties among the means of a step; it is looked at and is no curve."""


@dataclass(frozen=True)
class Sample:
    """A validation question, its answer by the model, and the F1 of that answer."""

    question: str
    gold: str
    prediction: str
    f1: float


class PoolModule(pl.LightningModule):
    """Trains a pool of experts and the task router on mixed batches of all passages.

    The frozen base model is no submodule: checkpoints hold what is learned and nothing else.

    Args:
        base: the base model, with the pool in it.
        pool: the experts.
        router: the task router.
        config: the whole configuration.
        tasks: task index of each passage id, for validation with the gold passage's gates.
        neighbours_NM: for each passage the most similar others, whose gates are merged in by
            `routing.merge_in_training`; a passage's own index merges nothing; None when that is off.
    """

    def __init__(
        self,
        base: BaseModel,
        pool: ExpertPool,
        router: TaskRouter,
        config: Config,
        tasks: dict[str, int],
        neighbours_NM: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.base, self.pool, self.config, self.tasks = base, pool, config, tasks
        # Lightning, DDP and checkpoints see a module's own parameters, and the pool lies in the base model
        self.experts = nn.ParameterList(pool.parameters())
        self.router = router
        self.neighbours_NM = neighbours_NM
        self.writer = PromptWriter(base.tokenizer, config.answering.prompt)
        self.generator = Generator(base, config.answering.max_new_tokens, pool, config.answering.prompt)
        self.samples: list[Sample] = []
        self.step_means = StepMeans()
        self.step_tasks: set[int] = set()
        # DDP would reduce the rows' sparse gradients in ways that not every backend knows; `average_gradient` does it
        rows = [f"router.{name}" for name, _ in router.named_parameters()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, rows)  # type: ignore[no-untyped-call]
        if config.training.gradient_checkpointing:
            base.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean loss over all labels of a batch, and its gates [B, G, K].

        The gates come into force here and end in `on_after_backward`.
        """
        gates_BGK = self.gates(batch.tasks_B)
        self.pool.context.activate(gates_BGK)
        return label_loss(self.base.model, batch), gates_BGK

    def gates(self, tasks_B: Tensor) -> Tensor:
        """The gates [B, G, K] of a batch; some rows merge those of similar passages, as retrieval will."""
        if self.neighbours_NM is None:
            gates_BGK: Tensor = self.router(tasks_B)
            return gates_BGK
        similar_BM = self.neighbours_NM[tasks_B.to(self.neighbours_NM.device)].to(tasks_B.device)
        tasks_BP = torch.cat([tasks_B[:, None], similar_BM], dim=1)
        merged_BP = torch.zeros(tasks_BP.shape, device=tasks_B.device)
        merged_BP[:, 0] = 1
        chosen_B = torch.rand(len(tasks_B), device=tasks_B.device) < self.config.routing.merge_in_training
        merged_BP[chosen_B] = 1
        merged_BP[:, 1:] *= similar_BM != tasks_B[:, None]
        merged_BGK: Tensor = self.router(tasks_BP, merged_BP)
        return merged_BGK

    def penalties(self, tasks_B: Tensor) -> dict[str, tuple[float, Tensor]]:
        """What is added to the loss of a batch with these tasks, by configuration key, each with its weight."""
        penalties = routing_losses(self.router.logits_of(tasks_B), self.config.routing)
        weight = self.config.experts.orthogonality
        if weight > 0:
            penalties["orthogonality"] = (weight, self.pool.orthogonality())
        return penalties

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch; refuses to go on from a step whose loss is not finite.

        Curves are means over all batches of a step, those of other processes included.

        Raises:
            TrainingError: the loss is not finite; no weight has been changed by it.
        """
        counts = self.data.counts(batch_idx)
        with drawn_for(self.data.number(batch_idx), self.config.run.seed, self.device):
            lm_loss, gates_BGK = self(batch)
        penalties = self.penalties(batch.tasks_B)
        loss: Tensor = lm_loss + sum(weight * value for weight, value in penalties.values())
        self.step_tasks |= set(batch.tasks_B.tolist())
        self.step_means.add(
            {
                WHOLE: loss,
                "train/loss": lm_loss,
                **{f"train/{name}": value for name, (_, value) in penalties.items()},
                **{f"routing/{name}": value for name, value in usage(gates_BGK.detach()).items()},
            },
            counts,
        )
        if ends_step(self.trainer, batch_idx):
            self._tell_step()
        return loss if counts else loss * 0.0  # all processes take part in DDP's backward pass, a filler with nothing

    def _tell_step(self) -> None:
        """Log the means of the step that ends with the present batch, before it changes weights."""
        means, tasks = self.step_means.take(), self.step_tasks
        self.step_tasks = set()
        whole = float(means.pop(WHOLE))
        if not math.isfinite(whole):
            raise TrainingError(
                f"the loss is {whole} at step {self.global_step}, in a batch of passages "
                f"{sorted(set().union(*from_all(tasks)))}; weights are as before that step: "
                "lower training.learning_rate or training.router_learning_rate"
            )
        self.log("train/loss", means.pop("train/loss"), prog_bar=True)
        self.log_dict(means)

    @property
    def data(self) -> KnowledgeData:
        """What the module is trained on."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, KnowledgeData)
        return data

    def on_after_backward(self) -> None:
        """The gates end with the backward pass, which may have recomputed activations under them."""
        self.pool.context.deactivate()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """The rows' gradient is the mean over processes, as DDP makes it for the experts."""
        rows = self.router.rows.weight
        if together() > 1 and rows.grad is not None:
            rows.grad = average_gradient(rows.grad)

    def on_train_start(self) -> None:
        """All processes begin alike; transformers recomputes activations in training mode only."""
        if together() > 1:
            torch.distributed.broadcast(self.router.rows.weight.data, src=0)
        self.base.model.train(self.config.training.gradient_checkpointing)

    def on_validation_start(self) -> None:
        """Generation wants its cache, which recomputation would switch off."""
        self.base.model.eval()
        self.samples = []

    def on_validation_end(self) -> None:
        """Back to training."""
        self.base.model.train(self.config.training.gradient_checkpointing)

    @torch.no_grad()
    def validation_step(self, questions: Sequence[Question], batch_idx: int) -> None:
        """Answer validation questions closed-book under the gates of their gold passages.

        Those of several are added up, or averaged where experts are multiplied (`composition=factor`).
        """
        gates_NGK = self.router.all_gates()
        merge = torch.sum if self.config.experts.composition is Composition.SUM else torch.mean
        gates_BGK = torch.stack(
            [merge(gates_NGK[[self.tasks[passage] for passage in question.passage_ids]], 0) for question in questions]
        )
        answers = self.generator.answer([self.writer.question(question.text) for question in questions], gates_BGK)
        scores = [score(answer.text, question.answers) for answer, question in zip(answers, questions, strict=True)]
        for question, answer, marks in zip(questions, answers, scores, strict=True):
            self.samples.append(Sample(question.text, question.answers[0], answer.text, marks.f1))
        size = len(questions)
        self.log("val/f1", sum(marks.f1 for marks in scores) / size, prog_bar=True, batch_size=size, sync_dist=True)
        self.log("val/em", sum(marks.em for marks in scores) / size, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Two speeds of learning under one schedule.

        Lightning's own estimate of the steps would open the loader before a checkpoint can rewind it.
        """
        training = self.config.training
        optimizer = PoolOptimizer(self.experts, self.router.parameters(), training)
        scheduler = warmup_and_decay(optimizer, training.warmup, self.data.steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the experts' gradient; task rows are left alone, since Adam does not heed their scale."""
        if self.config.training.clip:
            norm = torch.nn.utils.clip_grad_norm_(self.experts, self.config.training.clip)
            self.log("train/gradient_norm", norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the configuration and the base model's fingerprint, so that a resumed run can be held against them."""
        checkpoint["polyprag_config"] = to_yaml(self.config)
        checkpoint[BASE] = self.base.fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what was learned inside another base model, before it is loaded."""
        check_base(checkpoint, self.base)


def label_loss(model: Any, batch: Batch) -> Tensor:
    """Mean cross-entropy over a batch's labels.

    With many labels, logits are there for `CHUNK` of them at a time and computed again in the backward pass, so that
    their memory does not grow with the batch.

    Args:
        model: a transformers causal LM.
        batch: packs of training sequences.
    """
    hidden_LD = _hidden_of_labels(model, batch)
    if len(hidden_LD) <= CHUNK:
        return F.cross_entropy(logits_of(model, hidden_LD).float(), batch.targets_L)
    starts = range(0, len(hidden_LD), CHUNK)
    chunks = ((hidden_LD[at : at + CHUNK], batch.targets_L[at : at + CHUNK]) for at in starts)
    losses = [
        checkpoint(_sum_of_losses, model, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks
    ]
    return torch.stack(losses).sum() / len(hidden_LD)


def label_logits(model: Any, batch: Batch) -> Tensor:
    """Logits [L, V] in float32, computed at labelled positions only; see `label_loss`."""
    return logits_of(model, _hidden_of_labels(model, batch)).float()


def _hidden_of_labels(model: Any, batch: Batch) -> Tensor:
    """The last states that the logits of each label are made of, [L, D]."""
    hidden_BTD: Tensor = model.get_decoder()(
        input_ids=batch.tokens_BT,
        position_ids=batch.positions_BT,
        attention_mask=additive(batch.mask_B1TT, model.dtype),  # once, rather than in every block
        use_cache=False,
    ).last_hidden_state
    return hidden_BTD[batch.rows_L, batch.sources_L]


def _sum_of_losses(model: Any, hidden_LD: Tensor, targets_L: Tensor) -> Tensor:
    return F.cross_entropy(logits_of(model, hidden_LD).float(), targets_L, reduction="sum")
