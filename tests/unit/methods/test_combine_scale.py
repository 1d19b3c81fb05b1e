"""The strength of adapters and experts where prompts show passages."""

import pytest
import torch

from polyprag.config import MethodName
from polyprag.methods.catalogue import build_method
from polyprag.methods.workbench import Setting, Workbench

COMBINED = (MethodName.PRAG_COMBINE, MethodName.POLY_PRAG_COMBINE)
ALONE = (MethodName.PRAG, MethodName.POLY_PRAG)
SETTING = Setting(passages=2)
SHARED = ("experts.shared=2",)


def answers(bench: Workbench, name: MethodName) -> list[object]:
    method = build_method(name, bench)
    questions = bench.knowledge.test
    method.prepare(questions, [SETTING])
    return [one.generated for one in method.answer(questions, SETTING)]


@pytest.mark.parametrize("composition", ["sum", "factor"])
def test_at_zero_the_passages_answer_alone(make_bench, composition):
    bench = make_bench("answering.combine_scale=0", f"experts.composition={composition}", *SHARED)
    plain = answers(bench, MethodName.STANDARD_RAG)
    for name in COMBINED:
        assert answers(bench, name) == plain


@pytest.mark.parametrize("name", COMBINED)
def test_at_one_nothing_changes_not_even_the_identity(make_bench, name):
    usual, said = make_bench(), make_bench("answering.combine_scale=1")
    assert build_method(name, usual).identity == build_method(name, said).identity
    assert answers(usual, name) == answers(said, name) != answers(usual, MethodName.STANDARD_RAG)
    weaker = make_bench("answering.combine_scale=0.5")
    assert build_method(name, weaker).identity != build_method(name, usual).identity


@pytest.mark.parametrize("name", ALONE)
def test_methods_without_passages_know_nothing_of_it(make_bench, name):
    usual, weaker = make_bench(), make_bench("answering.combine_scale=0.25")
    assert build_method(name, usual).identity == build_method(name, weaker).identity
    assert answers(usual, name) == answers(weaker, name)


@pytest.mark.parametrize("composition", ["sum", "factor"])
def test_the_update_of_every_layer_is_multiplied(make_bench, composition):
    bench = make_bench(f"experts.composition={composition}", *SHARED)
    pool, gates_BGK = bench.pool, bench.gates_NGK[:2]
    layer = next(iter(pool.layers.values()))
    x_BTD = torch.randn(2, 3, layer.base.in_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bare = layer(x_BTD)
        with pool.gated(gates_BGK):
            whole = layer(x_BTD) - bare
        with pool.at_strength(0.25), pool.gated(gates_BGK):
            quarter = layer(x_BTD) - bare
        with pool.gated(gates_BGK):
            again = layer(x_BTD) - bare
    torch.testing.assert_close(quarter, whole / 4, rtol=1e-4, atol=1e-5)
    assert torch.equal(again, whole)


def test_an_error_inside_leaves_the_strength_as_it_was(make_bench):
    pool = make_bench().pool
    with pytest.raises(KeyboardInterrupt), pool.at_strength(0.5):
        raise KeyboardInterrupt
    assert {layer.scale for layer in pool.layers.values()} == {pool.config.scale}


def test_merged_adapters_are_multiplied(make_bench):
    bench = make_bench(trained=False)
    encoder = bench.adapters
    encoder.encode(bench.passages[:2])

    def updates(strength: float) -> dict[str, torch.Tensor]:
        encoder.load_and_merge(bench.passages[:2], strength=strength)
        layers = {name: module for name, module in encoder.model.named_modules() if hasattr(module, "lora_A")}
        found = {name: layer.get_delta_weight("merged").clone() for name, layer in layers.items()}
        encoder.unload()
        return found

    whole, third = updates(1.0), updates(1 / 3)
    assert whole
    for name, update in whole.items():
        assert update.abs().max() > 0
        torch.testing.assert_close(third[name], update / 3, rtol=1e-4, atol=1e-6)
