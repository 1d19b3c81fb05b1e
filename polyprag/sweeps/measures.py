"""What the experts of a trained pool have become: how much each is used, and how alike they are.

Shapes: N passages, G routed groups, K experts, R rank, D inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from polyprag.config.loading import load_config
from polyprag.experts.routing import RowGates
from polyprag.experts.routing_measures import mean_use
from polyprag.store import CONFIG, Store

TINY = 1e-12


def stored_gates(store: Store) -> RowGates:
    """The gates of the passages of a store, normalised as its training did."""
    return RowGates(store.rows_NGK, load_config(store.folder / CONFIG).routing)


def expert_use(gates_NGK: RowGates | Tensor) -> Tensor:
    """The mean gate of each expert over passages and groups, [K]; 1/K each where all are used alike."""
    return mean_use(gates_NGK).mean(0)


def expert_similarity(pool: Mapping[str, Tensor], rank: int) -> Tensor:
    """Cosines between the weight updates of the experts, averaged over layers, [K, K].

    The update of expert k in a layer is ΔW_k = B_k A_k, and no ΔW is formed: its inner products are those of small
    matrices, ⟨ΔW_i, ΔW_j⟩ = tr((A_i A_jᵀ)(B_jᵀ B_i)) = Σ_rs (A Aᵀ)_ir,js (Bᵀ B)_ir,js.

    Args:
        pool: `<layer>.A` [K·R, D] and `<layer>.B` [O, K·R], as a store keeps them.
        rank: R.

    Returns:
        Float64, symmetric; an expert that does nothing in a layer counts there as unlike all others.
    """
    layers = [name.removesuffix(".A") for name in pool if name.endswith(".A")]
    return torch.stack([_layer_similarity(pool[f"{name}.A"], pool[f"{name}.B"], rank) for name in layers]).mean(0)


def _layer_similarity(a: Tensor, b: Tensor, rank: int) -> Tensor:
    a, b = a.double(), b.double()
    products = (a @ a.T) * (b.T @ b)
    inner_KK = products.view(len(a) // rank, rank, len(a) // rank, rank).sum((1, 3))
    norms_K = inner_KK.diagonal().clamp_min(0).sqrt()
    return inner_KK / (norms_K[:, None] * norms_K).clamp_min(TINY)
