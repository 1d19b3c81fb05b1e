"""The task router: a row of logits per passage, turned into gates over the experts.

Shapes: B rows, G routed groups, K experts, N passages, P merged passages.
"""

from __future__ import annotations

import math
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

    def logits(self) -> Tensor:
        """The logits of every passage, [N, G, K], detached."""
        return self.rows.weight.detach().view(-1, self.groups, self.experts)

    def gates(self) -> RowGates:
        """The gates of the passages, without sampling or gradient; they follow the rows as these are learned."""
        return RowGates(self.logits(), self.config)


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


def routing_losses(logits_BGK: Tensor, config: RoutingConfig) -> dict[str, tuple[float, Tensor]]:
    """The losses on a batch's task logits whose weight is above zero, by configuration key, each with its weight.

    Args:
        logits_BGK: logits of the batch's own tasks, neither sampled nor merged.
        config: weights, normalisation and top-k.
    """
    dense_BGK = gates_from_logits(logits_BGK, config.normalisation)
    gates_BGK = gates_from_logits(logits_BGK, config.normalisation, config.top_k)
    losses = {
        "load_balance": (config.load_balance, load_balance_loss(dense_BGK, gates_BGK)),
        "entropy": (config.entropy, relative_entropy(gates_BGK)),
        "z_loss": (config.z_loss, z_loss(logits_BGK)),
    }
    return {name: (weight, loss) for name, (weight, loss) in losses.items() if weight > 0}


def load_balance_loss(dense_BGK: Tensor, gates_BGK: Tensor) -> Tensor:
    """How unevenly a batch uses the experts: 1 if all are used alike, K if each group uses one alone.

    K Σ_k f_k p_k, averaged over groups, as in the Switch Transformer (arXiv 2101.03961): p_k is the mean gate before
    top-k, which carries the gradient to chosen and unchosen experts alike, f_k the share that expert k really has of
    the batch's gates, which counts as fixed. With dense gates f = p, and the loss is the squared coefficient of
    variation of Shazeer et al. (arXiv 1701.06538) plus 1.

    Args:
        dense_BGK: gates before top-k, summing to one over K.
        gates_BGK: gates after it, likewise.
    """
    share_GK = gates_BGK.detach().mean(0)
    loss: Tensor = dense_BGK.shape[-1] * (share_GK * dense_BGK.mean(0)).sum(-1).mean()
    return loss


def relative_entropy(gates_BGK: Tensor) -> Tensor:
    """Mean entropy of gates over the experts, divided by that of uniform gates: 0 is one expert, 1 all alike.

    Args:
        gates_BGK: gates of any sum; they are taken relative to it.
    """
    experts = gates_BGK.shape[-1]
    if experts == 1:
        return torch.ones((), device=gates_BGK.device)
    shares_BGK = gates_BGK / (gates_BGK.sum(-1, keepdim=True) + EPSILON)
    return -(shares_BGK * (shares_BGK + EPSILON).log()).sum(-1).mean() / math.log(experts)


def z_loss(logits_BGK: Tensor) -> Tensor:
    """The mean squared log-sum-exp of logits over the experts, which keeps them small (ST-MoE, arXiv 2202.08906)."""
    return logits_BGK.logsumexp(-1).square().mean()


def usage(gates_BGK: Tensor) -> dict[str, Tensor]:
    """How the experts are used by a batch or a corpus, as scalars.

    Returns:
        `entropy` of the gates over experts relative to uniform (1 is uniform); `imbalance`, the largest mean use of
        an expert times K (1 is balanced), averaged over groups; `largest`, the mean largest gate.
    """
    shares_BGK = gates_BGK / (gates_BGK.sum(-1, keepdim=True) + EPSILON)
    return {
        "entropy": relative_entropy(gates_BGK),
        "imbalance": shares_BGK.mean(0).amax(-1).mean() * gates_BGK.shape[-1],
        "largest": shares_BGK.amax(-1).mean(),
    }


def mean_use(gates_NGK: RowGates | Tensor, above: float | None = None) -> Tensor:
    """The mean gates of all passages, [G, K]; goes through all rows, a block at a time.

    Args:
        gates_NGK: the gates of every passage.
        above: give the share of passages whose gate is above this instead.
    """
    total_GK = torch.zeros_like(gates_NGK[0], dtype=torch.float64)
    for block in blocks_of(len(gates_NGK)):
        part_NGK = gates_NGK[block]
        total_GK += (part_NGK if above is None else part_NGK > above).sum(0, dtype=torch.float64)
    return (total_GK / len(gates_NGK)).float()


def dead_experts(gates_NGK: RowGates | Tensor, config: RoutingConfig) -> Tensor:
    """Which experts the corpus does not use, [G, K], true for the dead; goes through all rows.

    With top-k an expert is dead if no passage chooses it, else if its mean gate is below `reseed_below` / K.

    Args:
        gates_NGK: the gates of every passage, summing to one over K.
        config: top-k and the threshold.
    """
    experts = gates_NGK[0].shape[-1]
    if 0 < config.top_k < experts:
        return mean_use(gates_NGK, above=0.0) == 0
    return mean_use(gates_NGK) < config.reseed_below / experts
