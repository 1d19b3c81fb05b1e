"""Tune PRAG's recipe: train the adapters of some passages, answer their validation questions by their own adapter.

Run as: python benchmarks/prag_recipe.py --config configs/world.yaml [key=value …]

Prints one line for each learning rate and batch size of the grid; everything else is the configuration's.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from polyprag.answering.generation import Generator
from polyprag.cli import guarded, parse_call
from polyprag.config import Config
from polyprag.config_loading import load_config
from polyprag.experts.base_model import load_base
from polyprag.knowledge.corpus import load_knowledge
from polyprag.knowledge.records import Knowledge
from polyprag.methods.adapters import AdapterEncoder
from polyprag.metrics import score

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
BATCH_SIZES = (2, 6)
PASSAGES = 4


def own_adapter_f1(config: Config, knowledge: Knowledge) -> tuple[float, int]:
    """F1 on the validation questions of the first passages, each answered by its own passage's adapter."""
    with TemporaryDirectory() as folder:
        encoder = AdapterEncoder(load_base(config.base), config, Path(folder), knowledge.augmentations)
        generator = Generator(encoder.base, config.answering.max_new_tokens)
        marks: list[float] = []
        for passage in knowledge.passages[:PASSAGES]:
            encoder.train(passage)
            for question in knowledge.validation:
                if question.passage_ids == (passage.id,):
                    (answer,) = generator.answer([encoder.writer.question(question.text)])
                    marks.append(score(answer.text, question.answers).f1)
    return sum(marks) / len(marks), len(marks)


def main(argv: Sequence[str]) -> None:
    """Try the grid and print a line for each recipe."""
    call = parse_call(argv, "prag_recipe.py", ("tune",), __doc__ or "")
    config = load_config(call.config_path, call.overrides)
    config.data.world.validation_questions = 10_000
    knowledge = load_knowledge(config.data)
    for rate, size in product(LEARNING_RATES, BATCH_SIZES):
        prag = dataclasses.replace(config.prag, learning_rate=rate, batch_size=size)
        started = time.perf_counter()
        f1, questions = own_adapter_f1(dataclasses.replace(config, prag=prag), knowledge)
        seconds = (time.perf_counter() - started) / PASSAGES
        recipe = f"learning_rate={rate:g} batch_size={size}"
        print(f"{recipe}: F1 {f1:.3f} on {questions} questions, {seconds:.0f} s a passage", flush=True)


if __name__ == "__main__":
    sys.exit(guarded(main))
