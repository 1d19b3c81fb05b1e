"""Speed of routing and answering, as ratios within one run: Poly-PRAG against the bare base, standard RAG and PRAG.

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

import torch

from polyprag.answering.question_encoder import BaseEncoder
from polyprag.answering.question_routing import QueryRouting
from polyprag.cli import guarded, parse_call
from polyprag.config import Combine, MethodName
from polyprag.methods.catalogue import build_method
from polyprag.methods.method import Method
from polyprag.methods.workbench import Setting, Workbench
from polyprag.records import Question
from polyprag.runs import run_config, run_knowledge
from polyprag.training.trainer import prepare_process

ROUNDS = 5
ROUTING_ROUNDS = 50
LAYERS = (0, 2, 4)
BATCH = 16
SETTING = Setting(passages=3)


def main(argv: Sequence[str]) -> None:
    """Answer in alternating rounds and print medians and ratios."""
    call = parse_call(argv or ["--config", "configs/demo.yaml"], "answering.py", ("bench",), __doc__ or "")
    config, folder = run_config(call.config_path, call.overrides)
    prepare_process(config.run)
    bench = Workbench(config, run_knowledge(config, folder), folder)
    questions = bench.knowledge.test[:BATCH]
    for line in routing_against_prefill(bench, questions):
        print(line)
    names = (MethodName.VANILLA, MethodName.STANDARD_RAG, MethodName.POLY_PRAG_QUERY, MethodName.PRAG)
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
    poly = MethodName.POLY_PRAG_QUERY
    for other, size in ((MethodName.VANILLA, BATCH), (MethodName.STANDARD_RAG, BATCH), (MethodName.PRAG, 1)):
        print(f"poly_prag_query / {other.value}, batch {size}: {median[poly, size] / median[other, size]:.2f}")
    ratio = median[poly, BATCH] / median[MethodName.PRAG, 1]
    print(f"poly_prag_query per question in a batch of {BATCH} / prag: {ratio:.3f}")


@torch.no_grad()
def routing_against_prefill(bench: Workbench, questions: Sequence[Question]) -> list[str]:
    """What routing one question costs by the query router, over the bare prefill of its prompt, in alternating rounds.

    The router of the run is timed as it is; with more blocks its representation has another meaning but the same cost.
    """
    stored, seconds = bench.stored_router.router, {}
    routings = {layers: QueryRouting(BaseEncoder(bench.base, layers), stored, bench.gates_NGK) for layers in LAYERS}
    prompts = {q.id: torch.tensor([bench.writer.question(q.text)], device=bench.base.device) for q in questions}
    for number in range(ROUTING_ROUNDS):
        question = questions[number % len(questions)]
        started = time.perf_counter()
        bench.base.model(prompts[question.id], logits_to_keep=1)
        seconds.setdefault(-1, []).append(time.perf_counter() - started)
        for layers, routing in routings.items():
            started = time.perf_counter()
            routing.route([question], 1, Combine.SUM)
            seconds.setdefault(layers, []).append(time.perf_counter() - started)
    median = {case: statistics.median(times[5:]) for case, times in seconds.items()}
    return [f"route, {layers} blocks / bare prefill: {median[layers] / median[-1]:.3f}" for layers in LAYERS]


def timed(method: Method, questions: Sequence[Question]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    method.answer(questions, SETTING)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(guarded(main))
