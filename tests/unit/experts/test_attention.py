"""Shapes: B rows, H query heads, K key heads, T positions, D size of a head."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from polyprag.experts import attention
from polyprag.experts.attention import NAME, additive, grouped_attention, train_with_grouped_attention
from polyprag.experts.base_model import BaseModel

ROWS, LENGTH, SIZE = 3, 7, 4


def random_heads(heads: int, seed: int, length: int = LENGTH) -> Tensor:
    """Heads [B, H, T, D] in float64, laid out in memory as projections leave them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, length, heads, SIZE, dtype=torch.float64, generator=generator).transpose(1, 2)


def random_mask() -> Tensor:
    """What may attend to what: itself, and some of what was before; [B, 1, T, T]."""
    causal_TT = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    drawn = torch.rand(ROWS, 1, LENGTH, LENGTH, generator=torch.Generator().manual_seed(3)) < 0.6
    return (causal_TT & drawn) | torch.eye(LENGTH, dtype=torch.bool)


@pytest.mark.parametrize(("heads", "key_heads"), [(6, 6), (6, 3), (6, 2), (4, 1)])
def test_grouped_attention_equals_the_kernel_with_repeated_heads(heads, key_heads):
    ours = [random_heads(count, seed).requires_grad_() for seed, count in enumerate((heads, key_heads, key_heads))]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    allowed, weights = random_mask(), random_heads(heads, 9)
    found = grouped_attention(*ours, additive(allowed, torch.float64), 0.3)
    repeated = [theirs[0], *(tensor.repeat_interleave(heads // key_heads, dim=1) for tensor in theirs[1:])]
    expected = scaled_dot_product_attention(*repeated, attn_mask=allowed, scale=0.3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-12, atol=1e-12)


def logits_with(base: BaseModel, name: str, length: int = 40) -> Tensor:
    """Logits of two random rows under an attention implementation."""
    tokens_BT = torch.randint(3, 60, (2, length), generator=torch.Generator().manual_seed(4))
    mask_B1TT = torch.ones(2, 1, length, length, dtype=torch.bool).tril()
    base.model.set_attn_implementation(name)
    logits: Tensor = base.model(tokens_BT, attention_mask=mask_B1TT).logits
    return logits


def test_it_is_in_force_on_cpus_and_answers_with_the_kernel(tiny_base):
    assert tiny_base.model.config._attn_implementation == NAME
    with torch.no_grad():
        assert torch.equal(logits_with(tiny_base, NAME), logits_with(tiny_base, "sdpa"))


@pytest.mark.parametrize("longest", [39, 40])
def test_gradients_on_means_grouped_unless_rows_are_too_long(tiny_base, monkeypatch, longest):
    monkeypatch.setattr(attention, "LONGEST", longest)
    called = []
    monkeypatch.setattr(attention, "grouped_attention", lambda *given: called.append(1) or grouped_attention(*given))
    found, expected = logits_with(tiny_base, NAME), logits_with(tiny_base, "sdpa")
    assert len(called) == (0 if longest < 40 else tiny_base.model.config.num_hidden_layers)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_another_attention_stays(tiny_base):
    tiny_base.model.set_attn_implementation("eager")
    train_with_grouped_attention(tiny_base.model)
    assert tiny_base.model.config._attn_implementation == "eager"
