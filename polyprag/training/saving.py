"""From a trained module to the knowledge store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polyprag.config.loading import to_yaml
from polyprag.records import Knowledge
from polyprag.retrieval.retriever import Retriever
from polyprag.store import write_store
from polyprag.training.module import PoolModule


def save_store(
    folder: Path, module: PoolModule, knowledge: Knowledge, retriever: Retriever, facts: dict[str, Any]
) -> None:
    """Write the store, its tensors in the base model's number type.

    Args:
        folder: the store's folder.
        module: the trained experts and task rows, and their configuration.
        knowledge: the corpus, in the order of the rows.
        retriever: the index over it.
        facts: what is to be remembered of the training, JSON values only.
    """
    base, pool, router = module.base, module.pool, module.router
    dtype = base.model.dtype
    write_store(
        folder,
        config_yaml=to_yaml(module.config),
        base_name=base.name,
        base_fingerprint=base.fingerprint,
        pool={name: tensor.to(dtype) for name, tensor in pool.state().items()},
        rows_NGK=router.all_logits().to(dtype),
        group_names=pool.group_names,
        passages=knowledge.passages,
        retriever=retriever,
        training=facts,
    )
