"""Shapes: B rows, T positions, D inputs, O outputs, G routed groups, K experts, R rank, S rank of the shared expert."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polyprag.config import Composition, Normalisation
from polyprag.experts import layer as layer_file
from polyprag.experts.gate_context import GateContext
from polyprag.experts.layer import FOLDED_ROWS_PER_EXPERT, PooledLinear
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


@pytest.mark.parametrize("shared", [0, 2])
def test_mixing_by_row_changes_no_gradient_of_factor(monkeypatch, shared):
    layer = random_layer(Composition.FACTOR, 4, 2, shared)
    inputs = [random_input(3, 5).requires_grad_(), random_gates(3, 4, 0)[:, 0].requires_grad_()]
    found = []
    for rows_per_expert in (FOLDED_ROWS_PER_EXPERT, 0):
        monkeypatch.setattr(layer_file, "FOLDED_ROWS_PER_EXPERT", rows_per_expert)
        loss = layer.update(*inputs).square().sum()
        wanted = [*inputs, *(weight for name, weight in layer.named_parameters() if "base" not in name)]
        found.append(torch.autograd.grad(loss, wanted))
    for by_row, by_expert in zip(*found, strict=True):
        torch.testing.assert_close(by_row, by_expert, rtol=1e-10, atol=1e-10)


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


@pytest.mark.parametrize("composition", Composition)
@pytest.mark.parametrize("shared", [0, 2])
@pytest.mark.parametrize("top_k", [0, 1, 3])
def test_a_single_token_is_like_any_other(composition, shared, top_k):
    layer = random_layer(composition, 8, 2, shared)
    gates_BGK = random_gates(1, 8, top_k)
    expected = [expected_output(layer, random_input(1, 1, seed), gates_BGK[:, 0]) for seed in range(2)]
    layer.float()
    layer.context.activate(gates_BGK.float())
    for seed, expected_BTO in enumerate(expected):  # the second token meets what the first one kept
        with torch.no_grad():
            found_BTO = layer(random_input(1, 1, seed).float())
        assert found_BTO.dtype == torch.float32
        torch.testing.assert_close(found_BTO.double(), expected_BTO, rtol=1e-4, atol=1e-4)
    layer.base.to(torch.bfloat16)
    with torch.no_grad():
        found_BTO = layer(random_input(1, 1, 0).to(torch.bfloat16))
    assert found_BTO.dtype == torch.bfloat16
    torch.testing.assert_close(found_BTO.double(), expected[0], rtol=0.05, atol=0.2)


def alike_layers(composition: Composition, shared: int) -> list[PooledLinear]:
    """Two layers of one context and of groups of their own that meet the same inputs."""
    layers = [random_layer(composition, 6, 2, shared, seed) for seed in range(2)]
    for group, layer in enumerate(layers):
        layer.context, layer.group, layer.sharing_inputs = layers[0].context, group, tuple(layers)
    return layers


@pytest.mark.parametrize("composition", Composition)
@pytest.mark.parametrize("shared", [0, 1])
@pytest.mark.parametrize("kept", [(6, 6), (2, 6), (6, 0), (0, 1), (0, 0)])
def test_layers_that_share_their_first_product_equal_separate_ones(composition, shared, kept):
    layers = alike_layers(composition, shared)
    gates = [random_gates(3, 6, count) if count else torch.zeros(3, 1, 6, dtype=torch.float64) for count in kept]
    layers[0].context.activate(torch.cat(gates, dim=1))
    for seed in range(2):
        x_BTD = random_input(3, 4, seed)
        for layer, gates_BGK in zip(layers, gates, strict=True):
            with torch.no_grad():
                found_BTO = layer(x_BTD)
            torch.testing.assert_close(
                found_BTO, expected_output(layer, x_BTD, gates_BGK[:, 0]), rtol=1e-10, atol=1e-10
            )


def test_a_layer_whose_inputs_are_new_does_not_take_what_was_left_for_others():
    first, second = alike_layers(Composition.SUM, 0)
    gates_BGK = torch.cat([random_gates(2, 6, 3, seed) for seed in range(2)], dim=1)
    first.context.activate(gates_BGK)
    one, other = random_input(2, 3, 0), random_input(2, 3, 1)
    with torch.no_grad():
        first(one)
        for x_BTD in (other, one, one):
            torch.testing.assert_close(second(x_BTD), expected_output(second, x_BTD, gates_BGK[:, 1]))
        first(one)
        first.context.activate(gates_BGK.flip(1))
        torch.testing.assert_close(second(one), expected_output(second, one, gates_BGK[:, 0]))
