"""Speed of answering: routing and generating by the query router, against the bare base, standard RAG and PRAG.

The suite's pool stands on random experts with dense gates. Each round answers the same 16 questions of the demo world,
prompts of about 54 tokens without examples, with 16 new tokens for each whatever they are, by one decoder for all.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import Bar, Case, Measured, alternate, ratio

if TYPE_CHECKING:
    from polyprag.methods.workbench import Workbench

ROUNDS, ROUTING_ROUNDS = 15, 40
MERGED = 3
"""Passages of a question: adapters that PRAG merges, texts that RAG shows, rows that the router combines."""


class Watch:
    """A clock in seconds that can stand still."""

    def __init__(self) -> None:
        self.left_out = 0.0

    def now(self) -> float:
        """Seconds passed."""
        return time.perf_counter() - self.left_out

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Leave the block out."""
        began = time.perf_counter()
        yield
        self.left_out += time.perf_counter() - began


def against_vanilla() -> Measured:
    """16 questions, routed and answered, against the base model alone."""
    with _bench() as bench:
        facts = {"top_k": "all experts", "prompt_tokens": _mean_prompt(bench)}
        forms = {"poly": _routed(bench), "quarter": _routed(bench, top_k=4), "vanilla": _prompted(bench, "vanilla")}
        seconds = alternate(forms, ROUNDS)
    sparse = ratio(seconds["quarter"], seconds["vanilla"])
    return _measured(seconds, "poly", "vanilla", **facts, with_a_quarter_of_the_experts=sparse.value)


def against_rag() -> Measured:
    """The same against passages in the prompt."""
    with _bench() as bench:
        forms = {"poly": _routed(bench), "rag": _prompted(bench, "standard_rag")}
        seconds = alternate(forms, ROUNDS // 3)
    return _measured(seconds, "poly", "rag")


def against_prag() -> Measured:
    """One question against its adapters, loaded and merged."""
    with _bench() as bench, _prag(bench) as (answer, _, watch):
        seconds = alternate({"poly": _routed(bench, 1), "prag": answer}, 2 * ROUNDS, clock=watch.now)
    return _measured(seconds, "poly", "prag")


def batch_against_prag() -> Measured:
    """A question's share in a batch against one question with adapters."""
    with _bench() as bench, _prag(bench) as (answer, _, watch):
        seconds = alternate({"poly": _routed(bench), "prag": answer}, ROUNDS, clock=watch.now)
    size = len(bench.knowledge.test)
    return _measured({**seconds, "poly": [taken / size for taken in seconds["poly"]]}, "poly", "prag")


def route_against_prefill() -> Measured:
    """Routing of one question against reading its prompt with the base model alone."""
    import torch
    from transformers import DynamicCache

    with _bench() as bench:
        prompt_1T = torch.tensor([bench.writer.question(bench.knowledge.test[0].text)], device=bench.base.device)
        decoder = bench.plain_generator.decoder

        def read() -> None:
            with torch.no_grad():
                decoder.read(prompt_1T, torch.ones_like(prompt_1T), DynamicCache())

        seconds = alternate({"route": _routing(bench, 1), "prefill": read}, ROUTING_ROUNDS, warm_ups=5)
    return _measured(seconds, "route", "prefill")


def route_against_merging() -> Measured:
    """A question's share of routing a batch against loading and merging its adapters."""
    with _bench() as bench, _prag(bench) as (_, merge, watch):
        forms = {"route": _routing(bench), "merge": merge}
        seconds = alternate(forms, ROUTING_ROUNDS // 2, warm_ups=2, clock=watch.now)
    size = len(bench.knowledge.test)
    return _measured({**seconds, "route": [taken / size for taken in seconds["route"]]}, "route", "merge")


@contextmanager
def _bench() -> Iterator[Workbench]:
    """A workbench on an untrained run whose generators stop for no token."""
    from benchmarks.untrained import untrained_bench

    with tempfile.TemporaryDirectory() as folder:
        bench = untrained_bench(Path(folder))
        for generator in (bench.generator, bench.plain_generator):
            generator.stops = []
        yield bench


def _routed(bench: Workbench, count: int = 0, top_k: int = 0) -> Callable[[], object]:
    """Answers to the first questions, or to all, by the query router.

    Args:
        bench: the run.
        count: questions; 0 for all.
        top_k: experts that have a gate, of a single passage, since those of several add up to more; 0 for all experts.
    """
    import dataclasses

    from polyprag.answering.question_routing import QueryRouting
    from polyprag.config import Combine, MethodName
    from polyprag.experts.routing import RowGates
    from polyprag.methods.poly_prag import PolyPrag
    from polyprag.methods.workbench import Setting

    method, questions = PolyPrag(MethodName.POLY_PRAG_QUERY, bench), bench.knowledge.test
    method.prepare(questions, [])
    routing = dataclasses.replace(bench.config.routing, top_k=top_k)
    rows = RowGates(bench.store.rows_NGK, routing, bench.base.device)
    method.routing = QueryRouting(bench.question_encoder, bench.stored_router.router, rows)
    setting = Setting(passages=MERGED if not top_k else 1, combine=Combine.SUM)
    return lambda: method.answer(questions[: count or None], setting)


def _prompted(bench: Workbench, name: str) -> Callable[[], object]:
    """Answers to all questions by the base model alone, with passages in the prompt if the method shows them."""
    from polyprag.config import MethodName
    from polyprag.methods.catalogue import build_method
    from polyprag.methods.workbench import Setting

    method, questions = build_method(MethodName(name), bench), bench.knowledge.test
    setting = Setting(passages=MERGED if name != "vanilla" else 0)
    method.prepare(questions, [setting])
    return lambda: method.answer(questions, setting)


def _routing(bench: Workbench, count: int = 0) -> Callable[[], object]:
    """The gates of the first questions, or of all, by the query router."""
    from polyprag.answering.question_routing import QueryRouting
    from polyprag.config import Combine

    questions = bench.knowledge.test[: count or None]
    routing = QueryRouting(bench.question_encoder, bench.stored_router.router, bench.gates_NGK)
    return lambda: routing.route(questions, MERGED, Combine.SUM)


@contextmanager
def _prag(bench: Workbench) -> Iterator[tuple[Callable[[], object], Callable[[], object], Watch]]:
    """PRAG's answer to the first question, its loading and merging alone, and a clock that leaves unloading out."""
    from polyprag.config import MethodName
    from polyprag.methods.prag import Prag
    from polyprag.methods.workbench import Setting

    method, question, watch = Prag(MethodName.PRAG, bench), bench.knowledge.test[0], Watch()
    method.prepare([question], [Setting(passages=MERGED)])
    method.generator.stops = []
    (hits,) = bench.retrieve([question], MERGED)
    passages = [bench.passages[hit.position] for hit in hits]
    prompt = method.encoder.writer.question(question.text)

    def merge(then: Callable[[], object] = lambda: None) -> None:
        """Load and merge, do what is to be done then, and unload while the clock stands."""
        method.encoder.load_and_merge(passages, question)
        then()
        with watch.standing():
            method.encoder.unload()

    yield lambda: merge(lambda: method.generator.answer([prompt])), merge, watch


def _mean_prompt(bench: Workbench) -> float:
    prompts = [bench.writer.question(question.text) for question in bench.knowledge.test]
    return sum(map(len, prompts)) / len(prompts)


def _measured(seconds: Mapping[str, list[float]], ours: str, theirs: str, **facts: Any) -> Measured:
    """One form over another, with the median seconds of all."""
    import statistics

    medians = {f"seconds_{name}": statistics.median(taken) for name, taken in seconds.items()}
    return ratio(seconds[ours], seconds[theirs], **facts, **medians)


BATCH = "16 questions of about 54 tokens, 16 new tokens, route + generate"
ONE_PRAG = f"PRAG, one question: load, merge {MERGED} adapters, generate"

CASES = (
    Case("answer_vanilla", BATCH, "vanilla on the same batch", Bar.at_most(1.08), against_vanilla),
    Case("answer_rag", BATCH, f"standard RAG with {MERGED} passages of 100 words", Bar.at_most(0.3), against_rag),
    Case("answer_prag", "one question, route + generate", ONE_PRAG, Bar.at_most(0.7), against_prag),
    Case(
        "answer_prag_batch", "the same, per question in the batch of 16", ONE_PRAG, Bar.at_most(0.1), batch_against_prag
    ),
    Case(
        "route_prefill",
        "route alone, one question",
        "vanilla's prefill of it",
        Bar.at_most(0.35),
        route_against_prefill,
    ),
    Case(
        "route_merge",
        "route alone, per question in a batch of 16",
        "PRAG's load and merge",
        Bar.at_most(1 / 50),
        route_against_merging,
    ),
)
