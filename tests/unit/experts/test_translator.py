"""Shapes: P passages, E hidden size, H hidden units, R rank, D inputs, O outputs, T positions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyprag.experts.translator import LONGEST_PASSAGE, ParameterTranslator, last_states

SHAPES = {"layers.0.mlp.up_proj": (5, 7), "layers.0.mlp.down_proj": (7, 5), "layers.3.mlp.up_proj": (5, 7)}
TEXTS = ["Arlen lies by the river Om.", "Brask: Brask was founded in 1702, and nobody knows by whom.", "x"]


def translator_of(size: int = 4, rank: int = 2, hidden: int = 3, init: float = 0.5) -> ParameterTranslator:
    torch.manual_seed(0)
    return ParameterTranslator(SHAPES, size, rank, hidden, init)


def written_out(network, state_E, shape):
    """The formula of the module's docstring for one passage, in float64 and plain loops."""
    first, second = network.first.detach().double(), network.second.detach().double()
    seen = torch.cat([state_E.double(), torch.tensor([float(network.index)], dtype=torch.float64)])
    hidden = [max(0.0, float(row @ seen)) for row in first]
    flat = [sum(float(w) * h for w, h in zip(row, hidden, strict=True)) for row in second]
    return torch.tensor(flat, dtype=torch.float64).reshape(shape)


def test_each_matrix_is_what_the_formula_says():
    translator, states_PE = translator_of().requires_grad_(False), torch.randn(2, 4)
    adapters = translator(states_PE)
    assert adapters.keys() == SHAPES.keys()
    for at, (name, (inputs, outputs)) in enumerate(translator.shapes.items()):
        A_PRD, B_POR = adapters[name]
        assert A_PRD.shape == (2, 2, inputs)
        assert B_POR.shape == (2, outputs, 2)
        for passage, state_E in enumerate(states_PE):
            expected = written_out(translator.to_A[at], state_E, (2, inputs))
            torch.testing.assert_close(A_PRD[passage].double(), expected, rtol=1e-5, atol=1e-6)
            expected = written_out(translator.to_B[at], state_E, (outputs, 2))
            torch.testing.assert_close(B_POR[passage].double(), expected, rtol=1e-5, atol=1e-6)


def test_the_order_in_which_layers_are_named_does_not_matter():
    torch.manual_seed(0)
    backwards = ParameterTranslator(dict(reversed(SHAPES.items())), 4, 2, 3, 0.5).state_dict()
    weights = translator_of().state_dict()
    assert weights.keys() == backwards.keys()
    assert all(torch.equal(weights[name], weight) for name, weight in backwards.items())


def test_a_layer_sees_the_number_of_its_block():
    assert [network.index for network in translator_of().to_A] == [0, 0, 3]
    assert [network.index for network in translator_of().to_B] == [0, 0, 3]


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4))
def test_a_passage_gets_the_same_adapter_alone_and_among_others(passages, rank, hidden):
    translator = translator_of(rank=rank, hidden=hidden)
    states_PE = torch.randn(passages, 4)
    together = translator(states_PE)
    for at in range(passages):
        for name, sides in translator(states_PE[at : at + 1]).items():
            for own, all_of_them in zip(sides, together[name], strict=True):
                torch.testing.assert_close(own[0], all_of_them[at])


@pytest.mark.parametrize("init", [1e-7, 0.1])
def test_weights_start_as_small_as_asked(init):
    weights = torch.cat([weight.flatten() for weight in translator_of(size=64, hidden=32, init=init).parameters()])
    assert float(weights.detach().std()) == pytest.approx(init, rel=0.05)
    assert abs(float(weights.detach().mean())) < init / 10


class TestLastStates:
    def test_it_is_the_last_hidden_state_at_the_last_token(self, tiny_base):
        states_PE = last_states(tiny_base, TEXTS)
        assert states_PE.dtype == torch.float32
        for text, state_E in zip(TEXTS, states_PE, strict=True):
            tokens_1T = torch.tensor([tiny_base.tokenizer(text).input_ids])
            with torch.no_grad():
                whole = tiny_base.model(tokens_1T, output_hidden_states=True).hidden_states[-1]
            torch.testing.assert_close(state_E, whole[0, -1], rtol=1e-4, atol=1e-5)

    def test_it_does_not_depend_on_the_others_in_the_batch(self, tiny_base):
        together = last_states(tiny_base, TEXTS)
        alone = torch.cat([last_states(tiny_base, [text]) for text in TEXTS])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(together[0], together[1], atol=0.1)

    def test_long_passages_are_cut_and_empty_ones_are_read_all_the_same(self, tiny_base, monkeypatch):
        monkeypatch.setattr("polyprag.experts.translator.LONGEST_PASSAGE", 4)
        start = tiny_base.tokenizer.decode(tiny_base.tokenizer.encode(TEXTS[1])[:4])
        torch.testing.assert_close(last_states(tiny_base, [TEXTS[1]]), last_states(tiny_base, [start]))
        assert torch.isfinite(last_states(tiny_base, [""])).all()
        assert LONGEST_PASSAGE == 3000
