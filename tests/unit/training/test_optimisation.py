"""Shapes: G routed groups, K experts, N passages."""

import copy

import pytest
import torch
from torch import Tensor, nn

from polyprag.config import RoutingConfig, TrainingConfig
from polyprag.experts.routing import TaskRouter
from polyprag.training.optimisation import PoolOptimizer, warmup_and_decay

PASSAGES, GROUPS, EXPERTS = 5, 2, 3


class Learner:
    """An expert's weight, a router, and what trains them."""

    def __init__(self, **changes) -> None:
        torch.manual_seed(0)
        self.router = TaskRouter(PASSAGES, GROUPS, EXPERTS, RoutingConfig(init=1.0))
        self.expert = nn.Parameter(torch.randn(EXPERTS, 4))
        config = TrainingConfig(**{"learning_rate": 0.01, "router_learning_rate": 0.1, **changes})
        self.optimizer = PoolOptimizer([self.expert], self.router.parameters(), config)

    def loss(self, tasks: list[int]) -> Tensor:
        return (self.router(torch.tensor(tasks)) @ self.expert).square().sum()

    def step(self, tasks: list[int]) -> None:
        self.optimizer.zero_grad()
        self.loss(tasks).backward()
        self.optimizer.step()

    def weights(self) -> tuple[Tensor, Tensor]:
        return self.expert.detach().clone(), self.router.rows.weight.detach().clone()


def test_rows_outside_the_batch_do_not_move_even_with_momentum():
    learner = Learner()
    learner.step([0, 1, 2])
    _, before = learner.weights()
    for _ in range(3):
        learner.step([3, 1, 3])
    _, after = learner.weights()
    assert torch.equal(after[[0, 2, 4]], before[[0, 2, 4]])
    assert ((after[[1, 3]] - before[[1, 3]]).abs() > 1e-3).all()


def test_the_two_speeds_are_their_own():
    learner = Learner()
    expert, rows = learner.weights()
    learner.step([2])
    moved_expert, moved_rows = learner.weights()
    # Adam's first step is as long as the learning rate
    torch.testing.assert_close((moved_expert - expert).abs(), torch.full_like(expert, 0.01), rtol=1e-3, atol=0)
    torch.testing.assert_close((moved_rows - rows)[2].abs(), torch.full_like(rows[2], 0.1), rtol=1e-3, atol=0)


def test_weight_decay_shrinks_experts_and_no_rows():
    plain, decaying = Learner(), Learner(weight_decay=0.5)
    expert, _ = plain.weights()
    plain.step([0])
    decaying.step([0])
    torch.testing.assert_close(decaying.expert, plain.expert - 0.01 * 0.5 * expert)
    assert torch.equal(decaying.router.rows.weight, plain.router.rows.weight)


def test_an_optimiser_goes_on_from_its_state_bit_for_bit():
    learner, resumed = Learner(), Learner()
    for tasks in ([0, 1], [1, 2], [3, 3]):
        learner.step(tasks)
    state = copy.deepcopy(learner.optimizer.state_dict())
    resumed.expert.data, resumed.router.rows.weight.data = learner.weights()
    resumed.optimizer.load_state_dict(state)
    for tasks in ([1, 4], [0, 2]):
        learner.step(tasks)
        resumed.step(tasks)
    for ours, expected in zip(resumed.weights(), learner.weights(), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("loaded", [False, True])
def test_a_schedule_reaches_both_optimisers(loaded):
    learner = Learner()
    scheduler = warmup_and_decay(learner.optimizer, warmup=0.5, steps=4)
    if loaded:
        learner.optimizer.load_state_dict(copy.deepcopy(learner.optimizer.state_dict()))
    rates = []
    for _ in range(5):
        rates.append((learner.optimizer.dense.param_groups[0]["lr"], learner.optimizer.sparse.param_groups[0]["lr"]))
        learner.step([0])
        scheduler.step()
    assert rates == [pytest.approx((0.01 * share, 0.1 * share)) for share in (0.5, 1, 1, 0.5, 0)]


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 1), (0.0, 10), (0.06, 10), (0.3, 20), (0.9, 7)])
def test_learning_rates_rise_then_fall_and_never_idle(warmup, steps):
    learner = Learner()
    scheduler = warmup_and_decay(learner.optimizer, warmup, steps)
    shares = []
    for _ in range(steps):
        shares.append(learner.optimizer.param_groups[0]["lr"] / 0.01)
        learner.step([0])
        scheduler.step()
    peak = shares.index(max(shares))
    assert max(shares) == pytest.approx(1)
    assert shares[: peak + 1] == sorted(shares[: peak + 1])
    assert shares[peak:] == sorted(shares[peak:], reverse=True)
    assert min(shares) > 0
    assert learner.optimizer.param_groups[0]["lr"] == 0


def test_a_closure_computes_loss_and_gradients_first():
    by_hand, by_closure = Learner(), Learner()
    by_hand.step([1, 2])

    def closure() -> Tensor:
        loss = by_closure.loss([1, 2])
        loss.backward()
        return loss

    loss = by_closure.optimizer.step(closure)
    torch.testing.assert_close(loss, Learner().loss([1, 2]))
    for ours, expected in zip(by_closure.weights(), by_hand.weights(), strict=True):
        assert torch.equal(ours, expected)
