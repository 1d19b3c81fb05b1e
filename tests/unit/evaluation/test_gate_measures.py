import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.evaluation.gate_measures import decided_groups, nearest_rows, uses, without_strongest

gates_of_any_shape = st.integers(1, 4).flatmap(
    lambda groups: st.integers(1, 5).flatmap(
        lambda experts: st.lists(
            st.lists(st.integers(1, 1000), min_size=experts, max_size=experts, unique=True),
            min_size=groups,
            max_size=groups,
        )
    )
)


def test_the_strongest_of_each_group_goes_and_the_others_make_up_for_it():
    gates_GK = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.3, 0.6], [2.0, 1.0, 0.0]])
    expected_GK = torch.tensor([[0.0, 0.4, 0.6], [0.25, 0.75, 0.0], [0.0, 3.0, 0.0]])
    torch.testing.assert_close(without_strongest(gates_GK), expected_GK)


def test_nothing_is_left_of_a_single_gate_or_of_none():
    gates_GK = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert not without_strongest(gates_GK).any()
    assert not without_strongest(torch.ones(2, 1)).any()


@given(gates_of_any_shape)
@settings(max_examples=50, deadline=None)
def test_sums_stay_and_the_others_keep_their_ratios(lists):
    gates_GK = torch.tensor(lists).float()
    left_GK = without_strongest(gates_GK)
    for own_K, new_K in zip(lists, left_GK.tolist(), strict=True):
        strongest = own_K.index(max(own_K))
        others = sum(own_K) - own_K[strongest]
        for expert, gate in enumerate(own_K):
            expected = 0.0 if expert == strongest or others == 0 else gate * sum(own_K) / others
            assert new_K[expert] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_uses_are_means_and_shares_of_groups():
    gates_GK = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 0.0]])
    expected = [(0, 0.45, 0.5), (1, 0.3, 0.25), (2, 0.0, 0.0)]
    for use, (expert, mean, strongest) in zip(uses(gates_GK), expected, strict=True):
        assert use.expert == expert
        assert (use.mean_gate, use.strongest) == pytest.approx((mean, strongest))


def test_decided_groups_by_their_largest_share():
    gates_GK = torch.tensor([[1.0, 1.0], [0.1, 0.9], [6.0, 2.0], [0.0, 0.0]])
    found = decided_groups(gates_GK, ["a", "b", "c", "d"], 3)
    assert [(group.name, group.expert) for group in found] == [("b", 1), ("c", 0), ("a", 0)]
    assert [group.share for group in found] == pytest.approx([0.9, 0.75, 0.5])
    assert len(decided_groups(gates_GK, ["a", "b", "c", "d"], 1)) == 1
    assert [group.name for group in decided_groups(gates_GK, ["a", "b", "c", "d"], 9)] == ["b", "c", "a"]


def test_nearest_rows_are_those_of_the_largest_cosine():
    generator = torch.Generator().manual_seed(0)
    gates_NGK, gates_GK = torch.rand(20, 4, 3, generator=generator), torch.rand(4, 3, generator=generator)
    own = gates_GK.double().flatten().tolist()
    cosines = {}
    for position, row_GK in enumerate(gates_NGK):
        row = row_GK.double().flatten().tolist()
        dot = sum(a * b for a, b in zip(own, row, strict=True))
        cosines[position] = dot / math.sqrt(sum(a * a for a in own) * sum(b * b for b in row))
    best = sorted(cosines, key=lambda position: -cosines[position])[:5]
    found = nearest_rows(gates_GK, gates_NGK, 5)
    assert [position for position, _ in found] == best
    assert [cosine for _, cosine in found] == pytest.approx([cosines[position] for position in best], abs=1e-5)
    scaled = nearest_rows(7 * gates_GK, gates_NGK, 5)
    assert [position for position, _ in scaled] == best


def test_no_gates_are_near_to_nothing():
    assert nearest_rows(torch.zeros(2, 3), torch.rand(4, 2, 3), 5) == []
