import dataclasses
import io

import pytest
from rich.console import Console

from polyprag.config import MethodName
from polyprag.errors import ConfigError
from polyprag.evaluation.harness import Harness
from polyprag.knowledge.prompts import with_title
from polyprag.methods.da_rag import DaRag
from polyprag.methods.method import PASSAGE_CHOICES, SHOT_CHOICES, PromptMethod
from polyprag.methods.workbench import Setting, Workbench
from polyprag.records import Augmentation, Knowledge


@pytest.fixture
def bench(make_bench) -> Workbench:
    """The library, its third passage with two rewrites, its second without any augmentation."""
    bench: Workbench = make_bench(trained=False)
    bench.knowledge = rewritten(bench.knowledge)
    return bench


def rewritten(knowledge: Knowledge) -> Knowledge:
    third = dataclasses.replace(
        knowledge.augmentations["p2"], rewrites=("Corvo is where Ilse Quarn is from.", "So it is.")
    )
    others = {name: kept for name, kept in knowledge.augmentations.items() if name not in {"p2", "p1"}}
    return dataclasses.replace(knowledge, augmentations={"p2": third, **others})


def test_passages_carry_their_rewrites_and_pairs(bench, generations):
    (question,) = [question for question in bench.knowledge.test if question.passage_ids == ("p2",)]
    (answered,) = DaRag(MethodName.DA_RAG, bench).answer([question], Setting(passages=1))
    shown = [
        f"Passage 1: {with_title(bench.passages[2])}",
        "Corvo is where Ilse Quarn is from.",
        "So it is.",
        "Question: Where was Ilse Quarn born? Answer: Corvo",
        "Question: In which year was Ilse Quarn born? Answer: 1880",
        "Question: What did Ilse Quarn make? Answer: paper",
        f"Question: {question.text}",
    ]
    assert "\n".join(shown) in generations[0].prompts[0]
    assert (answered.retrieved, answered.retrievals) == (("p2",), 1)


def test_a_passage_without_augmentation_is_shown_as_standard_rag_shows_it(bench, generations):
    questions = [question for question in bench.knowledge.test if question.passage_ids == ("p1",)]
    DaRag(MethodName.DA_RAG, bench).answer(questions, Setting(passages=1, shots=2))
    PromptMethod(MethodName.STANDARD_RAG, bench).answer(questions, Setting(passages=1, shots=2))
    ours, standard = generations
    assert ours.prompts == standard.prompts


def test_it_retrieves_what_standard_rag_retrieves_and_chooses_among_the_same(bench):
    ours, standard = (kind(name, bench) for kind, name in ((DaRag, "da_rag"), (PromptMethod, "standard_rag")))
    found = [
        [one.retrieved for one in method.answer(bench.knowledge.test, Setting(passages=2))]
        for method in (ours, standard)
    ]
    assert found[0] == found[1]
    assert [(option.passages, option.shots) for option in ours.options()] == [
        (passages, shots) for passages in PASSAGE_CHOICES for shots in SHOT_CHOICES
    ]


def test_without_any_augmentation_it_is_refused_with_the_remedy(bench):
    DaRag(MethodName.DA_RAG, bench).check(())
    bare = {name: Augmentation(name) for name in bench.knowledge.augmentations}
    bench.knowledge = dataclasses.replace(bench.knowledge, augmentations=bare)
    with pytest.raises(
        ConfigError, match=r"da_rag: no passage has rewrites .* train\.py augment, or leave it out"
    ) as caught:
        DaRag(MethodName.DA_RAG, bench).check(())
    assert "\n" not in str(caught.value)


def test_its_answers_depend_on_the_augmentation_and_its_bytes_count_it(bench):
    ours, standard = DaRag(MethodName.DA_RAG, bench), PromptMethod(MethodName.STANDARD_RAG, bench)
    lines = [line for kept in bench.knowledge.augmentations.values() for line in kept.rewrites]
    pairs = [pair for kept in bench.knowledge.augmentations.values() for pair in kept.qa]
    lines += [f"Question: {pair.question} Answer: {pair.answer}" for pair in pairs]
    added = sum(len(line.encode()) for line in lines) / len(bench.passages)
    assert ours.bytes_per_passage == pytest.approx(standard.bytes_per_passage + added)
    before = ours.identity
    augmentations = {**bench.knowledge.augmentations, "p1": Augmentation("p1", ("New.",))}
    bench.knowledge = dataclasses.replace(bench.knowledge, augmentations=augmentations)
    assert ours.identity != before


def test_it_runs_through_the_harness(make_bench):
    bench = make_bench("answering.shots=0", "answering.passages=1", trained=False)
    results = Harness(bench, Console(file=io.StringIO())).run([MethodName.STANDARD_RAG, MethodName.DA_RAG])
    standard, ours = results["methods"]["standard_rag"], results["methods"]["da_rag"]
    assert ours["prompt_tokens"] > standard["prompt_tokens"]
    assert ours["retrievals"] == standard["retrievals"] == 1.0
