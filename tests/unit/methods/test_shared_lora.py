"""Controls that are a pool of one expert."""

import dataclasses
from pathlib import Path

import pytest
import torch

from polyprag.answering.generation import Generator
from polyprag.config import MethodName
from polyprag.config.loading import to_yaml
from polyprag.errors import ConfigError, StoreError
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.methods.shared_lora import SharedLora
from polyprag.methods.workbench import STEPS, Setting, Workbench
from polyprag.records import Question
from polyprag.store import open_store
from polyprag.training.controls import CONTROLS, control_config, control_folder

UNHEARD_OF = Question("x", "Xyzzy?", ("nothing",))


@pytest.fixture
def trained(make_bench, train_at_random, tmp_path) -> Workbench:
    """A run whose controls look trained, each with weights of its own."""
    bench = make_bench("data.max_passages=4", "controls.passages=2")
    for seed, name in enumerate(CONTROLS):
        train_at_random(control_config(bench.config, name), control_folder(tmp_path / "run", name), seed)
    return bench


def merged(bench: Workbench, folder: Path) -> BaseModel:
    """The base model with a control's LoRA added to its weights: W + s B A."""
    base, pool = load_base(bench.config.base), open_store(folder / "store").pool()
    with torch.no_grad():
        for name in {key.rpartition(".")[0] for key in pool}:
            weight = base.model.get_submodule(name).weight
            weight += bench.config.experts.scale * (pool[f"{name}.B"].double() @ pool[f"{name}.A"].double()).float()
    return base


@pytest.mark.parametrize("name", CONTROLS)
class TestControl:
    def test_it_is_a_plain_lora(self, trained, name):
        method = SharedLora(name, trained)
        questions = trained.knowledge.test
        method.prepare(questions, method.options())
        lora = merged(trained, control_folder(trained.folder, name))
        prompts = [trained.writer.question(question.text) for question in questions]
        generator, tokens_BT = method.lora.generator, torch.tensor(prompts[:1])
        gates_BGK = torch.ones(1, 1, 1)
        with torch.no_grad(), generator.pool.gated(gates_BGK):
            logits = generator.base.model(tokens_BT).logits
        with torch.no_grad():
            torch.testing.assert_close(logits, lora.model(tokens_BT).logits, rtol=1e-4, atol=1e-4)
            assert not torch.allclose(logits, generator.base.model(tokens_BT).logits, atol=0.1)
        plain = Generator(lora, trained.config.answering.max_new_tokens)
        assert [one.generated for one in method.answer(questions, Setting())] == plain.answer(prompts)

    def test_it_chooses_nothing_and_shows_nothing(self, trained, generations, name):
        method = SharedLora(name, trained)
        assert method.options() == [Setting()]
        method.check([UNHEARD_OF])
        answered = method.answer([UNHEARD_OF, *trained.knowledge.test], Setting())
        assert {(one.retrieved, one.top_experts, one.confidence) for one in answered} == {((), (), None)}
        assert torch.equal(method.lora.generator.standing_GK, torch.ones(1, 1))
        assert "Passage" not in "".join(generations[0].prompts)
        assert list(answered[0].seconds) == list(STEPS)
        assert {step for step, seconds in answered[0].seconds.items() if seconds} == {"generate"}

    def test_the_pool_of_the_run_is_another(self, trained, name):
        method = SharedLora(name, trained)
        method.answer(trained.knowledge.test[:1], Setting())
        assert method.lora.generator.base.model is not trained.base.model
        assert method.lora.generator.pool.config.rank == trained.config.experts.count * trained.config.experts.rank

    def test_identity_and_costs_are_those_of_its_store(self, trained, train_at_random, name):
        method, folder = SharedLora(name, trained), control_folder(trained.folder, name)
        store = open_store(folder / "store")
        assert method.identity == store.manifest.digest
        assert method.train_seconds == 12.5
        pool = (folder / "store" / "pool.safetensors").stat().st_size
        assert method.bytes_per_passage == pytest.approx(pool / len(trained.passages))
        train_at_random(control_config(trained.config, name), folder, seed=7)
        again = Workbench(trained.config, trained.knowledge, trained.folder)
        assert SharedLora(name, again).identity != method.identity

    def test_without_its_training_the_remedy_is_named(self, make_bench, name):
        bench = make_bench()
        remedy = rf"train it first: python train\.py controls run\.dir={bench.folder}, or leave it out of"
        with pytest.raises(ConfigError, match=rf"^{name}: no store in .*controls/{name}; {remedy}") as caught:
            SharedLora(name, bench).check(bench.knowledge.test)
        assert "\n" not in str(caught.value)

    def test_one_of_another_base_model_is_refused(self, trained, make_bench, other_model_folder, name):
        bench = make_bench("data.max_passages=4", f"base.model={other_model_folder}")
        with pytest.raises(StoreError, match="belongs to base model"):
            SharedLora(name, bench).check([UNHEARD_OF])

    @pytest.mark.parametrize("key", ["experts.rank=3", "experts.count=5", "training.epochs=7", "run.seed=4"])
    def test_one_of_an_earlier_pool_is_refused(self, trained, configure, name, key):
        again = configure("data.max_passages=4", "controls.passages=2", key)
        (trained.folder / "config.yaml").write_text(to_yaml(again))
        says = "experts.rank" if key.startswith("experts") else key.partition("=")[0]
        remedy = rf"python train\.py controls run\.dir={trained.folder} trains it anew$"
        with pytest.raises(ConfigError, match=rf"^{name}: .*{name} does .* with another {says}; {remedy}") as caught:
            SharedLora(name, trained).check([UNHEARD_OF])
        assert "\n" not in str(caught.value)

    def test_keys_on_which_it_does_not_depend_may_be_others(self, trained, make_bench, configure, name):
        idle = ("run.threads=1", "answering.batch_size=3", "training.accelerator=cpu", "router.steps=9", "data.limit=1")
        asked = make_bench("data.max_passages=4", "controls.passages=1", "training.epochs=7", *idle)
        SharedLora(name, asked).check([UNHEARD_OF])
        (trained.folder / "config.yaml").write_text(to_yaml(configure("data.max_passages=4", *idle)))
        SharedLora(name, asked).check([UNHEARD_OF])

    def test_one_of_another_corpus_is_refused(self, trained, name):
        learned = open_store(control_folder(trained.folder, name) / "store").passages
        first, *others = trained.passages
        of_global = name is MethodName.GLOBAL_LORA
        corpus = (dataclasses.replace(first, text="Other."), *others) if of_global else (*trained.passages, learned[0])
        changed = Workbench(trained.config, dataclasses.replace(trained.knowledge, passages=corpus), trained.folder)
        other, shared = "it was trained on other passages than the corpus", "1 of the passages .* are in the corpus"
        with pytest.raises(ConfigError, match=rf": {other if of_global else shared}; python train\.py controls"):
            SharedLora(name, changed).check([UNHEARD_OF])


def test_the_two_controls_differ(trained):
    methods = [SharedLora(name, trained) for name in CONTROLS]
    answers = [[one.generated for one in method.answer(trained.knowledge.test, Setting())] for method in methods]
    assert answers[0] != answers[1]
    assert methods[0].identity != methods[1].identity
