"""Runs over any number of passages of the demo world, untrained: random experts and rows, keys as training begins with.

What opening, memory, retrieval and routing cost does not depend on what has been learned. Runs are kept beside the
cached models, since a million passages take minutes to write and 5 GB; delete the folder `benchmarks` there when done.
"""

from __future__ import annotations

import itertools
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.loops import pool_config
from polyprag import router_store, store
from polyprag.answering.query_router import K1, B, KeyStatistics, QueryRouter, measure_keys
from polyprag.answering.question_encoder import LONGEST_TEXT, BaseEncoder
from polyprag.config import Config
from polyprag.config.loading import to_yaml
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.files import cache_folder, replace_folder, write_json
from polyprag.knowledge.demo_world import iterate_passages
from polyprag.knowledge.prompts import with_title
from polyprag.knowledge.world.facts import World
from polyprag.knowledge.world.questions import draw_questions
from polyprag.knowledge.world.wordings import Split
from polyprag.passages import StoredPassages, write_passages
from polyprag.records import Passage
from polyprag.retrieval.bm25 import BM25Retriever
from polyprag.router_store import RouterFacts, write_router
from polyprag.store import Store, open_store, write_store
from polyprag.training.router_stage import FOLDER, has_codes

QUESTIONS = "questions.json"
ASKED = 200
ROW_SPREAD, EXPERT_SPREAD = 2.0, 0.002
"""Standard deviations of random rows and of random B."""
MEASURED_PASSAGES = 6000
"""First passages, of about 200,000 tokens, by which token states are whitened."""
_AT_ONCE = 10_000


def scaled_config(passages: int) -> Config:
    """The suite's pool over the demo world with that many passages."""
    return pool_config(f"data.world.passages={passages}", f"data.world.questions={ASKED}", "data.world.phrasings=1")


def scaled_run(passages: int) -> Path:
    """The folder of a run over that many passages, with store, query router and questions; made where it is missing."""
    name = f"run-{passages}-{store.SCHEMA}-{router_store.SCHEMA}"
    folder = cache_folder() / "benchmarks" / name
    if not folder.exists():
        config = scaled_config(passages)
        with replace_folder(folder) as new:
            _write_run(config, load_base(config.base), new)
    return folder


def _write_run(config: Config, base: BaseModel, folder: Path) -> None:
    _write_store(config, base, folder)
    opened = open_store(folder / "store")
    add_router(config, base, opened, folder / FOLDER, coded=has_codes(config.router, len(opened.passages)))
    asked = draw_questions(World(config.data.world), Split.TEST, ASKED)
    write_json(folder / QUESTIONS, [vars(question) for question in asked])


def _write_store(config: Config, base: BaseModel, folder: Path) -> None:
    generator = torch.Generator().manual_seed(config.run.seed)
    pool = ExpertPool(base.model, config.experts, config.routing.granularity)
    state = {name: tensor.to(base.model.dtype) for name, tensor in pool.state().items()}
    for name, tensor in state.items():
        if name.endswith(".B"):
            tensor.normal_(std=EXPERT_SPREAD, generator=generator)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        lines = Path(scratch) / "passages.jsonl"
        write_passages(lines, Path(scratch), (passage for passage, _ in iterate_passages(config.data.world)))
        passages = StoredPassages(lines, Path(scratch))
        retriever = BM25Retriever.build_into(Path(scratch) / "index", passages)
        rows_NGK = torch.empty(len(passages), pool.groups, config.experts.count, dtype=base.model.dtype)
        write_store(
            folder / "store",
            config_yaml=to_yaml(config),
            base_name=base.name,
            base_fingerprint=base.fingerprint,
            pool=state,
            rows_NGK=rows_NGK.normal_(std=ROW_SPREAD, generator=generator),
            group_names=pool.group_names,
            passages=passages,
            retriever=retriever,
            training={"seconds": 0.0, "steps": 0},
        )


def add_router(config: Config, base: BaseModel, opened: Store, folder: Path, *, coded: bool) -> None:
    """Write the query router of a store as it is before training, with a key for every passage.

    Args:
        config: with `router.layers=0`, so that a token's state is its embedding.
        base: the base model.
        opened: the store.
        folder: where the router goes.
        coded: whether its keys have sign codes.
    """
    _, groups, experts = opened.rows_NGK.shape
    router = QueryRouter(
        config.router.design,
        passages=0,
        groups=groups,
        experts=experts,
        size=base.model.config.hidden_size,
        vocabulary=len(base.model.get_input_embeddings().weight),
        hidden=config.router.hidden,
        routing=config.routing,
    )
    router.start_from(measure_many_keys(base, opened.passages))
    facts = RouterFacts.of(config, opened, settings={}, training={"seconds": 0.0, "step": 0})
    write_router(folder, router, facts, coded=coded)


@torch.no_grad()
def measure_many_keys(base: BaseModel, passages: Sequence[Passage]) -> KeyStatistics:
    """What `measure_keys` measures over token embeddings, for a corpus too large for it; keys are in bfloat16.

    A token's state is that of its id, so a passage's key is a weighted sum over the rows of one table.
    """
    first = measure_keys(BaseEncoder(base, 0), [[with_title(passage)] for passage in passages[:MEASURED_PASSAGES]])
    states_VD = base.model.get_input_embeddings().weight.float()
    unit_VD = F.normalize((states_VD - first.mean_D) @ first.whitening_DD, dim=-1)
    ids_S, counts_S, ends_N = _bags(base.tokenizer, passages)
    starts_N = np.concatenate((np.zeros(1, np.int64), ends_N[:-1]))
    frequency_V = np.bincount(ids_S, minlength=len(unit_VD))
    weights_V = np.log(1 + (len(passages) - frequency_V + 0.5) / (frequency_V + 0.5))
    lengths_N = np.add.reduceat(counts_S, starts_N)
    keys_ND = torch.empty(len(passages), unit_VD.shape[1], dtype=torch.bfloat16)
    for start in range(0, len(passages), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(passages))
        own = slice(starts_N[start], ends_N[stop - 1])
        sizes_M = ends_N[start:stop] - starts_N[start:stop]
        dampening_S = np.repeat(K1 * (1 - B + B * lengths_N[start:stop] / lengths_N.mean()), sizes_M)
        shares_S = counts_S[own] * (K1 + 1) / (counts_S[own] + dampening_S) * weights_V[ids_S[own]]
        sums_MD = F.embedding_bag(
            torch.from_numpy(ids_S[own]),
            unit_VD,
            torch.from_numpy(starts_N[start:stop] - starts_N[start]),
            mode="sum",
            per_sample_weights=torch.from_numpy(shares_S).float(),
        )
        keys_ND[start:stop] = F.normalize(sums_MD, dim=-1).bfloat16()
    return KeyStatistics(first.mean_D, first.whitening_DD, torch.from_numpy(weights_V).float(), keys_ND)


def _bags(tokenizer: Any, passages: Iterable[Passage]) -> tuple[Any, Any, Any]:
    """The distinct token ids of every passage, passage after passage, how often each occurs, and where each ends."""
    ids, counts, ends = array("i"), array("i"), array("q")
    for texts in _batched(f" {with_title(passage).strip()}" for passage in passages):
        for tokens in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
            own, times = np.unique(np.array(tokens[:LONGEST_TEXT], np.int32), return_counts=True)
            ids.frombytes(own.tobytes())
            counts.frombytes(times.astype(np.int32).tobytes())
            ends.append(len(ids))
    return np.frombuffer(ids, np.int32), np.frombuffer(counts, np.int32), np.frombuffer(ends, np.int64)


def _batched(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    return iter(lambda: list(itertools.islice(iterator, _AT_ONCE)), [])
