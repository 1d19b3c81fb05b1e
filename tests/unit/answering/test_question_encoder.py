"""Shapes: B texts, T tokens, D size of a state."""

import dataclasses
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from polyprag.answering.generation import Generator
from polyprag.answering.query_router import measure_keys
from polyprag.answering.question_encoder import (
    BATCH,
    LONGEST_TEXT,
    BaseEncoder,
    QuestionEncoder,
    SentenceEncoder,
    batches_of,
    build_encoder,
)
from polyprag.config import ExpertsConfig, Granularity, RouterConfig
from polyprag.errors import ConfigError, ModelError
from polyprag.experts.base_model import BaseModel
from polyprag.experts.pool import ExpertPool
from polyprag.knowledge.prompts import PromptWriter

TEXTS = ["Who?", "Where was Mira Tolk born?", "In which year did the school of Arlen begin, and why so late?"]
BLOCKS = 3
EXTRA = "an extra that not every installation has"


def states_of(encoder: QuestionEncoder, texts: list[str]) -> list[Tensor]:
    """The states of each text's own tokens, [T, D]."""
    found = encoder.encode(texts)
    return [states_TD[mask_T] for states_TD, mask_T in zip(found.states_BTD, found.mask_BT, strict=True)]


def ids_of(base: BaseModel, text: str) -> Tensor:
    return torch.tensor([base.tokenizer.encode(f" {text}", add_special_tokens=False)])


def loud_pool(base: BaseModel) -> ExpertPool:
    pool = ExpertPool(base.model, ExpertsConfig(count=2, rank=2), Granularity.SHARED)
    with torch.no_grad():
        for layer in pool.layers.values():
            layer.B.fill_(1.0)
    return pool


class TestStates:
    @pytest.mark.parametrize("layers", [0, 1, -1])
    def test_neither_padding_nor_batch_size_changes_them(self, tiny_base, layers):
        encoder = BaseEncoder(tiny_base, layers)
        together = states_of(encoder, TEXTS)
        for text, states_TD in zip(TEXTS, together, strict=True):
            (alone_TD,) = states_of(encoder, [text])
            assert len(alone_TD) == ids_of(tiny_base, text).shape[1]
            torch.testing.assert_close(states_TD, alone_TD, rtol=1e-5, atol=1e-5)

    def test_no_layer_means_the_embedding_table(self, tiny_base):
        found = BaseEncoder(tiny_base, 0).encode(TEXTS)
        table_VD = tiny_base.model.get_input_embeddings().weight
        assert torch.equal(found.states_BTD, table_VD[found.ids_BT])
        for row, text in enumerate(TEXTS):
            assert torch.equal(found.ids_BT[row][found.mask_BT[row]], ids_of(tiny_base, text)[0])

    @pytest.mark.parametrize("layers", [1, 2])
    def test_so_many_layers_are_those_that_transformers_tells(self, tiny_base, layers):
        with torch.no_grad():
            expected = tiny_base.model(ids_of(tiny_base, TEXTS[2]), output_hidden_states=True).hidden_states[layers]
        (states_TD,) = states_of(BaseEncoder(tiny_base, layers), TEXTS[2:])
        torch.testing.assert_close(states_TD, expected[0], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("layers", [BLOCKS, -1])
    def test_all_layers_end_before_the_last_norm(self, tiny_base, layers):
        with torch.no_grad():
            expected = tiny_base.model(ids_of(tiny_base, TEXTS[2]), output_hidden_states=True).hidden_states[-1]
            (states_TD,) = states_of(BaseEncoder(tiny_base, layers), TEXTS[2:])
            torch.testing.assert_close(tiny_base.model.model.norm(states_TD), expected[0], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(states_TD, expected[0], atol=0.01)

    @pytest.mark.parametrize("layers", [0, 2, -1])
    def test_sizes_are_those_of_the_model(self, tiny_base, layers):
        encoder = BaseEncoder(tiny_base, layers)
        found = encoder.encode(TEXTS)
        assert found.states_BTD.shape == (*found.ids_BT.shape, encoder.size)
        assert found.states_BTD.dtype == torch.float32
        assert encoder.vocabulary == len(tiny_base.tokenizer)

    def test_a_long_text_is_cut_and_a_blank_one_has_a_state(self, tiny_base):
        found = BaseEncoder(tiny_base, 1).encode(["Where? " * LONGEST_TEXT, " \n"])
        assert found.mask_BT.sum(1)[0] == LONGEST_TEXT
        assert found.mask_BT[1].any()
        assert found.states_BTD.isfinite().all()

    def test_space_around_a_text_does_not_count(self, tiny_base):
        (plain_TD,), (spaced_TD,) = (states_of(BaseEncoder(tiny_base, 1), [text]) for text in ("Who?", "\n Who? "))
        assert torch.equal(plain_TD, spaced_TD)


class TestBaseModel:
    @pytest.mark.parametrize("layers", [0, 1, -1])
    def test_it_is_left_as_it_was(self, tiny_base, layers):
        prompts = [PromptWriter(tiny_base.tokenizer).question(text) for text in TEXTS]
        before = Generator(tiny_base, 6).answer(prompts)
        BaseEncoder(tiny_base, layers).encode(TEXTS)
        assert not any(module._forward_hooks for module in tiny_base.model.modules())
        assert Generator(tiny_base, 6).answer(prompts) == before

    @pytest.mark.parametrize("layers", [1, -1])
    def test_experts_in_it_are_not_heard(self, tiny_base, layers):
        plain = states_of(BaseEncoder(tiny_base, layers), TEXTS)
        pool = loud_pool(tiny_base)
        encoder = BaseEncoder(tiny_base, layers)
        assert all(map(torch.equal, states_of(encoder, TEXTS), plain))
        with pool.gated(torch.ones(len(TEXTS), 1, 2)):
            assert not all(map(torch.equal, states_of(encoder, TEXTS), plain))
        assert all(map(torch.equal, states_of(encoder, TEXTS), plain))

    @pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
    def test_recomputed_activations_do_not_matter(self, tiny_base):
        encoder = BaseEncoder(tiny_base, 2)
        plain = states_of(encoder, TEXTS)
        tiny_base.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        tiny_base.model.train()
        assert all(map(torch.equal, states_of(encoder, TEXTS), plain))

    def test_too_many_layers_are_refused_in_one_line(self, tiny_base):
        with pytest.raises(ConfigError, match=r"^router\.layers is 4, but the base model has 3 blocks; use") as caught:
            build_encoder(RouterConfig(layers=BLOCKS + 1), tiny_base)
        assert "\n" not in str(caught.value)

    def test_a_model_without_visible_blocks_can_give_its_embeddings_alone(self, tiny_base):
        decoder, embeddings = SimpleNamespace(), tiny_base.model.get_input_embeddings()
        model = SimpleNamespace(
            get_decoder=lambda: decoder, get_input_embeddings=lambda: embeddings, device=tiny_base.device
        )
        closed = dataclasses.replace(tiny_base, model=model)
        with pytest.raises(ModelError, match=r"its transformer blocks cannot be found; set router\.layers=0"):
            BaseEncoder(closed, 1)
        assert all(
            map(torch.equal, states_of(BaseEncoder(closed, 0), TEXTS), states_of(BaseEncoder(tiny_base, 0), TEXTS))
        )


class TestSentenceEncoder:
    def test_without_the_package_the_remedy_is_named(self, tiny_base, monkeypatch):
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        says = (
            r"^router\.encoder is 'some/model', which needs sentence-transformers: pip install .*leave router\.encoder"
        )
        with pytest.raises(ConfigError, match=says) as caught:
            build_encoder(RouterConfig(encoder="some/model"), tiny_base)
        assert "\n" not in str(caught.value)

    @pytest.fixture
    def local_model(self, tiny_tokenizer, tmp_path) -> str:
        """A folder with a sentence model of eight numbers a word."""
        package = pytest.importorskip("sentence_transformers", reason=EXTRA)
        modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules", reason=EXTRA)
        words = modules.StaticEmbedding(tiny_tokenizer.backend_tokenizer, embedding_dim=8)
        package.SentenceTransformer(modules=[words], device="cpu").save(str(tmp_path / "sentences"))
        return str(tmp_path / "sentences")

    def test_a_text_is_a_single_token(self, local_model, tiny_base):
        encoder = build_encoder(RouterConfig(encoder=local_model), tiny_base)
        assert isinstance(encoder, SentenceEncoder)
        found = encoder.encode(TEXTS)
        assert (encoder.size, encoder.vocabulary) == (8, 1)
        assert torch.equal(found.ids_BT, torch.zeros(3, 1, dtype=torch.long))
        assert found.mask_BT.all()
        expected_BD = torch.tensor(encoder.model.encode(TEXTS))
        assert torch.equal(found.states_BTD, expected_BD[:, None])
        keys_ND = measure_keys(encoder, [[text] for text in TEXTS]).keys_ND
        torch.testing.assert_close(keys_ND.norm(dim=-1), torch.ones(3))

    def test_a_model_that_is_none_is_refused_in_one_line(self, tmp_path):
        pytest.importorskip("sentence_transformers", reason=EXTRA)
        with pytest.raises(ModelError, match=r"^router\.encoder=.*none: cannot be loaded \(") as caught:
            SentenceEncoder(str(tmp_path / "none"), torch.device("cpu"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [0, 1, BATCH, BATCH + 1])
def test_batches_hold_every_text_once_in_order(number):
    texts = [f"text {at}" for at in range(number)]
    batches = list(batches_of(texts))
    assert [text for batch in batches for text in batch] == texts
    assert all(0 < len(batch) <= BATCH for batch in batches)
