"""Shapes: G routed groups, K experts, N passages."""

import math

import pytest
import torch
from torch import Tensor

from polyprag.config import ExpertsConfig, Granularity, RoutingConfig, TrainingConfig
from polyprag.experts.base_model import BaseModel
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.training.dead_experts import reseed
from polyprag.training.optimisation import PoolOptimizer

PASSAGES, EXPERTS, RANK = 3, 4, 2
TOKENS = torch.tensor([[7, 40, 41, 90, 12], [60, 61, 33, 200, 150]])


class Learner:
    """A pool, a router, and an optimiser that remembers gradients of all of them."""

    def __init__(self, base: BaseModel) -> None:
        torch.manual_seed(0)
        self.base = base
        config = ExpertsConfig(EXPERTS, RANK, shared=1)
        self.pool = ExpertPool(base.model, config, Granularity.BLOCK)
        for layer in self.pool.layers.values():
            torch.nn.init.normal_(layer.B, std=0.1)
        self.router = TaskRouter(PASSAGES, self.pool.groups, EXPERTS, RoutingConfig(init=0.5))
        self.optimizer = PoolOptimizer(self.pool.parameters(), self.router.parameters(), TrainingConfig())

    def step(self) -> float:
        self.optimizer.zero_grad()
        with self.pool.gated(self.router(torch.tensor([0, 2]))):
            loss = -self.base.model(TOKENS).logits.log_softmax(-1)[..., 5].mean()
            loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def tensors(self) -> dict[str, Tensor]:
        """All weights and moments, by name."""
        named = {**self.pool.state(), "rows": self.router.rows.weight.detach()}
        found = dict(named)
        for name, parameter in zip(named, [*self.pool.parameters(), self.router.rows.weight], strict=True):
            half = self.optimizer.sparse if name == "rows" else self.optimizer.dense
            found |= {f"{name}.{moment}": half.state[parameter][moment] for moment in ("exp_avg", "exp_avg_sq")}
        return {name: tensor.clone() for name, tensor in found.items()}

    def reseed(self, *dead: tuple[int, int], seed: int = 0) -> None:
        dead_GK = torch.zeros(self.pool.groups, EXPERTS, dtype=torch.bool)
        for group, expert in dead:
            dead_GK[group, expert] = True
        reseed(self.pool, self.router, self.optimizer, dead_GK, torch.Generator().manual_seed(seed))


@pytest.fixture
def learner(tiny_base) -> Learner:
    one = Learner(tiny_base)
    one.step()
    return one


def part_of(name: str, tensor: Tensor, learner: Learner, group: int, expert: int) -> Tensor:
    """The numbers of one expert in a tensor of weights or moments, empty where it has none."""
    layer = learner.pool.layers.get(name.split(".A")[0].split(".B")[0])
    if name.startswith("rows"):
        return tensor[:, [group * EXPERTS + expert]]
    if layer is None or layer.group != group:
        return tensor[:0]
    part = slice(expert * RANK, (expert + 1) * RANK)
    return tensor[part] if ".A" in name else tensor[:, part]


def test_only_the_dead_are_made_anew(learner):
    before = learner.tensors()
    learner.reseed((1, 2))
    after = learner.tensors()
    for name, tensor in after.items():
        ours, theirs = part_of(name, tensor, learner, 1, 2), part_of(name, before[name], learner, 1, 2)
        changed = int((tensor != before[name]).sum())
        assert changed == int((ours != theirs).sum()), name  # nothing else has changed
        if "exp_avg" in name:
            assert not ours.any()
        elif name.endswith(".A"):
            assert changed == ours.numel()
            assert ours.numel() == 0 or ours.abs().max() <= 1 / math.sqrt(tensor.shape[1])
        elif name.endswith(".B"):
            assert not ours.any()
        elif name == "rows":
            assert changed == PASSAGES
            assert ours.abs().max() <= 0.5
        else:
            assert "shared" in name
            assert changed == 0


def test_the_same_seed_draws_the_same(learner):
    learner.reseed((0, 1), (2, 3), seed=5)
    first = learner.tensors()
    learner.reseed((0, 1), (2, 3), seed=5)
    assert all(torch.equal(tensor, first[name]) for name, tensor in learner.tensors().items())
    learner.reseed((0, 1), (2, 3), seed=6)
    assert not torch.equal(learner.tensors()["rows"], first["rows"])


def test_training_goes_on_and_reaches_the_new_experts(learner):
    learner.reseed((0, 0), (1, 2))
    new = learner.tensors()
    losses = [learner.step() for _ in range(8)]
    assert losses[-1] < losses[0]
    for name, tensor in learner.tensors().items():
        for group, expert in ((0, 0), (1, 2)):
            ours = part_of(name, tensor, learner, group, expert)
            if name.endswith((".A", ".B")) and ours.numel():
                assert not torch.equal(ours, part_of(name, new[name], learner, group, expert)), name


def test_before_the_first_step_there_are_no_moments_to_forget(tiny_base):
    learner = Learner(tiny_base)
    learner.reseed((0, 3))
    first = next(iter(learner.pool.layers.values()))
    assert not first.B[:, 3 * RANK :].any()
    learner.step()
