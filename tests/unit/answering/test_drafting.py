import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from polyprag.answering.drafting import Drafter, last_attention, pieces_of
from polyprag.answering.generation import Generator
from polyprag.errors import ModelError
from polyprag.experts.base_model import BaseModel
from polyprag.knowledge.prompts import PromptWriter

QUESTIONS = ["Who?", "Where was the founder of the school of Arlen born?", "In which year did it end, and why so late?"]
LONGEST = 9


def prompts_of(base: BaseModel) -> list[list[int]]:
    writer = PromptWriter(base.tokenizer)
    return [writer.question(text, [text * 3] * number) for number, text in enumerate(QUESTIONS)]


@pytest.fixture
def drafter(tiny_base) -> Drafter:
    return Drafter(Generator(tiny_base, LONGEST))


def test_a_draft_is_what_the_generator_writes(tiny_base, drafter):
    generator, prompts = Generator(tiny_base, LONGEST), prompts_of(tiny_base)
    drafts = drafter.draft(prompts, [LONGEST] * 3)
    assert [generator.read(draft.ids) for draft in drafts] == generator.answer(prompts)
    assert all(draft.attention_HTS is None for draft in drafts)
    assert all(draft.ended is (draft.ids[-1] in generator.stops) for draft in drafts)
    for draft in drafts:
        assert "".join(draft.pieces) == tiny_base.tokenizer.decode(draft.ids, skip_special_tokens=True)
        assert len(draft.pieces) == len(draft.ids) == draft.length + draft.ended


def test_each_row_keeps_to_its_own_budget(tiny_base, drafter):
    prompts = prompts_of(tiny_base)
    whole, cut = drafter.draft(prompts, [LONGEST] * 3), drafter.draft(prompts, [2, LONGEST, 1], attend=True)
    for draft, other, budget in zip(whole, cut, [2, LONGEST, 1], strict=True):
        assert other.ids == draft.ids[:budget]
        assert other.probabilities == pytest.approx(draft.probabilities[:budget], rel=1e-4)
        assert other.attention_HTS.shape[1] == len(other.ids) + 1


@pytest.fixture
def reference(tiny_model_folder):
    """One forward pass over a whole row, unpadded, in another copy of the model that computes attention as weights."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, attn_implementation="eager", dtype=torch.float32)

    def forward(ids: list[int]):
        with torch.no_grad():
            return model(torch.tensor([ids]), output_attentions=True)

    return forward


def test_probabilities_and_entropies_are_those_of_the_logits(tiny_base, drafter, reference):
    prompts = prompts_of(tiny_base)
    for prompt, draft in zip(prompts, drafter.draft(prompts, [LONGEST] * 3), strict=True):
        logits_TV = reference([*prompt, *draft.ids]).logits[0, len(prompt) - 1 : -1].double()
        expected_TV = logits_TV.exp() / logits_TV.exp().sum(-1, keepdim=True)
        chosen = [float(row_V[token]) for row_V, token in zip(expected_TV, draft.ids, strict=True)]
        entropies = -(expected_TV * expected_TV.log()).sum(-1)
        assert draft.probabilities == pytest.approx(chosen, rel=1e-4)
        assert draft.entropies == pytest.approx(entropies.tolist(), rel=1e-4)


def test_attention_is_that_of_the_last_block_from_the_last_position_of_the_prompt_on(tiny_base, drafter, reference):
    prompts = prompts_of(tiny_base)
    for prompt, draft in zip(prompts, drafter.draft(prompts, [LONGEST] * 3, attend=True), strict=True):
        expected_HSS = reference([*prompt, *draft.ids]).attentions[-1][0]
        assert draft.attention_HTS.shape == (4, len(draft.ids) + 1, len(prompt) + len(draft.ids))
        torch.testing.assert_close(draft.attention_HTS, expected_HSS[:, len(prompt) - 1 :], rtol=1e-4, atol=1e-6)


def test_attention_leaves_the_shared_model_as_it_was(tiny_base, drafter):
    prompts = prompts_of(tiny_base)
    usual = tiny_base.model.config._attn_implementation
    before = drafter.draft(prompts, [LONGEST] * 3)
    drafter.draft(prompts, [LONGEST] * 3, attend=True)
    assert tiny_base.model.config._attn_implementation == usual != "eager"
    assert drafter.draft(prompts, [LONGEST] * 3) == before
    with pytest.raises(RuntimeError), last_attention(tiny_base):
        raise RuntimeError
    assert tiny_base.model.config._attn_implementation == usual
    hooks = [module._forward_hooks for module in tiny_base.model.modules() if "Attention" in type(module).__name__]
    assert hooks
    assert not any(hooks)


@pytest.mark.parametrize("rows", [1, 2])
def test_attention_comes_in_groups_of_the_decoders_rows(tiny_base, rows):
    prompts, budgets = prompts_of(tiny_base) * 2, [LONGEST, 2, 1, 3, LONGEST, 5]
    whole = Drafter(Generator(tiny_base, LONGEST)).draft(prompts, budgets, attend=True)
    seen: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    block = tiny_base.model.get_decoder().layers[-1].self_attn
    hook = block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    drafts = Drafter(Generator(tiny_base, LONGEST, rows=rows)).draft(prompts, budgets, attend=True)
    hook.remove()
    assert [len(out_BTD) for out_BTD, weights in seen if weights is not None] == [rows] * (len(prompts) // rows)
    for draft, other in zip(drafts, whole, strict=True):
        assert draft.ids == other.ids
        torch.testing.assert_close(draft.attention_HTS, other.attention_HTS, rtol=1e-4, atol=1e-6)


def test_weights_of_the_last_block_alone_are_kept(tiny_base, drafter):
    with last_attention(tiny_base) as seen, torch.no_grad():
        found = tiny_base.model.get_decoder()(input_ids=torch.tensor([[1, 2, 3]]))
    (last_BHTS,) = seen
    assert found.attentions is None
    with torch.no_grad():
        tiny_base.model.set_attn_implementation("eager")
        every = tiny_base.model(torch.tensor([[1, 2, 3]]), output_attentions=True).attentions
    assert len(every) > 1
    torch.testing.assert_close(last_BHTS, every[-1])


def test_a_model_whose_attention_cannot_be_found_is_refused(tiny_base):
    nameless = dataclasses.replace(tiny_base, model=torch.nn.Linear(1, 1))
    with pytest.raises(ModelError, match=r"^base\.model=.*: its attention modules cannot be found, and dragin reads"):
        last_attention(nameless).__enter__()


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=30))
def test_pieces_join_to_the_text_and_hold_whole_characters(tiny_tokenizer, text):
    ids = tiny_tokenizer.encode(text, add_special_tokens=False)
    pieces = pieces_of(ids, tiny_tokenizer)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tiny_tokenizer.decode(ids, skip_special_tokens=True)


def test_a_character_of_several_tokens_belongs_to_the_last(tiny_tokenizer):
    ids = tiny_tokenizer.encode("a€b", add_special_tokens=False)
    assert pieces_of(ids, tiny_tokenizer) == ["a", "", "", "€", "b"]
    assert pieces_of([*ids, tiny_tokenizer.eos_token_id], tiny_tokenizer)[-1] == ""
