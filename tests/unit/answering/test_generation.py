import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from polyprag.answering.generation import Generator
from polyprag.config import ExpertsConfig, Granularity
from polyprag.experts.base_model import BaseModel
from polyprag.experts.pool import ExpertPool
from polyprag.knowledge.prompts import PromptWriter

QUESTIONS = ["Who?", "Where was the founder of the school of Arlen born?", "In which year did it end, and why so late?"]
END = "<|im_end|>"


def prompts_of(base: BaseModel) -> list[list[int]]:
    writer = PromptWriter(base.tokenizer)
    return [writer.question(text, [text * 3] * number) for number, text in enumerate(QUESTIONS)]


def pool_in(base: BaseModel, experts: int = 3) -> ExpertPool:
    """A pool whose experts speak loudly and differently."""
    pool = ExpertPool(base.model, ExpertsConfig(count=experts, rank=2), Granularity.MODULE)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for layer in pool.layers.values():
            layer.B.normal_(std=1.0)
    return pool


def one_hot_gates(pool: ExpertPool) -> torch.Tensor:
    """Row k gives everything to expert k, [K, G, K]."""
    return torch.eye(pool.config.count)[:, None, :].expand(-1, pool.groups, -1).contiguous()


def recite(base: BaseModel, text: str) -> BaseModel:
    """Rebuild the model so that the prompts' last token is followed by a text, token by token, and then by its first.

    Every block is silenced, so a token's own embedding decides what comes next; the text's tokens must be distinct.
    """
    model, tokenizer = base.model, base.tokenizer
    chain = [PromptWriter(tokenizer).question("?")[-1], *tokenizer.encode(text, add_special_tokens=False)]
    assert len(set(chain)) == len(chain) <= model.config.hidden_size
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        embeddings = model.get_input_embeddings().weight
        embeddings.zero_()
        head = torch.zeros_like(embeddings)
        for at, (token, following) in enumerate(zip(chain, [*chain[1:], chain[1]], strict=True)):
            embeddings[token, at] = 1.0
            head[following, at] = 1.0
        model.lm_head.weight = nn.Parameter(head, requires_grad=False)
    return base


def test_a_batch_is_answered_as_its_rows_one_by_one(tiny_base):
    generator = Generator(tiny_base, max_new_tokens=12)
    prompts = prompts_of(tiny_base)
    together = generator.answer(prompts)
    assert together == [generator.answer([prompt])[0] for prompt in prompts]
    assert len({answer.raw for answer in together}) > 1


def test_rows_of_a_batch_keep_their_own_gates(tiny_base):
    pool = pool_in(tiny_base)
    generator = Generator(tiny_base, 12, pool)
    prompts, gates_BGK = prompts_of(tiny_base), one_hot_gates(pool)
    together = generator.answer(prompts, gates_BGK)
    alone = [generator.answer([prompt], gates_BGK[row : row + 1])[0] for row, prompt in enumerate(prompts)]
    assert together == alone


def test_the_gates_decide_the_answer(tiny_base):
    pool = pool_in(tiny_base)
    generator = Generator(tiny_base, 12, pool)
    prompt = prompts_of(tiny_base)[0]
    answers = generator.answer([prompt] * 3, one_hot_gates(pool))
    assert len({answer.raw for answer in answers}) == 3


def test_without_gates_or_with_gates_of_zero_the_base_model_answers(tiny_base):
    prompts = prompts_of(tiny_base)
    before = Generator(tiny_base, 12).answer(prompts)
    pool = pool_in(tiny_base)
    generator = Generator(tiny_base, 12, pool)
    gates_BGK = one_hot_gates(pool)
    generator.answer(prompts, gates_BGK)
    assert generator.answer(prompts) == before
    assert generator.answer(prompts, torch.zeros_like(gates_BGK)) == before


def test_gates_without_a_pool_are_refused(tiny_base):
    with pytest.raises(ValueError, match="without a pool"):
        Generator(tiny_base, 4).answer([[1]], torch.ones(1, 1, 1))


def test_it_stops_at_the_end_of_the_turn(tiny_base):
    generator = Generator(recite(tiny_base, f" 1867{END}xyz"), max_new_tokens=20)
    (answer,) = generator.answer([PromptWriter(tiny_base.tokenizer).question("When?")])
    tokens = len(tiny_base.tokenizer.encode(" 1867", add_special_tokens=False)) + 1
    assert (answer.text, answer.raw, answer.new_tokens) == ("1867", " 1867", tokens)


@pytest.mark.parametrize(
    ("recited", "text"), [(" Bo\nxyz", "Bo"), ("\nBo", ""), (" Bo\r1867", "Bo"), (" Bo-\u2028ni\nx", "Bo-")]
)
def test_only_the_first_line_counts(tiny_base, recited, text):
    generator = Generator(recite(tiny_base, recited), max_new_tokens=8)
    (answer,) = generator.answer([PromptWriter(tiny_base.tokenizer).question("Who?")])
    assert answer.text == text
    assert (recited * 2).startswith(answer.raw)


def test_a_newline_ends_the_answer_and_counts_as_a_token(tiny_base):
    generator = Generator(recite(tiny_base, "B\nxyz"), max_new_tokens=8)
    (answer,) = generator.answer([PromptWriter(tiny_base.tokenizer).question("Who?")])
    assert (answer.raw, answer.new_tokens) == ("B\n", 2)


def test_an_answer_without_an_end_has_the_longest_length(tiny_base):
    generator = Generator(recite(tiny_base, "BCD"), max_new_tokens=7)
    (answer,) = generator.answer([PromptWriter(tiny_base.tokenizer).question("Who?")])
    assert (answer.text, answer.new_tokens) == ("BCDBCDB", 7)


def test_a_row_that_ends_early_counts_its_own_tokens_alone(tiny_base):
    tokenizer = tiny_base.tokenizer
    generator = Generator(recite(tiny_base, f"BCDEF{END}"), max_new_tokens=8)
    prompt = PromptWriter(tokenizer).question("Who?")
    late = [*prompt, *tokenizer.encode("BCD", add_special_tokens=False)]
    early, late_answer = generator.answer([prompt, late])
    assert (early.text, early.new_tokens) == ("BCDEF", 6)
    assert (late_answer.text, late_answer.new_tokens) == ("EF", 3)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(QUESTIONS))), copies=st.integers(1, 2))
def test_the_order_and_size_of_a_batch_do_not_matter(tiny_base, order, copies):
    generator = Generator(tiny_base, max_new_tokens=4)
    prompts = prompts_of(tiny_base)
    straight = generator.answer(prompts)
    mixed = generator.answer([prompts[at] for at in order] * copies)
    assert mixed == [straight[at] for at in order] * copies
