"""Shapes: B rows, T positions, L labels, V vocabulary."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from polyprag.answering.decoding import Decoder
from polyprag.experts.base_model import BaseModel
from polyprag.experts.logits import logits_of
from polyprag.knowledge.tasks import Pack
from polyprag.training import module as module_file
from polyprag.training.batches import Batch, collate
from polyprag.training.module import label_logits, label_loss

FAMILIES = {
    "cohere": {"logit_scale": 0.0625},
    "cohere2": {"logit_scale": 0.25},
    "gemma2": {"final_logit_softcapping": 0.5},
    "gemma3_text": {"final_logit_softcapping": 0.5},
    "granite": {"logits_scaling": 8.0},
    "hyperclovax": {"logits_scaling": 8.0},
    "llama": {},
    "nanochat": {"final_logit_softcapping": 0.5},
}
TOKENS = [5, 9, 2, 7, 3, 11]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    """A random model of a family, two blocks of width 16."""
    config = AutoConfig.for_model(
        request.param,
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=0,
        initializer_range=0.5,
        **FAMILIES[request.param],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()


@pytest.fixture
def batch() -> Batch:
    """A single row of which each token but the first is a label."""
    places = tuple(range(len(TOKENS)))
    return collate([Pack(0, tuple(TOKENS), places, (0,) * len(TOKENS), places[:-1], tuple(TOKENS[1:]))], pad=0)


def own_logits(model: Any) -> Tensor:
    """What the model's forward pass says, [T, V]."""
    logits_BTV: Tensor = model(torch.tensor([TOKENS])).logits
    return logits_BTV[0]


@torch.no_grad()
def test_logits_are_those_of_the_forward_pass(model):
    states_BTD = model.get_decoder()(torch.tensor([TOKENS])).last_hidden_state
    expected_TV = own_logits(model)
    torch.testing.assert_close(logits_of(model, states_BTD)[0], expected_TV)
    plain_TV = model.get_output_embeddings()(states_BTD)[0]
    assert torch.allclose(plain_TV, expected_TV) is (model.config.model_type == "llama"), "the test would see nothing"


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1024, 2])
def test_training_learns_from_them(model, batch, monkeypatch, chunk):
    monkeypatch.setattr(module_file, "CHUNK", chunk)
    expected_LV = own_logits(model)[:-1]
    torch.testing.assert_close(label_logits(model, batch), expected_LV)
    torch.testing.assert_close(label_loss(model, batch), F.cross_entropy(expected_LV, batch.targets_L))


def test_answers_are_chosen_from_them(model):
    decoder, tokens_BT = Decoder(BaseModel(model, None, "tiny", ""), rows=1), torch.tensor([TOKENS])
    with torch.no_grad():
        logits_BV = decoder.read(tokens_BT, torch.ones_like(tokens_BT), DynamicCache())
        torch.testing.assert_close(logits_BV[0], own_logits(model)[-1])
