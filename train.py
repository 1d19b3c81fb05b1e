"""Train a pool of LoRA experts and a task router on a corpus and write the knowledge store; a query router; sweeps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from polyprag.cli import Call, environment, guarded, parse_call, run_directory
from polyprag.config import Config
from polyprag.config_checks import validate
from polyprag.config_loading import load_config, to_yaml

# Heavy imports wait until a call is understood, so that --help is instant.


VERBS = ("pool", "router", "controls", "sweep")


def main(argv: Sequence[str]) -> None:
    """Parse the call, settle the configuration, do what the verb says."""
    call = parse_call(argv, "train.py", VERBS, __doc__ or "", resumable=True)
    if call.verb == "sweep":
        from polyprag.sweeps.sweep import run_sweep

        return run_sweep(call, programs=Path(__file__).parent)
    if call.verb == "pool":
        config = load_config(call.config_path, call.overrides)
        validate(config)
        folder = run_directory(config, call.config_path)
    else:
        from polyprag.runs import run_config

        config, folder = run_config(call.config_path, call.overrides)
    if call.print_config:
        return print(to_yaml(config), end="")
    stage = {"pool": train_pool, "router": train_query_router, "controls": train_controls}[call.verb]
    return stage(config, folder, call)


def train_pool(config: Config, folder: Path, call: Call) -> None:
    """Build the parts, fit them, write the store.

    Args:
        config: the whole configuration, validated.
        folder: the run's folder.
        call: whether to resume, or to tell sizes only.
    """
    from polyprag.answering.retrieval import BM25Retriever, searched
    from polyprag.experts.base_model import load_base
    from polyprag.experts.pool import ExpertPool
    from polyprag.experts.routing import TaskRouter
    from polyprag.files import write_json, write_text
    from polyprag.knowledge.corpus import load_knowledge
    from polyprag.knowledge.prompts import PromptWriter
    from polyprag.knowledge.tasks import build_tasks
    from polyprag.store import is_sound
    from polyprag.training import trainer as training
    from polyprag.training.checkpoint import Checkpointing, resume_path
    from polyprag.training.datamodule import KnowledgeData
    from polyprag.training.module import PoolModule
    from polyprag.training.router_stage import check_router, train_router
    from polyprag.training.saving import save_store

    training.prepare_process(config.run)
    knowledge = load_knowledge(config.data)
    resumed = resume_path(call.resume, folder / "checkpoints", config)

    base = load_base(config.base, training.training_device(config.training.accelerator))
    packs = build_tasks(knowledge, config.tasks, PromptWriter(base.tokenizer))
    pool = ExpertPool(base.model, config.experts, config.routing.granularity)
    router = TaskRouter(len(knowledge.passages), pool.groups, config.experts.count, config.routing)
    retriever = BM25Retriever.build(
        searched(knowledge.passages, knowledge.augmentations, config.answering.expand_index)
    )

    tasks = {passage.id: task for task, passage in enumerate(knowledge.passages)}
    neighbours_NM = training.similar_passages(retriever, knowledge.passages, config.routing)
    module = PoolModule(base, pool, router, config, tasks, neighbours_NM)
    validation = training.validation_of(knowledge.validation, tasks, config.training.validation_questions)
    data = KnowledgeData(packs, validation, config, base.tokenizer.pad_token_id)
    if config.router.after_pool:
        check_router(config, base, knowledge)

    if call.dry_run:
        print("\n".join(training.measure_sizes(module, data, pool, router).lines()))
        return
    checkpoints = Checkpointing(folder / "checkpoints", config.training.checkpoint_minutes)
    trainer = training.build_trainer(config, folder, data, checkpoints)
    if trainer.is_global_zero:
        write_text(folder / "config.yaml", to_yaml(config))
        write_json(folder / "environment.json", environment())
    trainer.fit(module, data, ckpt_path=resumed)
    if trainer.is_global_zero and (checkpoints.trained or not is_sound(folder / "store")):
        facts = {"seconds": checkpoints.train_seconds, "steps": trainer.global_step}
        save_store(folder / "store", module, knowledge, retriever, facts)
    if trainer.is_global_zero and config.router.after_pool:
        train_router(config, folder, "auto" if call.resume else None, base=base, pool=pool)
    usage = "" if folder.parent.name == "controls" else f"; next: python evaluate.py run.dir={folder}"
    print(f"the store is {folder / 'store'}{usage}")


def train_query_router(config: Config, folder: Path, call: Call) -> None:
    """Train the query router of a run that has its pool."""
    from polyprag.training.router_stage import train_router

    train_router(config, folder, call.resume, dry_run=call.dry_run)


def train_controls(config: Config, folder: Path, call: Call) -> None:
    """Train the controls that a run is held against, each as a run of its own below it."""
    from polyprag.training.controls import CONTROLS, control_config, control_folder

    for name, control in [(name, control_config(config, name)) for name in CONTROLS]:
        train_pool(control, control_folder(folder, name), call)


if __name__ == "__main__":
    sys.exit(guarded(main))
