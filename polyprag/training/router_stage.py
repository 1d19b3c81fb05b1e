"""The stage after the pool: train the query router of a run and write it beside the store."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from polyprag.answering.query_router import QueryRouter, measure_keys
from polyprag.answering.question_encoder import QuestionEncoder, build_encoder
from polyprag.config import Config, KeySearch, RouterConfig
from polyprag.errors import StoreError
from polyprag.experts.base_model import BaseModel, device_of, load_base
from polyprag.experts.pool import ExpertPool
from polyprag.experts.routing import RowGates
from polyprag.knowledge.prompts import PromptWriter
from polyprag.records import Knowledge
from polyprag.router_store import RouterFacts, open_router, write_router
from polyprag.runs import run_knowledge
from polyprag.store import Store, open_store
from polyprag.training.batches import RewindableSampler
from polyprag.training.callbacks import Progress
from polyprag.training.checkpoint import MAY_DIFFER, AtomicCheckpointIO, Checkpointing, resume_path
from polyprag.training.datamodule import ResumableLoader
from polyprag.training.processes import cluster, leave
from polyprag.training.router_data import DrawnBatches, Query, build_queries, learned_from, texts_of
from polyprag.training.router_module import HeldBackLooks, RouterModule
from polyprag.training.trainer import loggers, prepare_process, quiet_lightning

FOLDER = "router"
"""Where the query router lies within a run."""
CODED_FROM = 50_000
"""Passages from which `router.search=auto` means codes."""


def train_router(
    config: Config,
    run: Path,
    resume: str | None = None,
    *,
    dry_run: bool = False,
    base: BaseModel | None = None,
    pool: ExpertPool | None = None,
) -> None:
    """Train the query router of a trained run and write it to `router/`.

    Args:
        config: the run's configuration, with this call's `router.*`.
        run: the run's folder, with its store.
        resume: `auto`, the path of a checkpoint, or None to begin afresh.
        dry_run: tell sizes only.
        base: the base model, if it is loaded already, without gates in force.
        pool: the experts, if they are in that base model already.

    Raises:
        ConfigError: the encoder or the checkpoint cannot be used, or the latter is of other pairs or questions.
        DataError: there is nothing to learn from.
        StoreError: there is no store, or it is damaged or of another base model.
    """
    leave()  # this stage is short; of processes that have trained together, the first goes on alone
    prepare_process(config.run)
    folder = run / FOLDER
    base = base or load_base(config.base, device_of(config.training.accelerator))
    store = open_store(run / "store", base.fingerprint, base.name)
    knowledge = run_knowledge(config, run)
    learned = learned_from(knowledge)
    if resume == "auto" and _is_trained(folder, store, config, learned):
        return
    checkpoint_folder = folder / "checkpoints" / store.manifest.digest[:12]
    resumed = resume_path(resume, checkpoint_folder, config, ROUTER_MAY_DIFFER, learned)
    encoder = build_encoder(config.router, base)
    router = new_router(config, store, encoder)
    started = time.perf_counter()
    queries, held_back = build_queries(knowledge, config, PromptWriter(base.tokenizer, config.answering.prompt))
    router.start_from(measure_keys(encoder, texts_of(knowledge, held_back)))
    measuring = time.perf_counter() - started
    if config.router.lm_steps:
        pool = _frozen_pool(config, store, base, pool)
    module, loader = _learning(config, store, base, encoder, router, (queries, held_back), pool)
    if dry_run:
        return print("\n".join(_sizes(module, loader)))
    checkpoints = Checkpointing(checkpoint_folder, config.training.checkpoint_minutes, learned)
    _trainer(config, folder, checkpoints).fit(module, loader, ckpt_path=resumed)
    _keep(folder, config, store, module, {"seconds": measuring + checkpoints.train_seconds, "learned_from": learned})


def check_router(config: Config, base: BaseModel, knowledge: Knowledge) -> None:
    """Refuse, before the pool is trained, what this stage would refuse after it.

    Raises:
        ConfigError: the encoder cannot be had.
        DataError: there is nothing to learn from.
        ModelError: a sentence encoder cannot be loaded.
    """
    build_encoder(config.router, base)
    build_queries(knowledge, config, PromptWriter(base.tokenizer, config.answering.prompt))


def new_router(config: Config, store: Store, encoder: QuestionEncoder) -> QueryRouter:
    """An untrained router for the rows of a store, on the CPU."""
    passages, groups, experts = store.rows_NGK.shape
    return QueryRouter(
        config.router.design,
        passages=passages,
        groups=groups,
        experts=experts,
        size=encoder.size,
        vocabulary=encoder.vocabulary,
        hidden=config.router.hidden,
        routing=config.routing,
    )


ROUTER_MAY_DIFFER = tuple(key for key in MAY_DIFFER if key != "router.")
"""Keys that a resumed router stage may change."""


def _learning(
    config: Config,
    store: Store,
    base: BaseModel,
    encoder: QuestionEncoder,
    router: QueryRouter,
    split: tuple[list[Query], list[Query]],
    pool: ExpertPool | None,
) -> tuple[RouterModule, DataLoader[Any]]:
    """The Lightning module and its loader."""
    queries, held_back = split
    gates_NGK = RowGates(store.rows_NGK, config.routing, base.device)
    module = RouterModule(encoder, router.to(base.device), gates_NGK, held_back, config, base, pool)
    sampler: RewindableSampler = DrawnBatches(queries, config.router, config.run.seed)
    loader = ResumableLoader(
        queries,  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=list,
        generator=torch.Generator(),
    )
    return module, loader


def _frozen_pool(config: Config, store: Store, base: BaseModel, pool: ExpertPool | None) -> ExpertPool:
    """The stored experts inside the base model, none of which learns."""
    pool = pool or ExpertPool(base.model, config.experts, config.routing.granularity)
    pool.load(store.pool())
    for parameter in pool.parameters():
        parameter.requires_grad_(False)
    return pool


def _trainer(config: Config, folder: Path, checkpoints: Checkpointing) -> pl.Trainer:
    """A trainer of one device; the stage is short."""
    quiet_lightning()
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu" if device_of(config.training.accelerator) == "cpu" else "gpu",
        devices=1,
        max_epochs=1,
        max_steps=config.router.steps + config.router.lm_steps,
        log_every_n_steps=config.logging.every_steps,
        logger=loggers(config, folder),
        callbacks=[Progress(), HeldBackLooks(), checkpoints],
        plugins=[AtomicCheckpointIO(), cluster()],
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _keep(folder: Path, config: Config, store: Store, module: RouterModule, made: Mapping[str, Any]) -> None:
    """Write the router as it was at its best, and say how good that is.

    Args:
        folder: where it goes.
        config: what it was trained with.
        store: what it routes to.
        module: after training.
        made: the seconds that training took, and the digest of what was learned from.
    """
    best, held_back = module.best, len(module.held_back)
    module.router.load_state_dict(best["state"])
    known = {name: value for name, value in best.items() if name != "state"}
    training = {**made, **known, "held_back": held_back}
    facts = RouterFacts.of(config, store, _settings(config), training)
    write_router(folder, module.router, facts, coded=has_codes(config.router, len(store.passages)))
    found = f"{best['first_choice']:.1%} find a passage of theirs first (step {best['step']})"
    outcome = f"; of {held_back} held-back questions {found}" if held_back else ""
    print(f"the query router is {folder}{outcome}")


def _sizes(module: RouterModule, loader: DataLoader[Any]) -> list[str]:
    """What the stage will take, one line each, for people."""
    learned = sum(parameter.numel() for parameter in module.router.parameters())
    queries: Sequence[Query] = loader.dataset  # type: ignore[assignment]
    return [
        f"training questions     {sum(query.pack is not None for query in queries):,}",
        f"sentences              {sum(query.pack is None for query in queries):,}",
        f"held-back questions    {len(module.held_back):,}",
        f"steps                  {len(loader):,}",
        f"trainable parameters   {learned:,}",
    ]


def has_codes(config: RouterConfig, passages: int) -> bool:
    """Whether a router's keys get sign codes, by which many passages are searched."""
    if config.search is KeySearch.AUTO:
        return passages >= CODED_FROM
    return config.search is KeySearch.CODES


def _settings(config: Config) -> dict[str, Any]:
    """What the trained router depends on besides store and data, as JSON."""
    values = {name: str(value) for name, value in dataclasses.asdict(config.router).items() if name != "after_pool"}
    if config.router.search is KeySearch.AUTO:
        del values["search"]  # as routers were written before there was a choice
    return {**values, "seed": config.run.seed}


def _is_trained(folder: Path, store: Store, config: Config, learned: str) -> bool:
    """Whether the run's router is there, sound, and trained with this configuration on these data.

    Args:
        folder: the router's.
        store: what it routes to.
        config: the present configuration.
        learned: digest of what there is to learn from; a router agrees with it if it tells none, as older ones do.
    """
    try:
        facts = open_router(folder, store.manifest.digest, whole=True).facts
    except StoreError:
        return False
    return facts.settings == _settings(config) and facts.training.get("learned_from", learned) == learned
