"""In-context methods under the LoRA of the answers' form."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polyprag.answering.drafting import Drafter
from polyprag.config import Config, MethodName
from polyprag.errors import ConfigError, StoreError
from polyprag.evaluation.report import is_control
from polyprag.methods.catalogue import build_method
from polyprag.methods.workbench import Setting, Workbench
from polyprag.store import open_store
from polyprag.training.controls import control_config, control_folder, needed_controls

PLAIN = (MethodName.STANDARD_RAG, MethodName.DA_RAG, MethodName.FLARE, MethodName.DRAGIN)
FORMATTED = tuple(MethodName(f"{name}_format") for name in PLAIN)
FORMAT = MethodName.FORMAT_LORA
KEYS = ("data.max_passages=4", "controls.passages=2", "dragin.threshold=0.5")


@pytest.fixture
def trained(make_bench, train_at_random) -> Workbench:
    """A run whose `format_lora` looks trained."""
    bench = make_bench(*KEYS)
    train_at_random(control_config(bench.config, FORMAT), control_folder(bench.folder, FORMAT))
    return bench


def answers(bench: Workbench, name: MethodName) -> list[tuple[object, ...]]:
    method, questions = build_method(name, bench), bench.knowledge.test[:4]
    setting = Setting(passages=2, shots=1)
    method.prepare(questions, [setting])
    answered = method.answer(questions, setting)
    return [(one.generated, one.retrieved, one.prompt_tokens, one.retrievals, one.discarded_tokens) for one in answered]


@pytest.mark.parametrize(("plain", "formatted"), list(zip(PLAIN, FORMATTED, strict=True)))
class TestFormatMethods:
    def test_a_lora_that_does_nothing_leaves_the_plain_method(self, trained, plain, formatted):
        for layer in trained.control(FORMAT).generator.pool.layers.values():
            layer.B.data.zero_()
        assert answers(trained, formatted) == answers(trained, plain)

    def test_one_that_speaks_is_heard(self, trained, plain, formatted):
        assert answers(trained, formatted) != answers(trained, plain)

    def test_they_choose_among_the_same_settings(self, trained, plain, formatted):
        assert build_method(formatted, trained).options() == build_method(plain, trained).options()

    def test_identity_and_costs_are_the_plain_ones_and_the_loras(self, trained, plain, formatted):
        method, bare = build_method(formatted, trained), build_method(plain, trained)
        store = open_store(control_folder(trained.folder, FORMAT) / "store")
        assert method.identity == bare.identity + store.manifest.digest
        added = method.bytes_per_passage - bare.bytes_per_passage
        assert added == pytest.approx(store.bytes_on_disk["pool"] / len(trained.passages))
        assert (bare.train_seconds, method.train_seconds) == (0.0, 12.5)
        assert not is_control(formatted)

    def test_without_the_control_the_remedy_is_named_before_anything_answers(self, make_bench, plain, formatted):
        bench = make_bench()
        build_method(plain, bench).check(bench.knowledge.test)
        remedy = rf"train it first: python train\.py controls run\.dir={bench.folder}, or leave it out of"
        with pytest.raises(ConfigError, match=rf"^{formatted}: no store in .*controls/format_lora; {remedy}") as caught:
            build_method(formatted, bench).check(bench.knowledge.test)
        assert "\n" not in str(caught.value)


def test_it_answers_as_the_base_model_with_the_lora_merged(trained):
    method = build_method(MethodName.STANDARD_RAG_FORMAT, trained)
    merged = {name: weight.clone() for name, weight in trained.base.model.state_dict().items()}
    pool = load_file(open_store(control_folder(trained.folder, FORMAT) / "store").folder / "pool.safetensors")
    for name in {key.rpartition(".")[0] for key in pool}:
        merged[f"{name}.weight"] += trained.config.experts.scale * pool[f"{name}.B"] @ pool[f"{name}.A"]
    trained.base.model.load_state_dict(merged)
    questions, setting = trained.knowledge.test, Setting(passages=1)
    expected = build_method(MethodName.STANDARD_RAG, trained).answer(questions, setting)
    found = method.answer(questions, setting)
    assert [one.generated for one in found] == [one.generated for one in expected]


def test_drafts_and_their_attention_are_those_under_the_lora(trained):
    generator = trained.control(FORMAT).generator
    prompts = [trained.writer.question(question.text) for question in trained.knowledge.test[:2]]
    (draft, _) = Drafter(generator).draft(prompts, [4, 4], attend=True)
    tokens_BT = torch.tensor([[*prompts[0], *draft.ids]])
    generator.base.model.set_attn_implementation("eager")
    with torch.no_grad(), generator.pool.gated(generator.gates(1)):
        seen = generator.base.model(tokens_BT, output_attentions=True)
    expected = seen.attentions[-1][0, :, len(prompts[0]) - 1 :]
    torch.testing.assert_close(draft.attention_HTS, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        bare = generator.base.model(tokens_BT, output_attentions=True).attentions[-1][0, :, len(prompts[0]) - 1 :]
    assert not torch.allclose(draft.attention_HTS, bare, atol=1e-3)


def test_all_methods_share_one_copy_of_the_lora(trained):
    generators = {id(build_method(name, trained).generator) for name in FORMATTED}
    assert generators == {id(build_method(FORMAT, trained).lora.generator)}
    assert {id(build_method(name, trained).generator) for name in PLAIN} == {id(trained.plain_generator)}


def test_a_lora_of_another_base_or_for_other_prompts_is_refused(trained, make_bench, other_model_folder):
    other = make_bench(*KEYS, f"base.model={other_model_folder}")
    with pytest.raises(StoreError, match="belongs to base model"):
        build_method(MethodName.FLARE_FORMAT, other).check([])
    thinking = make_bench(*KEYS, "answering.prompt=cot", "answering.max_new_tokens=64")
    with pytest.raises(ConfigError, match=r"^da_rag_format: answering\.prompt is cot, but .* was trained for direct;"):
        build_method(MethodName.DA_RAG_FORMAT, thinking).check([])


@pytest.mark.parametrize(
    ("methods", "needed"),
    [
        ((), []),
        (("poly_prag", "standard_rag"), []),
        (("dragin_format",), [FORMAT]),
        (("flare_format", "format_lora", "global_lora"), [MethodName.GLOBAL_LORA, FORMAT]),
        (("global_lora",), [MethodName.GLOBAL_LORA]),
    ],
)
def test_methods_say_which_controls_they_need(methods, needed):
    assert needed_controls(methods) == needed


def test_the_format_lora_knows_nothing_of_the_corpus(trained):
    config: Config = control_config(trained.config, FORMAT)
    assert dataclasses.asdict(config.data) != dataclasses.asdict(trained.config.data)
    assert Path(control_folder(trained.folder, FORMAT)).name == "format_lora"
