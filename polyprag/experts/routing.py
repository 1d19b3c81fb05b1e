"""The task router: a row of logits per passage, turned into gates over the experts.

Shapes: B rows, G routed groups, K experts, N passages, P merged passages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn

from polyprag.config import Combine, Normalisation, RoutingConfig
from polyprag.errors import ConfigError

EPSILON = 1e-6
BLOCK = 1024
"""Rows that are worked on at once where all are gone through; small, so that they stay in the processor's cache."""


def gates_from_logits(logits: Tensor, normalisation: Normalisation, top_k: int = 0) -> Tensor:
    """Turn task logits into gates that sum to one over the experts.

    The normalised sigmoid is σ(z_k) / (Σ_j σ(z_j) + ε), as in Poly (arXiv 2202.13914) and MHR (arXiv 2211.03831).

    Args:
        logits: [.., K].
        normalisation: sigmoid or softmax.
        top_k: keep only the k largest gates of each group and renormalise them; 0 keeps all.

    Returns:
        Gates [.., K], not negative.
    """
    weights = logits.softmax(-1) if normalisation is Normalisation.SOFTMAX else logits.sigmoid()
    if 0 < top_k < weights.shape[-1]:
        kept = weights.topk(top_k, dim=-1).indices
        weights = weights * torch.zeros_like(weights).scatter(-1, kept, 1.0)
    return weights / (weights.sum(-1, keepdim=True) + EPSILON)


def combine_gates(gates_PGK: Tensor, scores_P: Tensor, how: Combine) -> Tensor:
    """Merge the gates of several passages into one set of gates [G, K].

    Under `sum` composition, adding gates is adding the passages' weight updates, as PRAG's merge does.

    Args:
        gates_PGK: gates of the passages.
        scores_P: their retrieval scores, positive; used by `score` alone.
        how: sum, mean, or score (mean weighted by score).

    Raises:
        ConfigError: `how` is still `auto`.
    """
    if how is Combine.SUM:
        return gates_PGK.sum(0)
    if how is Combine.MEAN:
        return gates_PGK.mean(0)
    if how is Combine.SCORE:
        weights_P = (scores_P / scores_P.sum()).to(gates_PGK)
        return torch.einsum("p,pgk->gk", weights_P, gates_PGK)
    raise ConfigError("answering.combine is auto where a choice is needed; name sum, mean or score")


class TaskRouter(nn.Module):
    """Logits Z [N, G, K] of the passages, learned together with the experts.

    Only the rows of a batch get a (sparse) gradient: the other rows stay as they are.

    Args:
        passages: number of tasks, N.
        groups: routed groups, G.
        experts: experts in the pool, K.
        config: normalisation, top-k, Gumbel sampling, initial range.
    """

    def __init__(self, passages: int, groups: int, experts: int, config: RoutingConfig) -> None:
        super().__init__()
        self.config = config
        self.groups, self.experts = groups, experts
        self.rows = nn.Embedding(passages, groups * experts, sparse=True)
        nn.init.uniform_(self.rows.weight, -config.init, config.init)

    def forward(self, tasks_BP: Tensor, merged_BP: Tensor | None = None) -> Tensor:
        """The gates [B, G, K] of a batch.

        Args:
            tasks_BP: [B] the task of each row, or [B, P] tasks whose gates are added up.
            merged_BP: [B, P] true where a task counts; all do by default.
        """
        logits_BPGK = self.logits_of(tasks_BP[:, None] if tasks_BP.dim() == 1 else tasks_BP)
        if self.training and self.config.gumbel:
            uniform = torch.rand_like(logits_BPGK).clamp(1e-6, 1 - 1e-6)
            logits_BPGK = (logits_BPGK + uniform.logit()) / self.config.temperature
        gates_BPGK = gates_from_logits(logits_BPGK, self.config.normalisation, self.config.top_k)
        if merged_BP is not None:
            gates_BPGK = gates_BPGK * merged_BP[:, :, None, None]
        return gates_BPGK.sum(1)

    def logits_of(self, tasks: Tensor) -> Tensor:
        """The logits of some tasks, [.., G, K], with gradient and without sampling.

        Args:
            tasks: [..] task indices.
        """
        logits: Tensor = self.rows(tasks).view(*tasks.shape, self.groups, self.experts)
        return logits

    def all_logits(self) -> Tensor:
        """The logits of every passage, [N, G, K], detached."""
        return self.rows.weight.detach().view(-1, self.groups, self.experts)

    def all_gates(self) -> RowGates:
        """The gates of the passages, without sampling or gradient; they follow the rows as these are learned."""
        return RowGates(self.all_logits(), self.config)


@final
class RowGates:
    """The gates of passages, worked out for the rows that are asked for; indexed like a tensor [N, G, K].

    Args:
        rows_NGK: task logits of any number type, such as those of a store, which stay on disk.
        config: normalisation and top-k.
        device: where gates go; by default to that of the rows.
    """

    def __init__(self, rows_NGK: Tensor, config: RoutingConfig, device: torch.device | None = None) -> None:
        self.rows_NGK, self.config, self.device = rows_NGK, config, device or rows_NGK.device

    def __len__(self) -> int:
        """Number of passages, N."""
        return len(self.rows_NGK)

    def __getitem__(self, rows: Any) -> Tensor:
        """The gates of some rows, float32.

        Args:
            rows: what a tensor may be indexed by: a position, positions of any shape, a slice.
        """
        chosen = self.rows_NGK[rows.to(self.rows_NGK.device) if isinstance(rows, Tensor) else rows]
        return gates_from_logits(chosen.to(self.device).float(), self.config.normalisation, self.config.top_k)


def blocks_of(rows: int) -> Iterator[slice]:
    """Slices of at most `BLOCK` rows that follow each other, for what must not be in memory at once."""
    return (slice(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK))
