"""Shapes: G routed groups, K experts, N passages."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from polyprag.config import RoutingConfig, TrainingConfig
from polyprag.experts.routing import TaskRouter
from polyprag.training.optimisation import PoolOptimizer, ends_step, warmup_and_decay

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


@pytest.mark.parametrize("fused", [True, None])  # None is what checkpoints of earlier versions say
def test_experts_take_the_steps_of_plain_adamw(fused):
    learner = Learner(weight_decay=0.1)
    plain = nn.Parameter(learner.weights()[0])
    reference = torch.optim.AdamW([plain], lr=0.01, weight_decay=0.1, fused=False)
    for number in range(6):
        if number == 3:
            state = copy.deepcopy(learner.optimizer.state_dict())
            state["experts"]["param_groups"][0]["fused"] = fused
            learner.optimizer.load_state_dict(state)
        learner.step([number % PASSAGES])
        plain.grad = learner.expert.grad.clone()
        reference.step()
        torch.testing.assert_close(learner.expert.detach(), plain.detach(), rtol=1e-6, atol=1e-7)


def test_where_every_row_occurs_it_is_dense_adam():
    """But for the small number in the denominator, which counts for more; so gradients are made large here."""
    ours, theirs = Learner(), Learner()
    dense = torch.optim.Adam([theirs.router.rows.weight], lr=0.1)
    for tasks in ([4, 0, 1, 2, 3], [0, 1, 2, 3, 4, 4], [3, 2, 1, 0, 4]):
        ours.optimizer.zero_grad()
        (1e6 * ours.loss(tasks)).backward()
        theirs.router.rows.weight.grad = ours.router.rows.weight.grad.to_dense()
        ours.optimizer.sparse.step()
        dense.step()
    torch.testing.assert_close(ours.router.rows.weight, theirs.router.rows.weight, rtol=1e-5, atol=1e-6)


def test_a_row_that_occurs_now_and_then_learns_as_if_other_steps_were_not_but_for_the_count_of_all_steps():
    """Dense Adam would go on moving it by its old mean; here means rest, and bias correction counts every step."""
    learner = Learner()
    rows = learner.router.rows.weight
    expected_ND = rows.detach().double().clone()
    means_ND, squares_ND = torch.zeros_like(expected_ND), torch.zeros_like(expected_ND)
    for step, tasks in enumerate([[0, 1], [1, 1], [2, 0], [1, 3], [0, 0]], start=1):
        learner.optimizer.zero_grad()
        learner.loss(tasks).backward()
        gradient_ND = rows.grad.to_dense().double()
        for row in set(tasks):
            means_ND[row] = 0.9 * means_ND[row] + 0.1 * gradient_ND[row]
            squares_ND[row] = 0.999 * squares_ND[row] + 0.001 * gradient_ND[row].square()
            rate = 0.1 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
            expected_ND[row] -= rate * means_ND[row] / (squares_ND[row].sqrt() + 1e-8)
        learner.optimizer.step()
    torch.testing.assert_close(rows.detach().double(), expected_ND, rtol=1e-5, atol=1e-6)


def test_a_step_touches_the_rows_of_its_batch_alone():
    """What a step reads and writes of rows and moments is the same for any number of passages."""
    learner = Learner()
    learner.step([0, 2])
    gradient = learner.router.rows.weight.grad
    assert gradient.is_sparse
    assert sorted(set(gradient._indices().flatten().tolist())) == [0, 2]
    state = learner.optimizer.sparse.state[learner.router.rows.weight]
    for name in ("exp_avg", "exp_avg_sq"):
        assert not state[name][[1, 3, 4]].any()
        assert state[name][[0, 2]].any()


@pytest.mark.parametrize(
    ("accumulate", "ends"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (5, [4]), (9, [4])]
)
def test_a_step_ends_with_every_so_many_batches_and_with_the_last(accumulate, ends):
    trainers = [SimpleNamespace(accumulate_grad_batches=accumulate, is_last_batch=batch == 4) for batch in range(5)]
    assert [batch for batch, trainer in enumerate(trainers) if ends_step(trainer, batch)] == ends
