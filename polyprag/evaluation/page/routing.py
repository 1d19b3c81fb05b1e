"""What the task rows of a store say of its experts: how passages and types of questions use them.

Shapes: N passages, G routed groups, K experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray

from polyprag.config.loading import load_config
from polyprag.errors import ConfigError, StoreError
from polyprag.evaluation.answers import Answer
from polyprag.evaluation.page.numbers import Source, score, words
from polyprag.evaluation.page.pieces import Cell, Content, Table
from polyprag.experts.routing import gates_from_logits
from polyprag.passages import positions_of
from polyprag.store import CONFIG, Store, open_store

MEASURED, DRAWN = 2000, 120
"""Most passages that are measured, and most that are drawn; larger stores give evenly spaced ones."""
TINY = 1e-12
SOURCE = "store"

Gates = NDArray[np.float64]


@dataclass(frozen=True)
class Routing:
    """How a store routes.

    Attributes:
        numbers: `passages`, `measured`, `drawn`, `experts`, `groups`; `use`, the mean gate of each expert; `effective`,
            the mean number of experts that a passage uses in a group, as the exponential of its gates' entropy;
            `cosine`, the mean cosine between the gates of two passages, over all groups; `least` and `most`, the ends
            of the drawn passages' mean gates; and `types`, the mean gates of each type of question by expert.
        levels: for each drawn passage its gates, as they lie between those ends.
    """

    numbers: Source
    levels: list[list[float]]


def measure_routing(folder: Path, digest: str, answers: Iterable[Answer]) -> Routing | None:
    """Look into a store.

    Args:
        folder: of the store.
        digest: of the store that the results belong to.
        answers: of a method whose gates are those of the passages that it names.

    Returns:
        What was found; None where there is no store, it cannot be read, or it is another one.
    """
    try:
        store = open_store(folder)
        routing = load_config(store.folder / CONFIG).routing
    except (StoreError, ConfigError):
        return None
    if store.manifest.digest != digest:
        return None

    def gates(positions: list[int]) -> Gates:
        rows_NGK = store.rows_NGK[torch.tensor(positions, dtype=torch.long)].float()
        found: Gates = gates_from_logits(rows_NGK, routing.normalisation, routing.top_k).double().numpy()
        return found

    passages = store.manifest.passages
    gates_NGK = gates(_evenly(passages, MEASURED))
    drawn = gates_NGK.mean(1)[_evenly(len(gates_NGK), DRAWN)]
    least, most = float(drawn.min()), float(drawn.max())
    numbers = {
        "passages": passages,
        "measured": len(gates_NGK),
        "drawn": len(drawn),
        "groups": gates_NGK.shape[1],
        "experts": gates_NGK.shape[2],
        "use": gates_NGK.mean((0, 1)).tolist(),
        "effective": _effective(gates_NGK),
        "cosine": _cosine(gates_NGK),
        "least": least,
        "most": most,
        "types": _by_type(store, gates, answers),
    }
    ordered = drawn[np.lexsort((-drawn.max(1), drawn.argmax(1)))]
    return Routing(Source(numbers, SOURCE), ((ordered - least) / max(most - least, TINY)).tolist())


def use_table(routing: Routing) -> Table:
    """The mean gate of each expert."""
    use = routing.numbers.get("use")
    cells = _cells(routing, ("use",), max(map(abs, _beside_even(use))))
    return Table("Mean gate by expert", ("expert", *_numbered(len(use))), (("mean gate", *cells),))


def gate_table(routing: Routing) -> Table | None:
    """The mean gates of the passages behind each type of question; None where no type is known."""
    types: Mapping[str, list[float]] = routing.numbers.get("types")
    if not types:
        return None
    largest = max(abs(value) for use in types.values() for value in _beside_even(use))
    rows: list[tuple[Content | Cell, ...]] = [
        (words(kind), *_cells(routing, ("types", kind), largest)) for kind in types
    ]
    head = ("question type", *_numbered(routing.numbers.get("experts")))
    return Table("Mean gate by question type and expert", head, tuple(rows))


def _cells(routing: Routing, path: tuple[str, ...], largest: float) -> list[Cell]:
    """Mean gates, coloured by how far they lie from even use."""
    beside = _beside_even(routing.numbers.get(*path))
    return [
        Cell(
            routing.numbers.number(score, *path, at), abs(value) / max(largest, TINY), "plus" if value > 0 else "minus"
        )
        for at, value in enumerate(beside)
    ]


def _beside_even(use: list[float]) -> list[float]:
    """By how much each gate is larger than all would be if they were alike."""
    return [value - sum(use) / len(use) for value in use]


def _numbered(experts: int) -> list[Markup]:
    return [words(str(expert)) for expert in range(experts)]


def _evenly(total: int, most: int) -> list[int]:
    """At most so many positions, evenly spaced."""
    return [round(at) for at in np.linspace(0, total - 1, min(total, most))]


def _effective(gates_NGK: Gates) -> float:
    shares = gates_NGK / np.maximum(gates_NGK.sum(-1, keepdims=True), TINY)
    entropies_NG = -(shares * np.log(np.maximum(shares, TINY))).sum(-1)
    return float(np.exp(entropies_NG).mean())


def _cosine(gates_NGK: Gates) -> float | None:
    """The mean over all pairs of passages, by way of the length of the sum of all directions; None for one passage."""
    rows_NX = gates_NGK.reshape(len(gates_NGK), -1)
    units_NX = rows_NX / np.maximum(np.linalg.norm(rows_NX, axis=1, keepdims=True), TINY)
    n = len(units_NX)
    return float(((units_NX.sum(0) ** 2).sum() - (units_NX**2).sum()) / (n * (n - 1))) if n > 1 else None


def _by_type(store: Store, gates: Any, answers: Iterable[Answer]) -> dict[str, list[float]]:
    """The mean gates, over groups, of the passages that questions of each type have chosen."""
    chosen = {answer.question_id: answer for answer in answers if answer.type and answer.retrieved}
    wanted = {id_ for answer in chosen.values() for id_ in answer.retrieved}
    known = positions_of(store.passages)
    positions = {id_: known[id_] for id_ in sorted(wanted) if id_ in known}
    if not positions:
        return {}
    mean_NK = dict(zip(positions, gates(list(positions.values())).mean(1), strict=True))
    by_type: dict[str, list[Gates]] = {}
    for answer in chosen.values():
        own = [mean_NK[id_] for id_ in answer.retrieved if id_ in mean_NK]
        if own:
            by_type.setdefault(answer.type, []).append(np.mean(own, axis=0))
    return {kind: np.mean(by_type[kind], axis=0).tolist() for kind in sorted(by_type)}
