"""Cost over the number of passages: bytes, a training step, opening, memory, and finding the passages of a question."""

from __future__ import annotations

import statistics
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import Bar, Case, Measured, alternate, ratio

if TYPE_CHECKING:
    from polyprag.answering.question_routing import QuestionRouting
    from polyprag.methods.workbench import Workbench

FEW, MANY = 1_000, 1_000_000
STEP_ROUNDS, OPEN_ROUNDS, ROUTE_ROUNDS = 15, 15, 25
STEP_BATCHES = 2
CHOSEN, NEW_TOKENS = 3, 16
RECALL_AT, LEAST_RECALL, RECALLED = 10, 0.95, 60
GB = 1e9


def bytes_of_thousand() -> Measured:
    """All that answering needs for 1,000 passages by the routing that needs most, over as many adapters."""
    from polyprag.config import MethodName
    from polyprag.methods.poly_prag import PolyPrag

    bench = _bench(FEW)
    names = [MethodName.POLY_PRAG, MethodName.POLY_PRAG_QUERY, MethodName.POLY_PRAG_HYBRID]
    ours = {name.value: PolyPrag(name, bench).bytes_per_passage for name in names}
    adapter = _adapter_bytes(bench)
    value = max(ours.values()) / adapter
    return Measured(value, (value, value), {"bytes_per_passage": ours, "adapter_bytes": adapter})


def bytes_of_another() -> Measured:
    """What a further passage adds to rows and query router, sign codes included, over an adapter."""
    import tempfile

    from benchmarks.scaled import add_router

    sizes = {}
    for passages in (FEW, 2 * FEW):
        bench = _bench(passages)
        with tempfile.TemporaryDirectory() as folder:
            add_router(bench.config, bench.base, bench.store, Path(folder), coded=True)
            router = sum(path.stat().st_size for path in Path(folder).iterdir())
        sizes[passages] = {**bench.store.bytes_on_disk, "router": router}
    parts = {name: (sizes[2 * FEW][name] - sizes[FEW][name]) / FEW for name in sizes[FEW]}
    adapter = _adapter_bytes(bench)
    value = (parts["rows"] + parts["router"]) / adapter
    return Measured(value, (value, value), {"bytes_of_a_further_passage": parts, "adapter_bytes": adapter})


def step() -> Measured:
    """A training step with a million task rows that all layers share against one with a thousand."""
    from benchmarks.loops import PoolLoop, pool_config
    from polyprag.experts.routing import TaskRouter
    from polyprag.knowledge.loading import load_knowledge
    from polyprag.training.optimisation import PoolOptimizer

    config = pool_config("routing.granularity=shared")
    knowledge = load_knowledge(config.data)
    loop, passages = PoolLoop(config, knowledge), len(knowledge.passages)
    batches = loop.batches(STEP_BATCHES)
    optimizers = {}
    for rows in (FEW, MANY):
        router = TaskRouter(rows, loop.router.groups, loop.router.experts, config.routing)
        optimizers[rows] = router, PoolOptimizer(loop.module.experts, router.parameters(), config.training)

    def steps(rows: int) -> None:
        """Take the timed steps with so many rows."""
        loop.module.router, loop.optimizer = optimizers[rows]
        for batch in batches:
            batch.tasks_B.mul_(rows // passages)  # rows all over the table
            loop.step(batch)
            batch.tasks_B.div_(rows // passages, rounding_mode="floor")

    seconds = alternate({"many": lambda: steps(MANY), "few": lambda: steps(FEW)}, STEP_ROUNDS)
    return ratio(seconds["many"], seconds["few"], seconds_of_a_step=_medians(seconds, STEP_BATCHES))


def opening() -> Measured:
    """Opening store, index and query router of a million passages against those of a thousand."""
    from benchmarks.scaled import scaled_run

    folders = {name: scaled_run(passages) for name, passages in (("many", MANY), ("few", FEW))}
    seconds = alternate({name: lambda at=folder: _opened(at) for name, folder in folders.items()}, OPEN_ROUNDS)
    return ratio(seconds["many"], seconds["few"], seconds=_medians(seconds))


def memory() -> Measured:
    """Memory of this process alone, libraries included, with a million passages open and asked about.

    Only the base model's weights are taken off, not what loading it leaves behind.
    """
    from itertools import chain

    from polyprag.config import Combine

    bench = _bench(MANY)
    before = _private_bytes()
    model = bench.base.model
    base = sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
    for routing in _routings(bench).values():
        routing.route(bench.knowledge.test[:RECALLED], CHOSEN, Combine.SUM)
    whole = (_private_bytes() - base) / GB
    return Measured(whole, (whole, whole), {"base_weights_gb": base / GB, "before_the_base_gb": before / GB})


def route_by_passage() -> Measured:
    """Retrieval, and the rows of what it finds."""
    return _route("passage")


def route_by_query() -> Measured:
    """The query router's search among a million keys, and the rows of what it finds."""
    return _route("query")


def route_by_both() -> Measured:
    """Both, weighed."""
    return _route("hybrid")


def _route(mode: str) -> Measured:
    """Gates of one question over a million passages against its answer by the base model alone."""
    from polyprag.config import Combine

    bench = _bench(MANY)
    bench.plain_generator.stops = []  # so that every answer has the same length
    routing, asked, told = _routings(bench)[mode], cycle(bench.knowledge.test), cycle(bench.knowledge.test)
    seconds = alternate(
        {
            "route": lambda: routing.route([next(asked)], CHOSEN, Combine.SUM),
            "vanilla": lambda: bench.plain_generator.answer([bench.writer.question(next(told).text)]),
        },
        ROUTE_ROUNDS,
        warm_ups=3,
    )
    facts = {} if mode == "passage" else {"recall": _recall(bench)}
    return ratio(seconds["route"], seconds["vanilla"], seconds=_medians(seconds), new_tokens=NEW_TOKENS, **facts)


def _recall(bench: Workbench) -> dict[str, float]:
    """The share of the passages that every key put first which the search found, for questions of the world.

    Raises:
        ValueError: it is too small for the time to mean anything.
    """
    import torch

    router, questions = bench.stored_router.router, bench.knowledge.test[:RECALLED]
    found: dict[int, list[float]] = {CHOSEN: [], RECALL_AT: []}
    with torch.no_grad():
        vectors_BD = router.represent(bench.question_encoder.encode([question.text for question in questions]))
        logits_BN = router.logits(vectors_BD, bench.gates_NGK)
        for met, logits_N in zip(router.meet(vectors_BD, bench.gates_NGK), logits_BN, strict=True):
            ours = met.positions_M[met.logits_M.topk(RECALL_AT).indices].tolist()
            first = logits_N.topk(RECALL_AT).indices.tolist()
            for count, shares in found.items():
                shares.append(len({*ours[:count]} & {*first[:count]}) / count)
    recall = {f"at_{count}": statistics.mean(shares) for count, shares in found.items()}
    if min(recall.values()) < LEAST_RECALL:
        raise ValueError(f"the search finds {recall} of what all keys find, less than {LEAST_RECALL}")
    return recall


def _bench(passages: int) -> Workbench:
    """A workbench on an untrained run over that many passages."""
    import json

    from benchmarks.scaled import QUESTIONS, scaled_config, scaled_run
    from polyprag.methods.workbench import Workbench
    from polyprag.records import Knowledge, Question
    from polyprag.store import open_store

    folder, config = scaled_run(passages), scaled_config(passages)
    config.answering.max_new_tokens = NEW_TOKENS
    rows = json.loads((folder / QUESTIONS).read_text(encoding="utf-8"))
    questions = tuple(Question(**{**row, "answers": tuple(row["answers"])}) for row in rows)
    return Workbench(config, Knowledge(open_store(folder / "store").passages, test=questions), folder)


def _routings(bench: Workbench) -> dict[str, QuestionRouting]:
    """The routings that choose passages by themselves."""
    from polyprag.answering.question_routing import HybridRouting, PassageRouting, QueryRouting

    query = QueryRouting(bench.question_encoder, bench.stored_router.router, bench.gates_NGK)
    return {
        "passage": PassageRouting(bench.retriever, bench.gates_NGK),
        "query": query,
        "hybrid": HybridRouting(query, bench.retriever),
    }


def _opened(folder: Path) -> Any:
    """All that answering opens."""
    from polyprag.config import RetrievalConfig
    from polyprag.retrieval.backends import open_retriever
    from polyprag.router_store import open_router
    from polyprag.store import open_store

    store = open_store(folder / "store")
    return (
        store,
        open_retriever(RetrievalConfig(), store.index_folder),
        open_router(folder / "router", store.manifest.digest),
    )


def _adapter_bytes(bench: Workbench) -> int:
    """Bytes of the weights of PRAG's adapter of rank 2, in the number type of pool, rows and keys."""
    import tempfile

    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    from polyprag.experts.base_model import load_base
    from polyprag.files import write_tensors

    config = bench.config
    lora = LoraConfig(task_type="CAUSAL_LM", r=config.prag.rank, target_modules=list(config.prag.targets))
    model: Any = get_peft_model(load_base(config.base).model, lora)
    state = get_peft_model_state_dict(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter_model.safetensors"
        write_tensors(path, {name: tensor.to(bench.base.model.dtype) for name, tensor in state.items()}, {})
        return path.stat().st_size


def _private_bytes() -> int:
    """Memory of this process that no file stands behind; what is mapped from files can go whenever others need it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return 1024 * int(kilobytes)


def _medians(seconds: dict[str, list[float]], shared_by: int = 1) -> dict[str, float]:
    return {name: statistics.median(taken) / shared_by for name, taken in seconds.items()}


ADAPTERS = "a PRAG adapter of r=2, the same number type"
VANILLA = f"vanilla on the question, {NEW_TOKENS} new tokens"
CASES = (
    Case(
        "bytes_1000",
        "bytes per passage for 1,000, all that answering needs",
        ADAPTERS,
        Bar.at_most(1 / 25),
        bytes_of_thousand,
    ),
    Case("bytes_more", "bytes of a further passage, row and key", ADAPTERS, Bar.at_most(1 / 150), bytes_of_another),
    Case("step_million", "step with 1,000,000 task rows, shared", "with 1,000", Bar.at_most(1.1), step),
    Case("open_million", "opening 1,000,000 passages, base aside", "1,000", Bar.at_most(2), opening, slow=True),
    Case(
        "memory_million", "private GB with 1,000,000 passages open", "base aside", Bar.at_most(1.5), memory, slow=True
    ),
    Case("passage_million", "retrieve + rows over 1,000,000", VANILLA, Bar.at_most(0.1), route_by_passage, slow=True),
    Case("query_million", "query router over 1,000,000", VANILLA, Bar.at_most(0.1), route_by_query, slow=True),
    Case("hybrid_million", "both over 1,000,000", VANILLA, Bar.at_most(0.1), route_by_both, slow=True),
)
