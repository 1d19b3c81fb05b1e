"""All methods of a run think aloud, or none: prompts, training and answers agree."""

import dataclasses
import hashlib
import io
import json

import pytest
from rich.console import Console

from polyprag.config import MethodName
from polyprag.config.keys import config_values
from polyprag.errors import ConfigError
from polyprag.evaluation.grounds import SHARED_KEYS, answers_key
from polyprag.evaluation.harness import Harness
from polyprag.experts.base_model import load_base
from polyprag.knowledge.prompts import CHAINS, PromptWriter
from polyprag.methods.adapter_files import digest
from polyprag.methods.catalogue import build_method
from polyprag.methods.workbench import Setting, Workbench
from polyprag.records import Augmentation, QAPair
from polyprag.runs import run_config
from polyprag.training.assembly import assemble

COT = ("answering.prompt=cot", "answering.max_new_tokens=64", "tasks.max_tokens=4096")
ASKED = (
    *(MethodName.VANILLA, MethodName.STANDARD_RAG, MethodName.DA_RAG, MethodName.FLARE, MethodName.DRAGIN),
    *(MethodName.PRAG, MethodName.PRAG_COMBINE, MethodName.POLY_PRAG, MethodName.POLY_PRAG_COMBINE),
)


def with_explanations(bench: Workbench) -> Workbench:
    """The pairs of the library, each explained."""
    explained = {
        name: Augmentation(
            name, own.rewrites, tuple(QAPair(p.question, p.answer, f"It says {p.answer}") for p in own.qa)
        )
        for name, own in bench.knowledge.augmentations.items()
    }
    bench.knowledge = dataclasses.replace(bench.knowledge, augmentations=explained)
    return bench


def harness(bench: Workbench) -> Harness:
    return Harness(bench, Console(file=io.StringIO()))


@pytest.mark.parametrize("name", ASKED)
def test_every_method_shows_the_same_worked_examples(make_bench, name, monkeypatch):
    bench = make_bench(*COT, trained=name.startswith("poly"))
    seen: list[list[int]] = []
    write = PromptWriter.question

    def recorded(self, *args, **more):
        seen.append(write(self, *args, **more))
        return seen[-1]

    monkeypatch.setattr(PromptWriter, "question", recorded)
    method, questions = build_method(name, bench), bench.knowledge.test[:1]
    setting = Setting(passages=1)
    method.prepare(questions, [setting])
    seen.clear()
    (answered,) = method.answer(questions, setting)
    assert seen
    for prompt in seen:
        text = bench.base.tokenizer.decode(prompt)
        assert all(f"Question: {pair.question}<" in text for pair in CHAINS)
        assert text.endswith("<|im_start|>assistant\nAnswer:")
    assert answered.generated.text == bench.writer.read(answered.generated.raw)


@pytest.mark.parametrize("name", ASKED)
def test_no_number_of_short_examples_is_chosen(make_bench, name):
    options = build_method(name, make_bench(*COT, trained=False)).options()
    assert {option.shots for option in options} == {0}


def test_a_chain_goes_on_behind_the_end_of_its_line_and_is_kept(make_bench, monkeypatch):
    bench = make_bench(*COT, trained=False)
    generator, tokenizer = bench.plain_generator, bench.base.tokenizer
    ids = tokenizer.encode(" He left.\nThe answer is Arlen.<|im_end|>", add_special_tokens=False)
    generated = generator.read(ids)
    assert (generated.text, generated.new_tokens) == ("Arlen", len(ids))
    assert generated.raw == " He left.\nThe answer is Arlen."


@pytest.mark.parametrize("recipe", ["prag", "default"])
def test_adapters_learn_explanation_and_answer(make_bench, recipe):
    bench = with_explanations(make_bench(*COT, f"prag.recipe={recipe}", "prag.loss=all_tokens", trained=False))
    encoder = bench.adapters
    steps = encoder.trainer.steps(encoder.subject(bench.passages[0]))
    texts = [bench.base.tokenizer.decode(pack.tokens) for packs in steps for pack in packs]
    ending = "" if recipe == "prag" else "<|im_end|>"
    for text, packs in zip(texts, steps, strict=True):
        (answer,) = {own.answer for own in bench.knowledge.augmentations["p0"].qa if text.count(own.answer) > 1} or {""}
        assert text.endswith(f"\nAnswer: It says {answer}. The answer is {answer}{ending}") or not answer
        assert all(f"Question: {pair.question}<" in text for pair in CHAINS)
        assert len(packs[0].targets) == len(packs[0].tokens) - 1


def test_the_warm_up_thinks_too_and_all_of_it_answers(make_bench, tmp_path):
    outside = {
        "title": "Gard",
        "text": "Gard lies by Holm.",
        "qas": [{"question": "What is Gard?", "answer": "a town"}],
    }
    path = tmp_path / "outside.jsonl"
    path.write_text(json.dumps(outside) + "\n", encoding="utf-8")
    keys = ("prag.recipe=prag", "prag.loss=all_tokens", "warm_up.prag=true", f"data.outside={path}")
    bench = make_bench(*COT, *keys, "prag.per=question_passage", "answering.combine_scale=0.5", trained=False)
    encoder = bench.adapters
    ((pack,),) = encoder.trainer.warm_up_steps(encoder.warm_up)
    assert bench.base.tokenizer.decode(pack.tokens).endswith("\nAnswer: The answer is a town<|im_end|>")
    method, questions = build_method(MethodName.PRAG_COMBINE, bench), bench.knowledge.test[:2]
    method.check(questions)
    method.prepare(questions, [Setting(passages=1)])
    assert len(method.answer(questions, Setting(passages=1))) == 2


def test_the_pool_learns_the_same_prompts(make_bench):
    bench = with_explanations(make_bench(*COT, trained=False))
    training = assemble(bench.config, bench.knowledge)
    texts = [bench.base.tokenizer.decode(pack.tokens) for pack in training.data.packs]
    assert all("Answer: It says" in text and "Question: Which novel" in text for text in texts)
    assert training.module.writer.style is training.module.generator.writer.style is bench.config.answering.prompt


def test_a_run_that_was_trained_for_one_style_is_not_asked_in_the_other(make_bench):
    bench = make_bench()
    with pytest.raises(ConfigError, match=r"^answering\.prompt: fixed by the training in"):
        run_config(None, [f"run.dir={bench.folder}", *COT[:2]])


class TestEarlierRuns:
    """What was trained and answered before there was a choice is still recognised."""

    def test_adapters(self, make_bench):
        encoder = make_bench(trained=False).adapters
        config, base = encoder.config, load_base(encoder.config.base)
        recipe = digest(config.prag, encoder.tasks, config.run.seed, base.fingerprint, "none")
        assert "per=" not in repr(config.prag)
        assert encoder.folder.name == recipe[:12]
        assert encoder.identity == digest(recipe, sorted(encoder.augmentations.items()))

    def test_answers(self, make_bench):
        bench = make_bench(trained=False)
        own, method = harness(bench), build_method(MethodName.STANDARD_RAG, bench)
        shared = {key: str(value) for key, value in config_values(bench.config).items() if key.startswith(SHARED_KEYS)}
        parts = ["standard_rag", "x", "", own.data_sha, bench.config.evaluation.seed, shared]
        assert (
            answers_key(bench.config, method, own.data_sha, "x")
            == hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        )
        thinking = make_bench(*COT[:1], "answering.max_new_tokens=64", trained=False)
        direct = make_bench("answering.max_new_tokens=64", trained=False)
        keys = {
            answers_key(b.config, build_method(MethodName.STANDARD_RAG, b), own.data_sha, "x")
            for b in (thinking, direct)
        }
        assert len(keys) == 2
