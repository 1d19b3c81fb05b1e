"""Shapes: B rows, T positions, D inputs, O outputs, G routed groups, K experts, R rank, S rank of the shared expert."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polyprag.config import Composition, Normalisation
from polyprag.experts.layer import FOLDED_ROWS_PER_EXPERT, GateContext, PooledLinear
from polyprag.experts.routing import gates_from_logits

INPUTS, OUTPUTS, SCALE = 6, 5, 1.7


def random_layer(composition: Composition, count: int, rank: int, shared: int = 0, seed: int = 0) -> PooledLinear:
    """A layer in float64 whose experts all do something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base = nn.Linear(INPUTS, OUTPUTS)
        layer = PooledLinear(base, 0, count, rank, SCALE, composition, GateContext(), shared).double()
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    return layer


def random_input(rows: int, length: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, length, INPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_gates(rows: int, count: int, top_k: int, seed: int = 2) -> Tensor:
    """Gates [B, 1, K]."""
    logits_BGK = torch.randn(rows, 1, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return gates_from_logits(logits_BGK, Normalisation.SIGMOID, top_k)


def expected_output(layer: PooledLinear, x_BTD: Tensor, w_BK: Tensor) -> Tensor:
    """The formula of the composition written out expert by expert."""
    with torch.no_grad():
        A_KRD = layer.A.view(layer.count, layer.rank, -1)
        B_OKR = layer.B.view(-1, layer.count, layer.rank)
        if layer.composition is Composition.SUM:
            delta_BOD = torch.einsum("bk,okr,krd->bod", w_BK, B_OKR, A_KRD)
        else:
            delta_BOD = torch.einsum("bk,okr,bj,jrd->bod", w_BK, B_OKR, w_BK, A_KRD)
        if layer.shared_A is not None:
            delta_BOD = delta_BOD + torch.einsum("os,sd->od", layer.shared_B, layer.shared_A)
        return layer.base(x_BTD) + SCALE * torch.einsum("bod,btd->bto", delta_BOD, x_BTD)


@settings(max_examples=80, deadline=None)
@given(
    composition=st.sampled_from(Composition),
    count=st.integers(1, 9),
    rank=st.integers(1, 3),
    shared=st.integers(0, 2),
    rows=st.integers(1, 5),
    repeats=st.integers(1, 3),
    length=st.integers(1, 4),
    data=st.data(),
)
def test_sparse_equals_dense_with_zeros(composition, count, rank, shared, rows, repeats, length, data):
    top_k = data.draw(st.integers(0, count))
    layer = random_layer(composition, count, rank, shared)
    gates_BGK = random_gates(rows, count, top_k)
    layer.context.activate(gates_BGK)
    for step in range(2):  # the second pass meets what the first one kept
        x_BTD = random_input(rows * repeats, length, seed=step)
        dense_BTO = layer(x_BTD).detach()
        with torch.no_grad():
            sparse_BTO = layer(x_BTD)
        expected_BTO = expected_output(layer, x_BTD, gates_BGK[:, 0].repeat_interleave(repeats, 0))
        torch.testing.assert_close(dense_BTO, expected_BTO, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(sparse_BTO, expected_BTO, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("composition", Composition)
@pytest.mark.parametrize("shared", [0, 2])
def test_half_precision_inputs_meet_single_precision_experts(composition, shared):
    layer = random_layer(composition, 4, 2, shared)
    gates_BGK = random_gates(3, 4, 1)
    x_BTD = random_input(3, 4)
    expected_BTO = expected_output(layer, x_BTD, gates_BGK[:, 0])
    layer.float().base.to(torch.bfloat16)
    layer.context.activate(gates_BGK.float())
    with torch.no_grad():
        found_BTO = layer(x_BTD.to(torch.bfloat16))
    assert found_BTO.dtype == torch.bfloat16
    torch.testing.assert_close(found_BTO.double(), expected_BTO, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("composition", Composition)
def test_inactive_experts_are_really_left_out(composition):
    """Weights of experts without a gate are never read: not a number there reaches no output."""
    layer = random_layer(composition, 8, 2)
    gates_BGK = torch.zeros(2, 1, 8, dtype=torch.float64)
    gates_BGK[0, 0, 3] = gates_BGK[1, 0, 5] = 1.0
    x_BTD = random_input(2, 3)
    expected_BTO = expected_output(layer, x_BTD, gates_BGK[:, 0])
    with torch.no_grad():
        for expert in (0, 1, 2, 4, 6, 7):
            layer.A[2 * expert : 2 * expert + 2] = float("nan")
            layer.B[:, 2 * expert : 2 * expert + 2] = float("nan")
        layer.context.activate(gates_BGK)
        torch.testing.assert_close(layer(x_BTD), expected_BTO, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("composition", Composition)
@pytest.mark.parametrize("shared", [0, 3])
def test_zero_gates_leave_the_base_and_the_shared_expert(composition, shared):
    layer = random_layer(composition, 4, 2, shared)
    x_BTD = random_input(2, 3)
    layer.context.activate(torch.zeros(2, 1, 4, dtype=torch.float64))
    expected_BTO = layer.base(x_BTD).detach()
    if shared:
        expected_BTO += SCALE * torch.einsum("os,sd,btd->bto", layer.shared_B, layer.shared_A, x_BTD).detach()
    with torch.no_grad():
        torch.testing.assert_close(layer(x_BTD), expected_BTO, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer(x_BTD).detach(), expected_BTO, rtol=1e-10, atol=1e-10)
    layer.context.deactivate()
    torch.testing.assert_close(layer(x_BTD), layer.base(x_BTD), rtol=0, atol=0)


def test_more_rows_than_can_be_mixed_stay_exact():
    layer = random_layer(Composition.FACTOR, 2, 2)
    rows = FOLDED_ROWS_PER_EXPERT * 2 + 1
    gates_BGK = random_gates(rows, 2, 0)
    layer.context.activate(gates_BGK)
    x_BTD = random_input(rows, 2)
    with torch.no_grad():
        torch.testing.assert_close(layer(x_BTD), expected_output(layer, x_BTD, gates_BGK[:, 0]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("composition", Composition)
def test_new_gates_and_new_weights_count_once_gates_are_put_in_force_again(composition):
    layer = random_layer(composition, 4, 2)
    x_BTD = random_input(1, 3)
    with torch.no_grad():
        for seed in range(3):
            gates_BGK = random_gates(1, 4, 1, seed)
            layer.context.activate(gates_BGK)
            torch.testing.assert_close(layer(x_BTD), expected_output(layer, x_BTD, gates_BGK[:, 0]))
            layer.A += 1.0
    layer.context.deactivate()
    assert torch.equal(layer(x_BTD), layer.base(x_BTD))


def test_groups_use_experts_of_their_own():
    context = GateContext()
    gates_BGK = torch.zeros(2, 3, 4)
    gates_BGK[0, 0, 1] = gates_BGK[1, 0, 3] = gates_BGK[1, 2, 0] = 0.5
    context.activate(gates_BGK)
    assert [context.used(group) for group in range(3)] == [[1, 3], [], [0]]


def test_the_base_layers_output_is_not_changed_where_gradients_are_on():
    layer = random_layer(Composition.SUM, 4, 2)
    outputs = []
    layer.base.register_forward_hook(lambda _module, _inputs, output: outputs.append((output, output.detach().clone())))
    layer.context.activate(random_gates(1, 4, 1))
    layer(random_input(1, 2))
    assert torch.equal(*outputs[0])


def test_the_shared_expert_learns_under_all_gates():
    layer = random_layer(Composition.SUM, 4, 2, shared=3)
    layer.context.activate(torch.zeros(2, 1, 4, dtype=torch.float64))
    x_BTD = random_input(2, 3)
    layer(x_BTD).square().sum().backward()
    assert layer.shared_A.grad.abs().min() > 0
    assert layer.shared_B.grad.abs().min() > 0
    assert not layer.A.grad.any()
    assert not layer.B.grad.any()
