"""Shapes: B rows, K adapters, R rank, D inputs, O outputs, T positions."""

import pytest
import torch

from polyprag.config import Composition
from polyprag.errors import ConfigError
from polyprag.experts.adapter_pool import AdapterPool, as_experts

TARGETS = ["up_proj", "down_proj"]
SCALE = 1.5


def adapters_of(pool, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (
            0.3 * torch.randn(count, 2, inputs, generator=generator),
            0.3 * torch.randn(count, outputs, 2, generator=generator),
        )
        for name, (inputs, outputs) in pool.shapes.items()
    }


@pytest.mark.parametrize("composition", list(Composition))
@pytest.mark.parametrize("chosen", [[(0,), (0, 1, 2)], [(2,), ()], [(1, 2), (2, 1)]])
def test_a_row_meets_the_merged_adapters_chosen_for_it(tiny_base, composition, chosen):
    pool = AdapterPool(tiny_base.model, TARGETS, rank=2, scale=SCALE, composition=composition)
    adapters = adapters_of(pool, count=3)
    pool.put(adapters)
    for name, (A_KRD, B_KOR) in adapters.items():
        layer = pool.pool.layers[name]
        x_BTD = torch.randn(2, 4, layer.base.in_features)
        with torch.no_grad(), pool.pool.gated(pool.gates(chosen, 3)):
            y_BTO = layer(x_BTD)
        for row, own in enumerate(chosen):
            A, B = A_KRD[list(own)].double(), B_KOR[list(own)].double()
            update_OD = torch.einsum("kor,krd->od", B, A)
            if own and composition is Composition.FACTOR:
                update_OD = B.mean(0) @ A.mean(0)
            expected = layer.base(x_BTD[row]).double() + SCALE * x_BTD[row].double() @ update_OD.t()
            torch.testing.assert_close(y_BTO[row].double(), expected, rtol=1e-4, atol=1e-5)


def test_without_any_adapter_the_base_speaks(tiny_base):
    tokens_BT = torch.tensor([[5, 6, 7], [8, 9, 10]])
    with torch.no_grad():
        before = tiny_base.model(tokens_BT).logits
        pool = AdapterPool(tiny_base.model, TARGETS, rank=2, scale=SCALE, composition=Composition.SUM)
        pool.put(adapters_of(pool, count=2))
        assert torch.equal(tiny_base.model(tokens_BT).logits, before)
        with pool.pool.gated(pool.gates([(0,), ()], 2)):
            after = tiny_base.model(tokens_BT).logits
    assert not torch.allclose(after[0], before[0], atol=1e-2)
    torch.testing.assert_close(after[1], before[1])


def test_others_take_the_place_of_adapters_whatever_their_number(tiny_base):
    pool = AdapterPool(tiny_base.model, TARGETS, rank=2, scale=SCALE, composition=Composition.SUM)
    tokens_BT = torch.tensor([[5, 6, 7]])
    outputs = []
    for count in (1, 4, 1):
        pool.put(adapters_of(pool, count, seed=count))
        with torch.no_grad(), pool.pool.gated(pool.gates([(0,)], count)):
            outputs.append(tiny_base.model(tokens_BT).logits)
    torch.testing.assert_close(outputs[0], outputs[2])
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-2)


def test_adapters_as_experts_pass_gradients_on(tiny_base):
    pool = AdapterPool(tiny_base.model, TARGETS, rank=2, scale=SCALE, composition=Composition.SUM)
    assert set(pool.shapes.values()) == {(32, 64), (64, 32)}
    adapters = {name: (A.requires_grad_(), B.requires_grad_()) for name, (A, B) in adapters_of(pool, 3).items()}
    weights = as_experts(adapters)
    assert weights.keys() == pool.pool.state().keys()
    sum(weight.square().sum() for weight in weights.values()).backward()
    for sides in adapters.values():
        for side in sides:
            torch.testing.assert_close(side.grad, 2 * side.detach())


def test_unknown_layers_are_refused(tiny_base):
    with pytest.raises(ConfigError, match=r"no linear layer named 'nonsense'"):
        AdapterPool(tiny_base.model, ["nonsense"], rank=2, scale=SCALE, composition=Composition.SUM)
