"""Train a pool of LoRA experts and a task router on a corpus, and write the knowledge store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polyprag.cli import Call, environment, guarded, parse_call, run_directory
from polyprag.config import Config
from polyprag.config_checks import validate
from polyprag.config_loading import load_config, to_yaml

if TYPE_CHECKING:  # heavy imports wait until a call is understood, so that --help is instant
    from polyprag.answering.retrieval import BM25Retriever
    from polyprag.knowledge.records import Knowledge
    from polyprag.training.module import PoolModule

VERBS = ("pool",)


def main(argv: Sequence[str]) -> None:
    """Parse the call, settle the configuration, train."""
    call = parse_call(argv, "train.py", VERBS, __doc__ or "", resumable=True)
    config = load_config(call.config_path, call.overrides)
    validate(config)
    if call.print_config:
        print(to_yaml(config), end="")
        return
    train_pool(config, run_directory(config, call.config_path), call)


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
    neighbours_NM = None
    if config.routing.merge_in_training:
        neighbours_NM = training.similar_passages(retriever, knowledge.passages, config.routing.merge_passages - 1)
    module = PoolModule(base, pool, router, config, tasks, neighbours_NM)
    validation = training.validation_of(knowledge.validation, tasks, config.training.validation_questions)
    data = KnowledgeData(packs, validation, config, base.tokenizer.pad_token_id)

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
        save(folder / "store", module, knowledge, retriever, facts)
    print(f"the store is {folder / 'store'}; next: python evaluate.py run.dir={folder}")


def save(
    folder: Path, module: PoolModule, knowledge: Knowledge, retriever: BM25Retriever, facts: dict[str, float]
) -> None:
    """Write the store, its tensors in the base model's number type."""
    from polyprag.store import write_store

    base, pool, router = module.base, module.pool, module.router
    dtype = base.model.dtype
    write_store(
        folder,
        config_yaml=to_yaml(module.config),
        base_name=base.name,
        base_fingerprint=base.fingerprint,
        pool={name: tensor.to(dtype) for name, tensor in pool.state().items()},
        rows_NGK=router.logits().to(dtype),
        group_names=pool.group_names,
        passages=knowledge.passages,
        retriever=retriever,
        training=facts,
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
