"""What gates are like: losses that training adds on a batch, and how a corpus uses the experts.

Shapes: B rows, G routed groups, K experts, N passages.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from polyprag.config import RoutingConfig
from polyprag.experts.routing import EPSILON, RowGates, blocks_of, gates_from_logits


def routing_losses(logits_BGK: Tensor, config: RoutingConfig) -> dict[str, tuple[float, Tensor]]:
    """The losses on a batch's task logits whose weight is above zero, by configuration key, each with its weight.

    Args:
        logits_BGK: logits of the batch's own tasks, neither sampled nor merged.
        config: weights, normalisation and top-k.
    """

    def gates(top_k: int = 0) -> Tensor:
        """The batch's gates, all of them or the largest."""
        return gates_from_logits(logits_BGK, config.normalisation, top_k)

    losses: dict[str, tuple[float, Callable[[], Tensor]]] = {
        "load_balance": (config.load_balance, lambda: load_balance_loss(gates(), gates(config.top_k))),
        "entropy": (config.entropy, lambda: relative_entropy(gates(config.top_k))),
        "z_loss": (config.z_loss, lambda: z_loss(logits_BGK)),
    }
    return {name: (weight, loss()) for name, (weight, loss) in losses.items() if weight > 0}


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


def mean_use(gates_NGK: RowGates | Tensor) -> Tensor:
    """The mean gates of all passages, [G, K]; goes through all rows.

    Args:
        gates_NGK: the gates of every passage.
    """
    return _mean_over_rows(gates_NGK, lambda part_NGK: part_NGK)


def share_above(gates_NGK: RowGates | Tensor, bound: float) -> Tensor:
    """The share of passages whose gate is above a bound, [G, K]; goes through all rows.

    Args:
        gates_NGK: the gates of every passage.
        bound: what a gate has to exceed.
    """
    return _mean_over_rows(gates_NGK, lambda part_NGK: part_NGK > bound)


def _mean_over_rows(gates_NGK: RowGates | Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean over all rows of what is worked out from them, [G, K], a block of rows at a time."""
    total_GK = torch.zeros_like(gates_NGK[0], dtype=torch.float64)
    for block in blocks_of(len(gates_NGK)):
        total_GK += of(gates_NGK[block]).sum(0, dtype=torch.float64)
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
        return share_above(gates_NGK, 0.0) == 0
    return mean_use(gates_NGK) < config.reseed_below / experts
