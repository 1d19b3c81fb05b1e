"""Shapes: B rows, G routed groups, K experts, N passages."""

import numpy as np
import pytest
import torch

from polyprag.config import Normalisation, RoutingConfig
from polyprag.experts.routing import BLOCK, RowGates, TaskRouter, gates_from_logits
from polyprag.experts.routing_measures import (
    dead_experts,
    load_balance_loss,
    mean_use,
    relative_entropy,
    routing_losses,
    share_above,
    usage,
    z_loss,
)

GROUPS, EXPERTS = 3, 5
ROWS_NGK = torch.randn(2 * BLOCK + 3, 2, 3, generator=torch.Generator().manual_seed(0)).bfloat16()


def one_hot(experts: list[int]) -> torch.Tensor:
    return torch.eye(4)[experts][:, None]


@pytest.mark.parametrize(
    ("gates_BGK", "entropy", "imbalance", "largest"),
    [
        (torch.full((3, 2, 4), 0.25), 1, 1, 0.25),
        (torch.full((3, 2, 4), 0.75), 1, 1, 0.25),  # merged rows: mass does not matter
        (one_hot([2, 2, 2]), 0, 4, 1),
        (one_hot([0, 1, 2, 3]), 0, 1, 1),
        (torch.ones(2, 1, 1), 1, 1, 1),
    ],
)
def test_usage_tells_spread_and_balance(gates_BGK, entropy, imbalance, largest):
    told = {name: float(value) for name, value in usage(gates_BGK).items()}
    assert told == pytest.approx({"entropy": entropy, "imbalance": imbalance, "largest": largest}, abs=1e-4)


def random_logits(rows: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return 2 * torch.randn(rows, GROUPS, EXPERTS, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("top_k", [0, 2])
def test_losses_follow_their_formulas(top_k):
    logits = random_logits()
    config = RoutingConfig(top_k=top_k, load_balance=0.1, entropy=0.2, z_loss=0.3)
    found = routing_losses(logits, config)
    dense = gates_from_logits(logits, Normalisation.SIGMOID).numpy()
    gates = gates_from_logits(logits, Normalisation.SIGMOID, top_k).numpy()
    balance = np.mean([EXPERTS * gates[:, g].mean(0) @ dense[:, g].mean(0) for g in range(GROUPS)])
    entropy = np.mean([-sum(w * np.log(w) for w in row if w > 0) for row in gates.reshape(-1, EXPERTS)])
    z = np.mean(np.log(np.exp(logits.numpy()).sum(-1)) ** 2)
    assert {name: weight for name, (weight, _) in found.items()} == {"load_balance": 0.1, "entropy": 0.2, "z_loss": 0.3}
    assert float(found["load_balance"][1]) == pytest.approx(balance, rel=1e-9)
    assert float(found["entropy"][1]) == pytest.approx(entropy / np.log(EXPERTS), abs=1e-5)
    assert float(found["z_loss"][1]) == pytest.approx(z, rel=1e-9)


def test_dense_balance_is_the_squared_coefficient_of_variation_plus_one():
    gates = gates_from_logits(random_logits(), Normalisation.SOFTMAX)
    use = gates.mean(0).numpy()
    variation = (use.std(-1) / use.mean(-1)) ** 2
    assert float(load_balance_loss(gates, gates)) == pytest.approx(variation.mean() + 1, rel=1e-5)


@pytest.mark.parametrize(
    ("gates_BGK", "balance", "entropy"),
    [
        (torch.full((3, 2, 4), 0.25), 1, 1),
        (torch.eye(4)[[2, 2, 2]][:, None], 4, 0),
        (torch.eye(4)[[0, 1, 2, 3]][:, None], 1, 0),
    ],
)
def test_losses_have_their_bounds_where_they_say(gates_BGK, balance, entropy):
    assert float(load_balance_loss(gates_BGK, gates_BGK)) == pytest.approx(balance)
    assert float(relative_entropy(gates_BGK)) == pytest.approx(entropy, abs=1e-4)


def test_z_loss_is_zero_for_logits_whose_exponentials_sum_to_one():
    assert float(z_loss(torch.randn(4, 3, 5).log_softmax(-1))) == pytest.approx(0, abs=1e-10)


def test_losses_without_weight_are_left_out():
    assert routing_losses(random_logits(), RoutingConfig()) == {}
    assert set(routing_losses(random_logits(), RoutingConfig(z_loss=1.0))) == {"z_loss"}


def test_losses_reach_the_rows_of_the_batch_only():
    one = TaskRouter(6, GROUPS, EXPERTS, RoutingConfig(load_balance=1.0, entropy=1.0, z_loss=1.0, top_k=2))
    losses = routing_losses(one.logits_of(torch.tensor([4, 1, 4])), one.config)
    sum(weight * loss for weight, loss in losses.values()).backward()
    gradient = one.rows.weight.grad.coalesce()
    assert gradient.indices().flatten().tolist() == [1, 4]
    assert (gradient.values().abs() > 0).all()


def test_balance_favours_experts_that_no_row_chooses():
    logits = random_logits().requires_grad_()
    with torch.no_grad():
        logits[..., 0] = -3.0
    dense, gates = (gates_from_logits(logits, Normalisation.SIGMOID, top_k) for top_k in (0, 2))
    assert not gates[..., 0].any()
    (gradient,) = torch.autograd.grad(load_balance_loss(dense, gates), logits)
    assert (gradient[..., 0] < 0).all()  # a step against it raises them


@pytest.mark.parametrize("top_k", [0, 1])
def test_dead_experts_are_those_that_the_corpus_hardly_uses(top_k):
    gates_NGK = torch.tensor([[[0.9, 0.1, 0.0], [0.3, 0.3, 0.4]], [[0.96, 0.04, 0.0], [0.5, 0.0, 0.5]]])
    dead_GK = dead_experts(gates_NGK, RoutingConfig(top_k=top_k, reseed_below=0.3))
    assert dead_GK.tolist() == [[False, not top_k, True], [False, False, False]]


@pytest.mark.parametrize("top_k", [0, 1])
def test_means_over_blocks_are_those_over_all(top_k):
    gates_NGK = RowGates(ROWS_NGK, RoutingConfig(top_k=top_k))
    torch.testing.assert_close(mean_use(gates_NGK), gates_NGK[:].double().mean(0).float())
    torch.testing.assert_close(share_above(gates_NGK, 0.5), (gates_NGK[:] > 0.5).double().mean(0).float())


@pytest.mark.parametrize("top_k", [0, 1])
def test_an_expert_that_the_last_block_alone_uses_is_alive(top_k):
    rows_NGK = ROWS_NGK.clone()
    rows_NGK[:, :, 2] = -30
    config = RoutingConfig(top_k=top_k, reseed_below=1e-6)
    assert dead_experts(RowGates(rows_NGK, config), config)[:, 2].all()
    rows_NGK[-1, :, 2] = 30
    assert not dead_experts(RowGates(rows_NGK, config), config).any()
