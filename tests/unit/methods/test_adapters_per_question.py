"""One-to-one adapters for each question and passage, as in the official code."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polyprag.config import AdapterPer, MethodName, PragConfig
from polyprag.methods.adapters import FACTS, WARM_UP, WEIGHTS, AdapterEncoder
from polyprag.methods.prag import Prag
from polyprag.methods.workbench import Setting, Workbench
from polyprag.records import Question

PER = ("prag.per=question_passage",)
OUTSIDE = {"title": "Gard", "text": "Gard is a town.", "qas": [{"question": "What is Gard?", "answer": "a town"}]}
OFFICIAL = ("prag.recipe=prag", "prag.loss=all_tokens", "prag.epochs=2")


def prag(bench: Workbench, name: MethodName = MethodName.PRAG) -> Prag:
    return Prag(name, bench)


def prepared(bench: Workbench, questions: list[Question], passages: int = 2) -> Prag:
    method = prag(bench)
    method.check(questions)
    method.prepare(questions, [Setting(passages=passages)])
    return method


def trained(encoder: AdapterEncoder) -> set[Path]:
    return {facts.parent for facts in encoder.folder.rglob(FACTS) if facts.parent.name != WARM_UP}


def same(one: Path, other: Path) -> bool:
    first, second = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def released(tmp_path, make_bench) -> Path:
    """PRAG's files: what was written of the first passage for two questions, which differ in their pairs."""
    bench = make_bench(trained=False)

    def entry(number: int, answer: str) -> dict[str, object]:
        question, passage = bench.knowledge.test[number], bench.passages[0]
        qas = [{"question": "Where was Mira Tolk born?", "answer": answer, "full_answer": f"She was born in {answer}."}]
        own = {"pid": 0, "passage": passage.text, "m_rewrite": f"{answer} is her town.", "m_qa": qas}
        return {"test_id": number, "question": question.text, "answer": "x", "passages": [], "augment": [own]}

    path = tmp_path / "total.json"
    path.write_text(json.dumps([entry(0, "Brask"), entry(1, "Corvo")]), encoding="utf-8")
    return path


def test_every_question_trains_its_passages_anew(make_bench):
    bench, shared = make_bench(*PER, trained=False), make_bench(trained=False)
    questions = list(bench.knowledge.test)
    method, plain = prepared(bench, questions), prepared(shared, questions)
    pairs = {
        (bench.passages[hit.position].id, question.text)
        for question, hits in zip(questions, bench.retrieve(questions, 2), strict=True)
        for hit in hits
    }
    passages = {passage for passage, _ in pairs}
    assert len(trained(method.encoder)) == len(pairs) > len(passages) == len(trained(plain.encoder))
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in trained(method.encoder)]
    assert method.costs.bytes == sum(sizes) / len(passages)
    seconds = [json.loads((path / FACTS).read_text())["seconds"] for path in trained(method.encoder)]
    assert method.train_seconds == pytest.approx(sum(seconds))
    changed = {id_: dataclasses.replace(own, qa=own.qa[:1]) for id_, own in bench.knowledge.augmentations.items()}
    again = prag(Workbench(bench.config, dataclasses.replace(bench.knowledge, augmentations=changed), bench.folder))
    assert again.encoder.folder == method.encoder.folder
    assert (again.costs.passages, again.train_seconds) == (0, 0.0)


@pytest.mark.parametrize("recipe", [OFFICIAL, ("prag.recipe=default", "prag.batch_size=2")], ids=["official", "tuned"])
def test_without_words_of_its_own_a_question_gets_the_passages_adapter(make_bench, tmp_path, recipe):
    (tmp_path / "outside.jsonl").write_text(json.dumps(OUTSIDE) + "\n", encoding="utf-8")
    keys = (*recipe, "warm_up.prag=true", f"data.outside={tmp_path / 'outside.jsonl'}", "prag.parallel=1")
    bench, shared = make_bench(*PER, *keys, trained=False), make_bench(*keys, trained=False)
    questions, setting = list(bench.knowledge.test[:3]), Setting(passages=2)
    method, plain = prepared(bench, questions), prepared(shared, questions)
    for question, hits in zip(questions, bench.retrieve(questions, 2), strict=True):
        for hit in hits:
            passage = bench.passages[hit.position]
            own = method.encoder.path(passage, question)
            assert same(own, plain.encoder.path(passage, question))
            assert own != plain.encoder.path(passage)
    found = [one.generated for one in method.answer(questions, setting)]
    assert found == [one.generated for one in plain.answer(questions, setting)]


def test_what_was_written_for_a_question_trains_its_adapter_alone(make_bench, released):
    keys = (f"data.augmentation={released}", "prag.parallel=1")
    bench = make_bench(*PER, *keys, trained=False)
    first, second, third = bench.knowledge.test[:3]
    passage, encoder = bench.passages[0], bench.adapters
    answers = [encoder.subject(passage, question).augmentation.qa[-1].answer for question in (first, second)]
    assert answers == ["Brask", "Corvo"]
    assert encoder.subject(passage, third).augmentation == bench.knowledge.augmentations["p0"]
    assert len({encoder.path(passage, question) for question in (first, second, third)}) == 3
    encoder.encode([passage] * 3, [first, second, third])
    paths = [encoder.path(passage, question) for question in (first, second, third)]
    assert not same(paths[0], paths[1])
    assert not same(paths[0], paths[2])
    shared = make_bench(*keys, trained=False).adapters
    shared.encode([passage], [first])
    assert same(paths[2], shared.path(passage))


def test_the_question_itself_is_no_part_of_the_training(make_bench):
    bench = make_bench(*PER, "prag.parallel=1", trained=False)
    asked = bench.knowledge.test[0]
    reworded = dataclasses.replace(asked, text="Something else entirely?")
    passage, encoder = bench.passages[0], bench.adapters
    encoder.encode([passage] * 2, [asked, reworded])
    assert encoder.path(passage, asked) != encoder.path(passage, reworded)
    assert same(encoder.path(passage, asked), encoder.path(passage, reworded))


def test_the_same_question_is_trained_for_once(make_bench):
    bench = make_bench(*PER, trained=False)
    asked = bench.knowledge.test[0]
    again = dataclasses.replace(asked, id="again")
    bench.adapters.encode([bench.passages[0]] * 2, [asked, again])
    assert len(trained(bench.adapters)) == 1


def test_several_questions_train_together(make_bench):
    alone = make_bench(*PER, "prag.parallel=1", trained=False)
    together = make_bench(*PER, "prag.parallel=3", trained=False)
    questions, passage = list(alone.knowledge.test[:3]), alone.passages[0]
    alone.adapters.encode([passage] * 3, questions)
    weights = together.adapters.train_together([together.adapters.subject(passage, one) for one in questions])
    assert len(weights) == 3
    for question in questions:
        stored = load_file(alone.adapters.path(passage, question) / WEIGHTS)
        found = weights[together.adapters.subject(passage, question).name]
        for name, weight in stored.items():
            torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)


def test_adapters_of_passages_are_recognised_as_before(make_bench):
    usual = make_bench(trained=False).adapters
    said = make_bench("prag.per=passage", "answering.prompt=direct", trained=False).adapters
    assert (usual.folder, usual.identity) == (said.folder, said.identity)
    assert make_bench(*PER, trained=False).adapters.folder != usual.folder
    thinking = make_bench("answering.prompt=cot", "answering.max_new_tokens=64", trained=False).adapters
    assert len({thinking.folder, usual.folder}) == 2
    assert repr(PragConfig(per=AdapterPer.QUESTION_PASSAGE)) == repr(PragConfig())
