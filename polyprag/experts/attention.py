"""Attention for training on CPUs: its matrix products written out, since PyTorch's kernel is slow backwards there.

Shapes: B rows, H query heads, K key heads, Q queries, T positions, D size of a head.

Products run once for each key head, over all query heads that share it, so that keys and values are not repeated. In
bfloat16 the scores are rounded before the softmax, as in transformers' eager attention; all else is as in the kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "polyprag_grouped"
LONGEST = 1024
"""Most positions of a row; beyond, the kernel saves much memory, since it keeps no weights for the backward pass."""


def train_with_grouped_attention(model: Any) -> None:
    """Have a model use `grouped_attention` wherever gradients are on, if it would use PyTorch's kernel on a CPU.

    Args:
        model: a transformers model; one of another attention or on another device stays as it is.
    """
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def grouped_attention(q_BHQD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, mask_B1QT: Tensor, scaling: float) -> Tensor:
    """Attention in which several query heads share a key head, [B, H, Q, D].

    Args:
        q_BHQD: queries; heads h with the same h // (H / K) share a key head.
        k_BKTD: keys.
        v_BKTD: values.
        mask_B1QT: what is added to the scores, in the number type of the queries.
        scaling: factor on the scores.
    """
    rows, heads, queries, size = q_BHQD.shape
    groups = rows * k_BKTD.shape[1]
    shared = heads // k_BKTD.shape[1]
    q_NMD = q_BHQD.reshape(groups, shared * queries, size)
    k_NTD, v_NTD = k_BKTD.reshape(groups, -1, size), v_BKTD.reshape(groups, -1, size)
    mask_NMT = mask_B1QT.expand(rows, heads, queries, -1).reshape(groups, shared * queries, -1)
    weights_NMT = torch.baddbmm(mask_NMT, q_NMD, k_NTD.transpose(1, 2), alpha=scaling).softmax(-1)
    return torch.bmm(weights_NMT, v_NTD).view(q_BHQD.shape)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: grouped attention for a plain training pass, else PyTorch's kernel."""
    trains = torch.is_grad_enabled() and query.device.type == "cpu" and key.shape[2] <= LONGEST
    special = dropout or any(others.get(name) is not None for name in ("softcap", "position_bias", "cache", "s_aux"))
    if not trains or special or attention_mask is None or attention_mask.shape[1] > 1:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return found
    mask = additive(attention_mask, query.dtype) if attention_mask.dtype is torch.bool else attention_mask
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    return grouped_attention(query, key, value, mask.to(query.dtype), factor).transpose(1, 2).contiguous(), None


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to scores: 0 where a query may attend, the type's lowest number elsewhere.

    Args:
        allowed: true where it may, of any shape.
        dtype: number type of the scores.
    """
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, torch.finfo(dtype).min)
