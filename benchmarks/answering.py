"""Speed of answering, as ratios within one run: Poly-PRAG against the bare base, standard RAG and PRAG.

Run as: python benchmarks/answering.py [--config FILE] [key=value …]

Takes the run folder of a trained configuration (configs/demo.yaml by default; `make demo` trains it). All methods
answer the same questions in alternating rounds; medians over the rounds are compared. Answers end where the model ends
them (trained methods stop early, the bare base model often runs to `answering.max_new_tokens`), so the ratios are those
of use, not of equal output length.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from polyprag.cli import guarded, parse_call
from polyprag.config import MethodName
from polyprag.evaluation.inputs import evaluation_config, evaluation_knowledge
from polyprag.knowledge.records import Question
from polyprag.methods.catalogue import build_method
from polyprag.methods.method import Method
from polyprag.methods.workbench import Setting, Workbench
from polyprag.training.trainer import prepare_process

ROUNDS = 5
BATCH = 16
SETTING = Setting(passages=3)


def main(argv: Sequence[str]) -> None:
    """Answer in alternating rounds and print medians and ratios."""
    call = parse_call(argv or ["--config", "configs/demo.yaml"], "answering.py", ("bench",), __doc__ or "")
    config, folder = evaluation_config(call.config_path, call.overrides)
    prepare_process(config.run)
    bench = Workbench(config, evaluation_knowledge(config, folder), folder)
    questions = bench.knowledge.test[:BATCH]
    names = (MethodName.VANILLA, MethodName.STANDARD_RAG, MethodName.POLY_PRAG, MethodName.PRAG)
    methods = [build_method(name, bench) for name in names]
    seconds: dict[tuple[MethodName, int], list[float]] = {}
    for method in methods:
        method.prepare(questions, [SETTING])
    for _ in range(ROUNDS + 1):
        for method in methods:
            for size in (1, BATCH) if method.name is not MethodName.PRAG else (1,):
                seconds.setdefault((method.name, size), []).append(timed(method, questions[:size]) / size)
    median = {case: statistics.median(times[1:]) for case, times in seconds.items()}
    for (name, size), value in median.items():
        print(f"{name.value:13} batch {size:2}: {value:.3f} s per question")
    poly = MethodName.POLY_PRAG
    for other, size in ((MethodName.VANILLA, BATCH), (MethodName.STANDARD_RAG, BATCH), (MethodName.PRAG, 1)):
        print(f"poly_prag / {other.value}, batch {size}: {median[poly, size] / median[other, size]:.2f}")
    print(
        f"poly_prag per question in a batch of {BATCH} / prag: {median[poly, BATCH] / median[MethodName.PRAG, 1]:.3f}"
    )


def timed(method: Method, questions: Sequence[Question]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    method.answer(questions, SETTING)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(guarded(main))
