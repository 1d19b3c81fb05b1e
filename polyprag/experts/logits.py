"""From the decoder's last states to logits, as the base model's own forward pass makes them.

Shapes: V vocabulary, D hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FACTORS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
"""Keys of transformers' configurations by which the logits are multiplied: Cohere, Falcon-H1, Muse."""
DIVISORS = ("logits_scaling", "logits_mup_width_multiplier")
"""Keys by which they are divided: Granite, MiniCPM3, Inkling; HyperCLOVA X multiplies by the first."""
CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""Keys whose value c bounds each logit x to c·tanh(x / c): Gemma, NanoChat."""


def logits_of(model: Any, states: Tensor) -> Tensor:
    """Logits [..., V] at some positions, in the model's number type.

    The output head alone does not give them: some families scale or bound what it says, which leaves the likeliest
    token as it is, but neither losses nor probabilities.

    Args:
        model: a transformers causal LM.
        states: the decoder's last states there, [..., D].
    """
    logits: Tensor = model.get_output_embeddings()(states)
    config = model.config.get_text_config()
    scale = _scale(config)
    if scale != 1:
        logits = logits * scale
    for cap in _values(config, CAPS):
        logits = torch.tanh(logits / cap) * cap
    return logits


def _scale(config: Any) -> float:
    """What the logits of the head are multiplied by."""
    scale = 1.0
    for factor in _values(config, FACTORS):
        scale *= factor
    for divisor in _values(config, DIVISORS):
        scale = scale * divisor if config.model_type == "hyperclovax" else scale / divisor
    return scale


def _values(config: Any, keys: tuple[str, ...]) -> list[float]:
    """Those of the keys that a configuration sets."""
    values = [getattr(config, key, None) for key in keys]
    return [value for value in values if isinstance(value, int | float)]
