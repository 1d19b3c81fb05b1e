"""What results say of the run and of the data behind them."""

from __future__ import annotations

from typing import Any

from polyprag.cli import environment
from polyprag.config.keys import config_values
from polyprag.evaluation.trained import trained_with
from polyprag.knowledge.loading import benchmark_of
from polyprag.knowledge.selection import count_types
from polyprag.methods.workbench import Workbench


def about_run(bench: Workbench, store: str, router: str) -> dict[str, Any]:
    """The run, its whole configuration, its environment, and what it was trained with.

    Args:
        bench: what the methods share.
        store: digest of the store; empty where there is none.
        router: digest of the query router; empty where there is none.
    """
    config = bench.config
    return {
        "dir": str(bench.folder),
        "store": store,
        "router": router,
        "base": config.base.model,
        "quantisation": config.base.quantisation.value,
        "seed": config.run.seed,
        "config": config_values(config),
        "environment": environment(),
        "trained": trained_with(bench.folder, config, bool(store)),
    }


def about_data(bench: Workbench, sha256: str, validation: int) -> dict[str, Any]:
    """Corpus and questions in numbers.

    Args:
        bench: what the methods share.
        sha256: of test questions and passages.
        validation: number of questions on which choices are made.
    """
    data, test = bench.config.data, bench.knowledge.test
    return {
        "name": data.name.value,
        "benchmark": benchmark_of(data),
        "sha256": sha256,
        "passages": len(bench.passages),
        "questions": len(test),
        "types": count_types(test),
        "limit": data.limit,
        "limit_seed": data.limit_seed,
        "validation": validation,
    }
