"""Shapes: B rows, S positions in the cache."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyprag.answering.rows import Rows, cache_of, contents, joined, repeated, stacked, widened

BLOCKS, HEADS, SIZE = 2, 3, 4


def random_rows(lengths: list[int], first: int = 0, seed: int = 0) -> Rows:
    """Rows with so many tokens each, padded on the left; their numbers count from the first."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    shape = (len(lengths), HEADS, width, SIZE)
    parts = [tuple(torch.randn(shape, generator=generator) for _ in range(2)) for _ in range(BLOCKS)]
    mask_BS = torch.tensor([[0] * (width - length) + [1] * length for length in lengths])
    numbers = list(range(first, first + len(lengths)))
    return Rows(numbers, torch.tensor(numbers), mask_BS, cache_of(parts))


def held(rows: Rows, number: int) -> list[Tensor]:
    """All that is cached of one prompt, keys and values of all blocks."""
    place = rows.numbers.index(number)
    return [part for pair in rows.begun(place, rows.mask_BS.shape[1]) for part in pair]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) == 2 * BLOCKS
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@settings(max_examples=40, deadline=None)
@given(
    ours=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    theirs=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    data=st.data(),
)
def test_rows_that_join_and_leave_keep_what_is_cached_of_them(ours, theirs, data):
    one, other = random_rows(ours), random_rows(theirs, first=len(ours), seed=1)
    both = joined(one, other)
    assert both.numbers == [*one.numbers, *other.numbers] == both.tokens_B.tolist()
    places = data.draw(st.lists(st.sampled_from(range(len(both.numbers))), min_size=1, unique=True))
    left = both.only(places)
    assert left.numbers == [both.numbers[place] for place in places] == left.tokens_B.tolist()
    lengths = [*ours, *theirs]
    for rows in (both, left):
        assert rows.mask_BS.shape[1] == max(lengths[number] for number in rows.numbers)
        for number in rows.numbers:
            assert_same(held(rows, number), held(one if number in one.numbers else other, number))


def test_the_beginning_of_a_row_is_without_padding():
    rows = random_rows([2, 5])
    (keys, values), *_ = rows.begun(0, 1)
    expected = contents(rows.cache)[0]
    assert torch.equal(keys, expected[0][0, :, 3:4])
    assert torch.equal(values, expected[1][0, :, 3:4])


def test_single_rows_are_stacked_to_the_right():
    rows = random_rows([2, 5, 1])
    cache = stacked([rows.begun(place, 5) for place in range(3)])
    again = Rows(rows.numbers, rows.tokens_B, rows.mask_BS, cache)
    for number in rows.numbers:
        assert_same(held(again, number), held(rows, number))
    assert not contents(cache)[0][0][0, :, :3].any()


def test_a_repeated_row_is_everywhere_the_same_and_can_grow():
    rows = random_rows([3])
    cache = repeated(rows.cache, 4)
    keys, values = contents(cache)[1]
    assert torch.equal(keys, contents(rows.cache)[1][0].expand(4, -1, -1, -1))
    cache.update(keys[:, :, :1], values[:, :, :1], 1)
    assert contents(cache)[1][0].shape == (4, HEADS, 4, SIZE)
    assert contents(rows.cache)[1][0].shape == (1, HEADS, 3, SIZE)


def test_what_is_widened_gets_zeros_on_the_left():
    (keys, _), *_ = widened(contents(random_rows([2]).cache), 5)
    assert keys.shape[-2] == 5
    assert not keys[..., :3, :].any()
