"""What gates say: which experts they use, in which groups they are decided, which task rows they are near to.

Shapes: G routed groups, K experts, N passages, X gates of all groups (G·K).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from polyprag.experts.routing import EPSILON, RowGates, blocks_of


@dataclass(frozen=True)
class ExpertUse:
    """What an expert does under some gates.

    Attributes:
        expert: its number, from 0.
        mean_gate: over the groups.
        strongest: share of the groups in which its gate is the largest.
    """

    expert: int
    mean_gate: float
    strongest: float


@dataclass(frozen=True)
class DecidedGroup:
    """A routed group whose gates favour an expert.

    Attributes:
        name: of the group.
        expert: the expert with the largest gate.
        share: that gate over the sum of the group's gates, from 1/K to 1.
    """

    name: str
    expert: int
    share: float


def without_strongest(gates_GK: Tensor) -> Tensor:
    """Gates whose largest of each group is 0 and whose others make up for it; all 0 where there are no others."""
    left_GK = gates_GK.scatter(-1, gates_GK.argmax(-1, keepdim=True), 0.0)
    return left_GK * (gates_GK.sum(-1, keepdim=True) / left_GK.sum(-1, keepdim=True).clamp_min(EPSILON))


def uses(gates_GK: Tensor) -> tuple[ExpertUse, ...]:
    """Mean gate of each expert, and how often it is the strongest; in groups without gates none is."""
    strongest_GK = F.one_hot(gates_GK.argmax(-1), gates_GK.shape[-1]) * (gates_GK.sum(-1, keepdim=True) > 0)
    figures = zip(gates_GK.mean(0).tolist(), strongest_GK.float().mean(0).tolist(), strict=True)
    return tuple(ExpertUse(expert, mean, strongest) for expert, (mean, strongest) in enumerate(figures))


def decided_groups(gates_GK: Tensor, names: Sequence[str], count: int) -> tuple[DecidedGroup, ...]:
    """The groups in which one expert has the largest share of the gates, by falling share, at most `count`."""
    shares_GK = gates_GK / gates_GK.sum(-1, keepdim=True).clamp_min(EPSILON)
    largest = shares_GK.max(-1)
    order = largest.values.argsort(descending=True, stable=True)[:count].tolist()
    groups = (DecidedGroup(names[at], int(largest.indices[at]), float(largest.values[at])) for at in order)
    return tuple(group for group in groups if group.share > 0)


def nearest_rows(gates_GK: Tensor, gates_NGK: RowGates | Tensor, count: int) -> list[tuple[int, float]]:
    """The passages whose gates have the largest cosine with the given ones, over all groups, and that cosine.

    It goes through all rows, a block at a time.

    Args:
        gates_GK: some gates; without any above 0 there is no nearest row.
        gates_NGK: the gates of every passage.
        count: most rows to name.

    Returns:
        Position and cosine, by falling cosine.
    """
    if not gates_GK.any():
        return []
    own_X = gates_GK.flatten()
    parts = (gates_NGK[block].flatten(1).to(own_X) for block in blocks_of(len(gates_NGK)))
    cosines_N = torch.cat([(rows @ own_X) / (rows.norm(dim=-1) * own_X.norm()).clamp_min(EPSILON) for rows in parts])
    best = cosines_N.argsort(descending=True, stable=True)[:count].tolist()
    return [(position, float(cosines_N[position])) for position in best]
