"""What a method costs before the first question, and from how many questions on that is repaid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from polyprag.config import Config, MethodName
from polyprag.errors import DataError
from polyprag.methods.method import Method
from polyprag.training.run_card import own_augmentation_report

REFERENCE, ONE_TO_ONE = MethodName.STANDARD_RAG.value, MethodName.PRAG.value
"""What is held against: retrieval without any training, and an adapter for each passage."""


class Cost(NamedTuple):
    """Seconds before the first question, per passage, and seconds of each question."""

    offline: float
    question: float


def offline_seconds(method: Method) -> float:
    """Seconds per passage of all that must be done before a method's first question, as far as it was measured.

    These are the augmentation where the run has made its own, all training, and building the index where the store
    tells how long that took.

    Raises:
        DataError: the report of the run's augmentation is damaged.
    """
    bench = method.bench
    seconds = method.train_seconds / method.trained_passages
    if method.needs_augmentation:
        seconds += augmentation_seconds(bench.config, bench.folder)
    if method.retrieves and bench.has_store:
        seconds += float(bench.store.manifest.training.get("index_seconds", 0.0)) / len(bench.passages)
    return seconds


def augmentation_seconds(config: Config, folder: Path) -> float:
    """Seconds per passage that a run's own augmentation took; 0 where it has none.

    Replies that an earlier run had got cost their own seconds, divided by how many were under way at once.

    Args:
        config: the whole configuration.
        folder: the run's folder.

    Raises:
        DataError: the report is damaged.
    """
    report = own_augmentation_report(config, folder)
    if report is None:
        return 0.0
    try:
        this_run, all_runs = report["this_run"], report["all_runs"]
        earlier = max(0.0, float(all_runs.get("seconds", 0.0)) - float(this_run.get("seconds", 0.0)))
        at_once = max(1, int(report.get("at_once", 1)))
        return (float(report["seconds"]) + earlier / at_once) / max(1, int(report["passages"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder}: the report of the augmentation is damaged ({error!r}); run train.py augment again"
        ) from None


def break_even(ours: Cost, theirs: Cost) -> float | None:
    """Questions per passage from which on ours costs no more than theirs in all.

    With o seconds per passage before the first question and s seconds a question, q questions per passage cost
    o + q·s per passage, so that ours is no dearer for all

        q ≥ (o_ours − o_theirs) / (s_theirs − s_ours)

    Returns:
        0 where it is never dearer, None where every further question makes it dearer.
    """
    extra, saving = ours.offline - theirs.offline, theirs.question - ours.question
    if saving > 0:
        return max(0.0, extra / saving)
    return 0.0 if saving == 0 and extra <= 0 else None


def break_evens(costs: Mapping[str, Cost]) -> dict[str, dict[str, float | None]]:
    """For each method the entries `break_even` and `break_even_prag` of its result, as far as they mean something.

    The first is against standard RAG. The second is against PRAG, for the methods that share what PRAG has one by one.

    Args:
        costs: of the methods of which both figures are known, by name.
    """
    found: dict[str, dict[str, float | None]] = {name: {} for name in costs}
    for name, cost in costs.items():
        if REFERENCE in costs and name != REFERENCE:
            found[name]["break_even"] = break_even(cost, costs[REFERENCE])
        if ONE_TO_ONE in costs and name.startswith(("poly_prag", "dyprag")):
            found[name]["break_even_prag"] = break_even(cost, costs[ONE_TO_ONE])
    return found


def cost_of(result: Mapping[str, Any]) -> Cost | None:
    """The cost that a method's result tells; None where it does not tell all of it."""
    if "offline_seconds_per_passage" not in result:
        return None
    return Cost(result["offline_seconds_per_passage"], result["seconds_per_question"]["total"])
