"""The reference is `generate` of transformers, one prompt at a time. Shapes: B rows, T positions, V vocabulary."""

from __future__ import annotations

import types
from collections.abc import Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM

from polyprag.answering import decoding
from polyprag.answering.decoding import SHARED_TOKENS, Decoder
from polyprag.config import ExpertsConfig, Granularity
from polyprag.experts.base_model import BaseModel
from polyprag.experts.pool import ExpertPool

LENGTHS = (3, 9, 1, 14, 6, 2, 11)
LONGEST = 10


def random_prompts(base: BaseModel, lengths: Sequence[int] = LENGTHS, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    vocabulary = base.model.config.vocab_size
    return [torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in lengths]


def generated(base: BaseModel, prompt: Sequence[int], budget: int, stops: Sequence[int] = ()) -> list[int]:
    """What transformers writes after a prompt that is alone."""
    out_1T = base.model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=budget,
        do_sample=False,
        eos_token_id=list(stops) or [-1],
        pad_token_id=base.tokenizer.pad_token_id,
    )
    return out_1T[0, len(prompt) :].tolist()


def written(decoder: Decoder, *asked: object, **more: object) -> list[list[int]]:
    return [one.ids for one in decoder.decode(*asked, **more)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and tokens of every pass of any decoder from now on."""
    seen: list[tuple[int, int]] = []
    read = Decoder.read

    def noted(self: Decoder, tokens_BT: Tensor, mask_BS: Tensor, cache: object) -> Tensor:
        seen.append(tuple(tokens_BT.shape))
        return read(self, tokens_BT, mask_BS, cache)

    monkeypatch.setattr(Decoder, "read", noted)
    return seen


def pool_in(base: BaseModel, experts: int) -> ExpertPool:
    """A pool whose experts speak loudly and differently."""
    pool = ExpertPool(base.model, ExpertsConfig(count=experts, rank=2), Granularity.MODULE)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for layer in pool.layers.values():
            layer.B.normal_(std=1.0)
    return pool


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 8), count=st.integers(1, 7), stop=st.booleans(), data=st.data())
def test_any_number_of_rows_writes_what_generate_writes(tiny_base, rows, count, stop, data):
    prompts = random_prompts(tiny_base)[:count]
    budgets = [data.draw(st.integers(1, LONGEST)) for _ in prompts]
    stops = [generated(tiny_base, prompts[0], 4)[-1]] if stop else []
    found = written(Decoder(tiny_base, rows), prompts, budgets, stops)
    assert found == [generated(tiny_base, prompt, own, stops) for prompt, own in zip(prompts, budgets, strict=True)]


def test_nothing_is_asked_and_nothing_is_written(tiny_base):
    assert Decoder(tiny_base, 4).decode([], []) == []


def test_rows_that_end_leave_and_waiting_prompts_take_their_places(tiny_base, reads):
    prompts = random_prompts(tiny_base, (8, 7, 6, 5, 4, 3))
    found = written(Decoder(tiny_base, 4), prompts, [2, 6, 2, 6, 6, 6])
    assert reads[0] == (4, 8)  # the four longest
    assert reads[1] == (4, 1)  # after which two of them end
    assert reads[2] == (2, 4)  # so that the other two are read
    assert reads[3:6] == [(4, 1)] * 3
    assert max(rows for rows, _ in reads) == 4
    assert sum(rows for rows, tokens in reads if tokens == 1) + len(prompts) == sum(map(len, found))


def test_a_few_free_rows_wait_for_more(tiny_base, reads):
    prompts = random_prompts(tiny_base, (6,) * 9)
    Decoder(tiny_base, 8).decode(prompts, [1 + (number == 8) * 5 + number for number in range(9)])
    assert [rows for rows, tokens in reads if tokens > 1] == [8, 1]
    assert reads[:3] == [(8, 6), (8, 1), (7, 1)]  # one free row of eight is less than a quarter


@pytest.mark.parametrize("rows", [1, 2, 3, 16])
@pytest.mark.parametrize("top_k", [1, 3])
def test_gates_stay_with_their_prompts(tiny_base, rows, top_k):
    pool = pool_in(tiny_base, 3)
    prompts = random_prompts(tiny_base)
    weights_BGK = torch.rand(len(prompts), pool.groups, 3, generator=torch.Generator().manual_seed(3))
    gates_BGK = weights_BGK * (weights_BGK >= weights_BGK.topk(top_k).values[..., -1:])
    budgets = [1 + 2 * number for number in range(len(prompts))]
    found = written(Decoder(tiny_base, rows, pool), prompts, budgets, (), gates_BGK)
    for number, (prompt, budget) in enumerate(zip(prompts, budgets, strict=True)):
        with pool.gated(gates_BGK[number : number + 1]):
            assert found[number] == generated(tiny_base, prompt, budget)
    assert written(Decoder(tiny_base, rows), prompts, budgets) != found


def test_gates_end_with_the_call_even_if_it_fails(tiny_base):
    pool = pool_in(tiny_base, 2)
    (prompt,) = random_prompts(tiny_base, (4,))
    before = generated(tiny_base, prompt, 4)

    def fail(_numbers: Sequence[int], _logits_BV: Tensor) -> None:
        raise RuntimeError("looked")

    with pytest.raises(RuntimeError, match="looked"):
        Decoder(tiny_base, 1, pool).decode([prompt], [4], (), torch.ones(1, pool.groups, 2), fail)
    assert generated(tiny_base, prompt, 4) == before


def test_gates_without_a_pool_are_refused(tiny_base):
    with pytest.raises(ValueError, match="without a pool"):
        Decoder(tiny_base, 1).decode([[1]], [1], (), torch.ones(1, 1, 1))


def test_a_watcher_sees_the_logits_of_every_token(tiny_base):
    prompts = random_prompts(tiny_base)
    seen: list[list[Tensor]] = [[] for _ in prompts]

    def watch(numbers: Sequence[int], logits_BV: Tensor) -> None:
        for number, logits_V in zip(numbers, logits_BV, strict=True):
            seen[number].append(logits_V)

    found = written(Decoder(tiny_base, 3), prompts, range(1, 8), (), None, watch)
    for prompt, ids, logits in zip(prompts, found, seen, strict=True):
        with torch.no_grad():
            expected_TV = tiny_base.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(torch.stack(logits), expected_TV, rtol=1e-4, atol=1e-5)


def test_the_prompts_cache_is_that_of_a_plain_pass(tiny_base):
    prompts = random_prompts(tiny_base)
    found = Decoder(tiny_base, 4).decode(prompts, [2] * len(prompts), keep=True)
    for prompt, one in zip(prompts, found, strict=True):
        with torch.no_grad():
            cache = tiny_base.model(torch.tensor([prompt]), use_cache=True).past_key_values
        for (keys, values), layer in zip(one.prompt_cache, cache.layers, strict=True):
            torch.testing.assert_close(keys, layer.keys[0, :, :-1], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(values, layer.values[0, :, :-1], rtol=1e-4, atol=1e-5)


def test_a_common_beginning_is_read_once(tiny_base, reads):
    (beginning,) = random_prompts(tiny_base, (SHARED_TOKENS,))
    prompts = [[*beginning, *rest] for rest in random_prompts(tiny_base, seed=1)]
    found = Decoder(tiny_base, 3).decode(prompts, [LONGEST] * len(prompts), keep=True)
    assert reads[0] == (1, SHARED_TOKENS)
    assert max(tokens for _, tokens in reads[1:]) == max(LENGTHS)
    assert [one.ids for one in found] == [generated(tiny_base, prompt, LONGEST) for prompt in prompts]
    for prompt, one in zip(prompts, found, strict=True):
        assert one.prompt_cache[0][0].shape[-2] == len(prompt) - 1


def test_a_prompt_that_is_the_beginning_of_another_keeps_a_token_to_read(tiny_base, reads):
    (whole,) = random_prompts(tiny_base, (SHARED_TOKENS + 5,))
    prompts = [whole, whole[: SHARED_TOKENS + 1]]
    assert written(Decoder(tiny_base, 2), prompts, [3, 3]) == [generated(tiny_base, prompt, 3) for prompt in prompts]
    assert reads[0] == (1, SHARED_TOKENS)


@pytest.mark.parametrize("gated", [False, True])
def test_short_beginnings_and_those_under_gates_are_not_shared(tiny_base, reads, gated):
    pool = pool_in(tiny_base, 2)
    (beginning,) = random_prompts(tiny_base, (SHARED_TOKENS - 1 + 9 * gated,))
    gates_BGK = torch.ones(2, pool.groups, 2) if gated else None
    Decoder(tiny_base, 2, pool).decode([[*beginning, 5], [*beginning, 6]], [1, 1], (), gates_BGK)
    assert reads == [(2, len(beginning) + 1)]


def test_attention_windows_count_whole_rows(tiny_base):
    """A model whose blocks see the last few tokens only."""
    config = MistralConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=4,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MistralForCausalLM(config).eval()
    base = BaseModel(model, tiny_base.tokenizer, "tiny", "")
    prompts, budgets = random_prompts(base), [LONGEST, 2, LONGEST, 5, 3, LONGEST, 1]
    found = written(Decoder(base, 3), prompts, budgets)
    assert found == [generated(base, prompt, budget) for prompt, budget in zip(prompts, budgets, strict=True)]


def test_waiting_for_a_row_does_not_delay_the_first_token(tiny_base, monkeypatch):
    """A clock that only passes tick."""
    now = [0.0]
    read = Decoder.read

    def ticking(self: Decoder, *asked: object) -> Tensor:
        now[0] += 1
        return read(self, *asked)

    monkeypatch.setattr(Decoder, "read", ticking)
    monkeypatch.setattr(decoding, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    found = Decoder(tiny_base, 1).decode(random_prompts(tiny_base, (3, 3, 3)), [4, 4, 4])
    assert [one.first_token_at for one in found] == [1.0, 1.0, 1.0]
    assert now[0] == 12.0
