"""Compare PRAG's recipes: train the adapters of some passages, answer these passages' questions by them.

Run as: python benchmarks/prag_recipe.py [tune] --config configs/world.yaml [key=value …]
        python benchmarks/prag_recipe.py warm_up --config configs/world.yaml [key=value …]

`tune` prints a line for each learning rate and batch size of its grid, from validation questions. `warm_up` prints a
line for the official recipe and for the configuration's, each with and without the warm-up, from all questions about
one of the passages: answered by the adapter of that passage, by three adapters merged (that passage's and those of the
two most similar ones), and by the start alone, which knows none of the passages.

Everything else is the configuration's.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peft import set_peft_model_state_dict

from polyprag.answering.generation import Generator
from polyprag.cli import guarded, parse_call
from polyprag.config import Config, PragConfig
from polyprag.config.loading import load_config
from polyprag.errors import DataError
from polyprag.experts.base_model import load_base
from polyprag.knowledge.loading import load_knowledge
from polyprag.methods.adapters import AdapterEncoder
from polyprag.metrics import score
from polyprag.records import Knowledge, Passage, QAPair, Question
from polyprag.retrieval.bm25 import BM25Retriever, searched
from polyprag.training.warm_up import warm_up_data

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
BATCH_SIZES = (2, 6)
TUNED_PASSAGES, WARMED_PASSAGES = 4, 10
MERGED = 3


def mean_f1(
    encoder: AdapterEncoder, config: Config, questions: Sequence[Question], merged: Mapping[str, Sequence[Passage]]
) -> float:
    """F1 on questions about one passage, under the merged adapters that are named for it; the start where none is."""
    generator = Generator(encoder.base, config.answering.max_new_tokens)
    marks: list[float] = []
    for passage in dict.fromkeys(question.passage_ids[0] for question in questions):
        if passage in merged:
            encoder.load_and_merge(merged[passage])
        else:
            set_peft_model_state_dict(encoder.model, encoder.start)
        own = [question for question in questions if question.passage_ids[0] == passage]
        answers = generator.answer([encoder.writer.question(question.text) for question in own])
        encoder.unload()
        marks += [score(answer.text, question.answers).f1 for answer, question in zip(answers, own, strict=True)]
    return mean(marks)


def about_one(questions: Sequence[Question], passages: Sequence[Passage]) -> list[Question]:
    """The questions whose only gold passage is among these."""
    ids = {(passage.id,) for passage in passages}
    return [question for question in questions if question.passage_ids in ids]


def asked_about(questions: Sequence[Question], passages: Sequence[Passage], kind: str) -> list[Question]:
    """The questions whose only gold passage is among these, one at least.

    Args:
        questions: to choose from.
        passages: the first ones of the corpus.
        kind: what the questions are, for the error.

    Raises:
        DataError: there is none.
    """
    asked = about_one(questions, passages)
    if not asked:
        raise DataError(f"no {kind} is about one of the first {len(passages)} passages alone; give data that has some")
    return asked


def tune(config: Config) -> None:
    """A line for each point of the grid: F1 on validation questions by their own passage's adapter.

    Raises:
        DataError: no validation question is about one of the first passages alone.
    """
    knowledge = load_knowledge(config.data)
    passages = knowledge.passages[:TUNED_PASSAGES]
    own = {passage.id: [passage] for passage in passages}
    questions = asked_about(knowledge.validation, passages, "validation question")
    for rate, size in product(LEARNING_RATES, BATCH_SIZES):
        prag = dataclasses.replace(config.prag, learning_rate=rate, batch_size=size)
        with TemporaryDirectory() as folder:
            encoder = trained(dataclasses.replace(config, prag=prag), folder, knowledge, passages)
            seconds = encoder.costs(passages).seconds / len(passages)
            f1 = mean_f1(encoder, config, questions, own)
        recipe = f"learning_rate={rate:g} batch_size={size}"
        print(f"{recipe}: F1 {f1:.3f} on {len(questions)} questions, {seconds:.0f} s a passage", flush=True)


def compare_warm_up(config: Config) -> None:
    """A line for each recipe with and without warm-up.

    Raises:
        DataError: no question is about one of the first passages alone.
    """
    knowledge = load_knowledge(config.data)
    outside = warm_up_data(config, knowledge)
    passages = knowledge.passages[:WARMED_PASSAGES]
    questions = asked_about((*knowledge.validation, *knowledge.test), passages, "question")
    print(f"{len(passages)} passages, {len(questions)} questions; {outside}", flush=True)
    for name, prag in (("official", PragConfig()), ("configured", config.prag)):
        for pairs in ((), outside.pairs):
            with TemporaryDirectory() as folder:
                recipe = dataclasses.replace(config, prag=prag)
                encoder = trained(recipe, folder, knowledge, passages, pairs)
                started = time.perf_counter()
                marks = warm_up_marks(encoder, recipe, passages, questions)
                timing = (
                    f"{encoder.costs(passages).seconds:.0f} s of training, "
                    f"{time.perf_counter() - started:.0f} s of answering"
                )
            print(f"{name} recipe, {'with' if pairs else 'without'} warm-up: {marks}; {timing}", flush=True)


def warm_up_marks(
    encoder: AdapterEncoder, config: Config, passages: Sequence[Passage], questions: Sequence[Question]
) -> str:
    """F1 by the own adapter, by three merged, and by the start alone."""
    retriever = BM25Retriever.build(searched(passages, encoder.augmentations, False))
    found = retriever.search([passage.text for passage in passages], MERGED + 1)
    own = {passage.id: [passage] for passage in passages}
    alike = {
        passage.id: [passage, *(passages[hit.position] for hit in hits if passages[hit.position] != passage)][:MERGED]
        for passage, hits in zip(passages, found, strict=True)
    }
    f1 = {
        "own adapter": mean_f1(encoder, config, questions, own),
        "three merged": mean_f1(encoder, config, questions, alike),
        "start alone": mean_f1(encoder, config, questions, {}),
    }
    return ", ".join(f"{value:.3f} {name}" for name, value in f1.items())


def trained(
    config: Config, folder: str, knowledge: Knowledge, passages: Sequence[Passage], pairs: Sequence[QAPair] = ()
) -> AdapterEncoder:
    """The adapters of some passages, on a base model of their own."""
    encoder = AdapterEncoder(load_base(config.base), config, Path(folder), knowledge.augmentations, pairs)
    encoder.encode(passages)
    return encoder


def main(argv: Sequence[str]) -> None:
    """Do what the verb says."""
    call = parse_call(argv, "prag_recipe.py", ("tune", "warm_up"), __doc__ or "")
    config = load_config(call.config_path, call.overrides)
    config.data.world.validation_questions = 10_000
    {"tune": tune, "warm_up": compare_warm_up}[call.verb](config)


if __name__ == "__main__":
    sys.exit(guarded(main))
