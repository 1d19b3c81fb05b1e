"""A run that answers without having been trained: random experts and rows, and a query router as training begins with.

Speed does not depend on what the weights are, as long as none is zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.cases.training import long_passages
from benchmarks.loops import pool_config
from polyprag.answering.query_router import measure_keys
from polyprag.answering.question_encoder import build_encoder
from polyprag.config import Config
from polyprag.config.loading import to_yaml
from polyprag.experts.base_model import BaseModel, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import TaskRouter
from polyprag.knowledge.loading import load_knowledge
from polyprag.knowledge.prompts import PromptWriter
from polyprag.methods.workbench import Workbench
from polyprag.records import Knowledge, Question
from polyprag.retrieval.bm25 import BM25Retriever
from polyprag.router_store import RouterFacts, write_router
from polyprag.store import open_store, write_store
from polyprag.training.router_data import texts_of
from polyprag.training.router_stage import FOLDER, new_router

PASSAGES = 100
QUESTIONS, PROMPT_TOKENS, NEW_TOKENS = 16, 54, 16
POLITELY = "From what you know, please tell me:"
ROW_SPREAD, EXPERT_SPREAD = 2.0, 0.002
"""Standard deviations of random rows and of random B: gates that differ, and updates that leave answers sane."""


def untrained_bench(folder: Path) -> Workbench:
    """Passages of 100 words, the suite's pool and a query router in a run folder, and the questions to answer."""
    config = pool_config(
        *(f"answering.max_new_tokens={NEW_TOKENS}", f"answering.batch_size={QUESTIONS}"),
        *(f"data.world.passages={PASSAGES}", "warm_up.prag=false", "prag.epochs=1"),
    )
    world = load_knowledge(config.data)
    base = load_base(config.base)
    questions = alike(world.test, PromptWriter(base.tokenizer))
    knowledge = dataclasses.replace(long_passages(world, PASSAGES), test=questions)
    with torch.random.fork_rng():
        torch.manual_seed(config.run.seed)
        _write_store(config, folder, base, knowledge)
        _write_router(config, folder, base, knowledge)
    return Workbench(config, knowledge, folder)


def alike(questions: Sequence[Question], writer: PromptWriter) -> tuple[Question, ...]:
    """The questions whose prompts are nearest to the wanted length, once they ask politely."""
    polite = [dataclasses.replace(question, text=f"{POLITELY} {question.text}") for question in questions]
    nearest = sorted(polite, key=lambda question: abs(len(writer.question(question.text)) - PROMPT_TOKENS))
    return tuple(nearest[:QUESTIONS])


@torch.no_grad()
def _write_store(config: Config, folder: Path, base: BaseModel, knowledge: Knowledge) -> None:
    pool = ExpertPool(base.model, config.experts, config.routing.granularity)
    router = TaskRouter(len(knowledge.passages), pool.groups, config.experts.count, config.routing)
    router.rows.weight.normal_(std=ROW_SPREAD)
    for layer in pool.layers.values():
        layer.B.normal_(std=EXPERT_SPREAD)
    write_store(
        folder / "store",
        config_yaml=to_yaml(config),
        base_name=base.name,
        base_fingerprint=base.fingerprint,
        pool={name: tensor.to(base.model.dtype) for name, tensor in pool.state().items()},
        rows_NGK=router.all_logits(),
        group_names=pool.group_names,
        passages=knowledge.passages,
        retriever=BM25Retriever.build(knowledge.passages),
        training={"seconds": 0.0, "steps": 0, "seed": config.run.seed},
    )


def _write_router(config: Config, folder: Path, base: BaseModel, knowledge: Knowledge) -> None:
    store, encoder = open_store(folder / "store"), build_encoder(config.router, base)
    router = new_router(config, store, encoder)
    router.start_from(measure_keys(encoder, texts_of(knowledge)))
    facts = RouterFacts.of(config, store, settings={}, training={"seconds": 0.0, "step": 0})
    write_router(folder / FOLDER, router, facts)
