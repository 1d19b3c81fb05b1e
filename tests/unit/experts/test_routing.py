"""Shapes: B rows, G routed groups, K experts, N passages, P merged passages."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyprag.config import Combine, Normalisation, RoutingConfig
from polyprag.errors import ConfigError
from polyprag.experts.routing import (
    BLOCK,
    RowGates,
    TaskRouter,
    combine_gates,
    gates_from_logits,
)

PASSAGES, GROUPS, EXPERTS = 6, 3, 5

logit_rows = st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8)


def router(**changes) -> TaskRouter:
    torch.manual_seed(0)
    return TaskRouter(PASSAGES, GROUPS, EXPERTS, RoutingConfig(**{"init": 2.0, **changes}))


def explicit_sigmoid(logits: Tensor) -> Tensor:
    weights = 1 / (1 + torch.exp(-logits.double()))
    return (weights / weights.sum(-1, keepdim=True)).float()


@settings(max_examples=50, deadline=None)
@given(logits=logit_rows, normalisation=st.sampled_from(Normalisation))
def test_gates_sum_to_one_and_keep_the_order_of_logits(logits, normalisation):
    gates_K = gates_from_logits(torch.tensor(logits), normalisation)
    assert float(gates_K.sum()) == pytest.approx(1, abs=1e-4)
    assert (gates_K > 0).all()
    order = torch.tensor(logits).argsort(stable=True)
    assert (gates_K[order].diff() >= -1e-7).all()


@settings(max_examples=50, deadline=None)
@given(
    logits=st.lists(st.integers(-40, 40), min_size=2, max_size=8, unique=True),
    normalisation=st.sampled_from(Normalisation),
    data=st.data(),
)
def test_top_k_keeps_the_largest_gates_in_their_proportions(logits, normalisation, data):
    logits_K = torch.tensor(logits) / 10
    top_k = data.draw(st.integers(1, len(logits)))
    dense_K = gates_from_logits(logits_K, normalisation)
    sparse_K = gates_from_logits(logits_K, normalisation, top_k)
    kept = set(logits_K.topk(top_k).indices.tolist())
    expected_K = torch.tensor([float(gate) if at in kept else 0.0 for at, gate in enumerate(dense_K)])
    assert set(sparse_K.nonzero().flatten().tolist()) == kept
    torch.testing.assert_close(sparse_K, expected_K / expected_K.sum(), rtol=1e-3, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 4),
    experts=st.integers(1, 8),
    normalisation=st.sampled_from(Normalisation),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_top_k_selects_and_renormalises_as_the_reference(rows, experts, normalisation, seed, data):
    top_k = data.draw(st.integers(1, experts))
    logits = np.random.default_rng(seed).normal(scale=3, size=(rows, GROUPS, experts))
    weights = np.exp(logits) if normalisation is Normalisation.SOFTMAX else 1 / (1 + np.exp(-logits))
    if normalisation is Normalisation.SOFTMAX:
        weights /= weights.sum(-1, keepdims=True)
    weights[logits < np.sort(logits)[..., -top_k, None]] = 0.0
    expected = weights / (weights.sum(-1, keepdims=True) + 1e-6)
    found = gates_from_logits(torch.from_numpy(logits), normalisation, top_k).numpy()
    assert ((found > 0).sum(-1) == top_k).all()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_sigmoid_gates_follow_the_formula():
    logits = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        gates_from_logits(logits, Normalisation.SIGMOID), explicit_sigmoid(logits), rtol=1e-5, atol=1e-6
    )


def test_a_batch_takes_its_passages_rows():
    one = router()
    gates_BGK = one(torch.tensor([4, 0, 4]))
    assert gates_BGK.shape == (3, GROUPS, EXPERTS)
    torch.testing.assert_close(gates_BGK, one.all_gates()[[4, 0, 4]])
    assert one.all_logits().shape == (PASSAGES, GROUPS, EXPERTS)
    assert one.all_logits().abs().max() <= 2.0


def test_merged_rows_add_their_gates():
    one = router()
    tasks_BP = torch.tensor([[1, 2, 3], [4, 5, 5]])
    all_NGK = one.all_gates()[:]
    torch.testing.assert_close(one(tasks_BP)[1], all_NGK[4] + 2 * all_NGK[5])
    merged_BP = torch.tensor([[1.0, 0, 1], [1, 0, 0]])
    gates_BGK = one(tasks_BP, merged_BP)
    torch.testing.assert_close(gates_BGK[0], all_NGK[1] + all_NGK[3])
    torch.testing.assert_close(gates_BGK[1], all_NGK[4])


def test_gumbel_sampling_happens_in_training_only():
    one = router(gumbel=True)
    tasks_B = torch.tensor([0, 1])
    first, second = one(tasks_B), one(tasks_B)
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.sum(-1), torch.ones(2, GROUPS), rtol=0, atol=1e-3)
    one.eval()
    assert torch.equal(one(tasks_B), one(tasks_B))
    torch.testing.assert_close(one(tasks_B), one.all_gates()[tasks_B])


def test_gumbel_samples_are_relaxed_bernoulli_draws():
    """At a low temperature an expert is on with probability σ(z)."""
    one = router(gumbel=True, temperature=1e-3)
    one.rows.weight.data = torch.linspace(-1.5, 1.5, EXPERTS).repeat(PASSAGES, GROUPS)
    with torch.no_grad():
        gates_BGK = one(torch.zeros(4000, dtype=torch.long))
    on_BGK = gates_BGK > 1e-3
    share_K = on_BGK.float().mean((0, 1))
    torch.testing.assert_close(share_K, torch.linspace(-1.5, 1.5, EXPERTS).sigmoid(), rtol=0, atol=0.03)


def test_without_gumbel_training_and_evaluation_agree():
    one = router()
    tasks_B = torch.tensor([3, 2])
    assert torch.equal(one(tasks_B), one.eval()(tasks_B))


def test_only_rows_of_the_batch_get_a_gradient():
    one = router()
    one(torch.tensor([4, 1, 4])).square().sum().backward()
    gradient = one.rows.weight.grad
    assert gradient.is_sparse
    assert gradient.coalesce().indices().flatten().tolist() == [1, 4]


@pytest.mark.parametrize(
    ("how", "weights"), [(Combine.SUM, [1, 1]), (Combine.MEAN, [0.5, 0.5]), (Combine.SCORE, [0.75, 0.25])]
)
def test_gates_of_passages_combine(how, weights):
    gates_PGK = router().all_gates()[:2]
    combined_GK = combine_gates(gates_PGK, torch.tensor([6.0, 2.0]), how)
    torch.testing.assert_close(combined_GK, weights[0] * gates_PGK[0] + weights[1] * gates_PGK[1])


def test_a_combination_left_open_is_refused():
    with pytest.raises(ConfigError, match=r"answering\.combine is auto"):
        combine_gates(torch.ones(1, 1, 1), torch.ones(1), Combine.AUTO)


class TestRowGates:
    ROWS_NGK = torch.randn(2 * BLOCK + 3, 2, 3, generator=torch.Generator().manual_seed(0)).bfloat16()

    @pytest.mark.parametrize("top_k", [0, 1])
    @pytest.mark.parametrize("normalisation", list(Normalisation))
    def test_any_rows_are_as_if_all_were_worked_out(self, normalisation, top_k):
        gates_NGK = RowGates(self.ROWS_NGK, RoutingConfig(normalisation=normalisation, top_k=top_k))
        all_NGK = gates_from_logits(self.ROWS_NGK.float(), normalisation, top_k)
        assert len(gates_NGK) == len(all_NGK)
        for rows in (5, -1, [7, 7, 0], [], slice(3, 9), slice(None), torch.tensor([[1, 2], [2000, 4]])):
            torch.testing.assert_close(gates_NGK[rows], all_NGK[rows], rtol=1e-6, atol=1e-7)

    def test_of_a_router_they_follow_its_rows(self):
        one = router()
        gates_NGK = one.all_gates()
        with torch.no_grad():
            one.rows.weight.zero_()
        torch.testing.assert_close(gates_NGK[[0, 3]], torch.full((2, GROUPS, EXPERTS), 1 / EXPERTS), rtol=1e-5, atol=0)
