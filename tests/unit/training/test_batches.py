"""Shapes: B rows, T positions, L labels."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyprag.knowledge.tasks import Pack
from polyprag.training.batches import TokenBudgetSampler, collate

lengths_of_packs = st.lists(st.integers(1, 60), min_size=1, max_size=40)

# Two branches behind two shared tokens, and a plain sequence.
FORKED = Pack(4, (10, 11, 12, 13, 14), (0, 1, 2, 3, 2), (0, 0, 1, 1, 2), (1, 2, 1), (12, 13, 14))
PLAIN = Pack(1, (20, 21, 22), (0, 1, 2), (0, 0, 1), (1,), (22,))


@settings(max_examples=50, deadline=None)
@given(lengths=lengths_of_packs, budget=st.integers(16, 200), passes=st.integers(1, 3), chunk=st.integers(1, 4))
def test_each_pass_covers_every_pack_once_within_the_budget(lengths, budget, passes, chunk):
    sampler = TokenBudgetSampler(lengths, budget, passes=passes, seed=0, chunk=chunk)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    seen = [index for batch in batches for index in batch]
    assert len(seen) == passes * len(lengths)
    for number in range(passes):
        one_pass = seen[number * len(lengths) : (number + 1) * len(lengths)]
        assert sorted(one_pass) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


@settings(max_examples=50, deadline=None)
@given(lengths=lengths_of_packs, world=st.integers(1, 4), seed=st.integers(0, 9))
def test_processes_share_the_batches_evenly_and_apart(lengths, world, seed):
    def batches(rank: int, of: int) -> list[list[int]]:
        return list(TokenBudgetSampler(lengths, 64, passes=2, seed=seed, rank=rank, world=of))

    alone = batches(0, 1)
    shares = [batches(rank, world) for rank in range(world)]
    assert {len(share) for share in shares} == {-(-len(alone) // world)}
    together = [batch for step in zip(*shares, strict=True) for batch in step]
    assert TokenBudgetSampler(lengths, 64, passes=2, seed=seed, rank=0, world=world).total == len(alone)
    assert together[: len(alone)] == alone
    assert all(filler == alone[-1] for filler in together[len(alone) :])  # so that its passages are in that step anyway


def test_the_order_depends_on_the_seed_and_the_pass_alone():
    lengths = [10 + index % 7 for index in range(40)]

    def order(seed: int, passes: int = 2) -> list[list[int]]:
        return list(TokenBudgetSampler(lengths, 50, passes=passes, seed=seed))

    first = order(seed=0)
    assert order(seed=0) == first
    assert order(seed=1) != first
    one_pass = order(seed=0, passes=1)
    assert first[: len(one_pass)] == one_pass
    assert Counter(map(tuple, first[len(one_pass) :])) != Counter(map(tuple, one_pass))  # other company in each pass


def test_long_and_short_packs_meet_their_like():
    lengths = [8] * 64 + [64] * 8
    sampler = TokenBudgetSampler(lengths, 64, passes=1, seed=0)
    assert len(sampler) <= 18  # 16 would be perfect, batches by chance would take far more
    assert sum(len({lengths[index] for index in batch}) > 1 for batch in sampler) <= 1


def test_a_start_is_used_once():
    sampler = TokenBudgetSampler([10] * 12, 20, passes=1, seed=0)
    everything = list(sampler)
    sampler.start = 4
    assert list(sampler) == everything[4:]
    assert list(sampler) == everything


def may_attend(pack: Pack, source: int, goal: int) -> bool:
    """A token sees itself, the common beginning before it, and what precedes it on its own branch."""
    return goal <= source and pack.branches[goal] in (0, pack.branches[source])


@pytest.mark.parametrize("packs", [[FORKED, PLAIN], [PLAIN, FORKED], [FORKED]])
def test_a_token_attends_to_its_own_past_only(packs):
    batch = collate(packs, pad=99)
    assert batch.mask_B1TT.shape == (len(packs), 1, 5, 5)
    for row, pack in enumerate(packs):
        for source in range(5):
            for goal in range(5):
                padded = max(source, goal) >= len(pack)
                expected = source == goal if padded else may_attend(pack, source, goal)
                assert bool(batch.mask_B1TT[row, 0, source, goal]) == expected


def test_rows_are_padded_on_the_right_and_labels_find_their_row():
    batch = collate([PLAIN, FORKED], pad=99)
    assert batch.tokens_BT.tolist() == [[20, 21, 22, 99, 99], [10, 11, 12, 13, 14]]
    assert batch.positions_BT.tolist() == [[0, 1, 2, 0, 0], [0, 1, 2, 3, 2]]
    assert batch.tasks_B.tolist() == [1, 4]
    assert batch.rows_L.tolist() == [0, 1, 1, 1]
    assert batch.sources_L.tolist() == [1, 1, 2, 1]
    assert batch.targets_L.tolist() == [22, 12, 13, 14]


def test_padding_counts_as_no_token():
    assert collate([PLAIN, FORKED], pad=99).real_tokens == 8


def test_a_batch_moves_as_a_whole():
    batch = collate([PLAIN, FORKED], pad=99)
    moved = batch.to(torch.device("meta"))
    for name in batch.__dataclass_fields__:
        assert getattr(moved, name).device.type == "meta"
        assert getattr(moved, name).shape == getattr(batch, name).shape
