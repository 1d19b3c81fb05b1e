"""Shapes: G groups, K experts, R rank, D inputs, O outputs, N passages."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyprag.methods.workbench import Workbench
from polyprag.store import open_store
from polyprag.sweeps.measures import expert_similarity, expert_use, stored_gates


def random_pool(experts: int, rank: int, seed: int, layers: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pool = {}
    for layer in range(layers):
        inputs, outputs = 5 + layer, 9 - layer
        pool[f"model.layers.{layer}.mlp.up_proj.A"] = torch.randn(experts * rank, inputs, generator=generator)
        pool[f"model.layers.{layer}.mlp.up_proj.B"] = torch.randn(outputs, experts * rank, generator=generator)
    return pool


def dense_similarity(pool: dict[str, Tensor], rank: int) -> Tensor:
    """The same from every ΔW written out."""
    names = sorted({name.rpartition(".")[0] for name in pool})
    cosines = []
    for name in names:
        a, b = pool[f"{name}.A"].double(), pool[f"{name}.B"].double()
        updates = torch.stack([b[:, at : at + rank] @ a[at : at + rank] for at in range(0, len(a), rank)]).flatten(1)
        cosines.append(torch.nn.functional.cosine_similarity(updates[:, None], updates[None], dim=-1))
    return torch.stack(cosines).mean(0)


@settings(max_examples=25, deadline=None)
@given(experts=st.integers(1, 5), rank=st.integers(1, 4), seed=st.integers(0, 99))
def test_similarity_is_that_of_the_updates_written_out(experts, rank, seed):
    pool = random_pool(experts, rank, seed)
    found_KK = expert_similarity(pool, rank)
    torch.testing.assert_close(found_KK, dense_similarity(pool, rank), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found_KK.diagonal(), torch.ones(experts, dtype=torch.float64))


def test_equal_and_opposite_experts():
    a_RD, b_OR = torch.randn(2, 6), torch.randn(5, 2)
    pool = {"up.A": torch.cat([a_RD, a_RD * 3, a_RD]), "up.B": torch.cat([b_OR, b_OR, -b_OR], dim=1)}
    expected = torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    torch.testing.assert_close(expert_similarity(pool, 2), expected)


def test_how_an_expert_writes_its_update_does_not_matter():
    pool = random_pool(3, 2, seed=1)
    mixing = torch.randn(2, 2).double()
    turned = {
        name: torch.cat([mixing @ part for part in tensor.double().split(2)])
        if name.endswith(".A")
        else torch.cat([part @ mixing.inverse() for part in tensor.double().split(2, dim=1)], dim=1)
        for name, tensor in pool.items()
    }
    torch.testing.assert_close(expert_similarity(turned, 2), expert_similarity(pool, 2), rtol=1e-6, atol=1e-6)


def test_untrained_experts_are_like_none_and_a_shared_one_does_not_count():
    pool = {"up.A": torch.randn(4, 6), "up.B": torch.zeros(5, 4), "up.shared_A": torch.randn(3, 6)}
    assert (expert_similarity(pool, 2) == 0).all()


def test_use_is_the_mean_gate():
    gates_NGK = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]])
    assert expert_use(gates_NGK).tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("more", [(), ("routing.top_k=1",), ("routing.normalisation=softmax",)])
def test_stored_gates_are_those_that_answer(configure, train_at_random, tmp_path, more):
    config = configure(*more)
    train_at_random(config, tmp_path / "run")
    gates_NGK = stored_gates(open_store(tmp_path / "run" / "store"))
    torch.testing.assert_close(gates_NGK[:], Workbench(config, None, tmp_path / "run").gates_NGK[:])
    torch.testing.assert_close(expert_use(gates_NGK).sum(), torch.tensor(1.0), rtol=1e-4, atol=1e-4)
