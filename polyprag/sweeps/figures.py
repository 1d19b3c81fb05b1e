"""The figures of a sweep: scores against what was swept, and a look into each run's gates and experts.

Shapes: N passages, G routed groups, K experts.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from torch import Tensor

from polyprag.config.loading import load_config
from polyprag.evaluation.report import is_control
from polyprag.evaluation.statistics import Values
from polyprag.experts.routing import RowGates
from polyprag.files import write_bytes
from polyprag.manifest import MANIFEST
from polyprag.store import CONFIG, open_store
from polyprag.sweeps.grid import Group
from polyprag.sweeps.measures import expert_similarity, expert_use, stored_gates
from polyprag.sweeps.outcomes import Outcome
from polyprag.sweeps.summary import Line, Score, methods_of
from polyprag.training.callbacks import routing_figure

ENDINGS = ("png", "svg")
DODGE = 0.5
"""Share of the room between two categories over which methods are spread."""
ASIDE = 0.01
"""Share of the axis between methods at the same number, so that their intervals do not cover one another."""
WIDE = 10.0
"""Ratio of the largest to the smallest value from which an axis of numbers is logarithmic."""


def write_figures(folder: Path, summary: Sequence[tuple[Group, Sequence[Line]]], outcomes: Iterable[Outcome]) -> None:
    """Draw all figures of a sweep as PNG and SVG; those that belong to no result any more are removed.

    Args:
        folder: where they go.
        summary: scores of all groups.
        outcomes: the finished runs.
    """
    written: set[str] = set()
    for group, lines in summary:
        if group.keys and methods_of(lines):
            written.add(_save(folder, f"f1_{group.keys[0]}", f1_figure(group, lines)))
            if sizes_differ(lines):
                written.add(_save(folder, f"f1_bytes_{group.keys[0]}", bytes_figure(group, lines)))
    dense = [line for _, lines in summary for line in _of_several_densities(lines)]
    if dense:
        written.add(_save(folder, "f1_passages_per_expert", density_figure(dense)))
    trainings = {outcome.folder: outcome for outcome in outcomes}
    for outcome in trainings.values():
        written |= _run_figures(folder, outcome)
    for path in folder.glob("*.*"):
        if path.stem not in written and path.suffix[1:] in ENDINGS:
            path.unlink()


def f1_figure(group: Group, lines: Sequence[Line]) -> Figure:
    """F1 against the first key of a group, a line with intervals for each method.

    Every combination of the other keys' values has a panel of its own.
    """
    drawn = [line for line in lines if line.scores]
    panels = list(dict.fromkeys(map(_panel, (line.point.values for line in drawn))))
    figure = Figure(figsize=(1.5 + 4.5 * len(panels), 4), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        own = [line for line in drawn if _panel(line.point.values) == panel]
        _draw(axes, [line.point.values[0] for line in own], [line.scores for line in own], methods_of(drawn))
        axes.set_xlabel(group.keys[0])
        axes.set_title(", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in zip(group.keys[1:], panel, strict=True)))
    _finish(all_axes)
    return figure


def density_figure(lines: Sequence[Line]) -> Figure:
    """F1 against passages per expert, N / K; joined where no two combinations have the same."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    densities = [_passages_per_expert(line) for line in lines]
    joined = len(set(densities)) == len(densities)
    _draw(axes, densities, [line.scores for line in lines], methods_of(lines), joined)
    axes.set_xlabel("passages per expert")
    _finish([axes])
    return figure


def bytes_figure(group: Group, lines: Sequence[Line]) -> Figure:
    """F1 against the bytes that a method stores for each passage, a point for each combination and method."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for at, method in enumerate(methods_of(lines)):
        for line in (line for line in lines if method in line.scores):
            score, size = line.scores[method], _bytes_per_passage(line, method)
            spread = [[max(score.mean - score.low, 0)], [max(score.high - score.mean, 0)]]
            axes.errorbar([size], [score.mean], spread, marker="o", markersize=4, capsize=2, color=f"C{at}")
            name = ", ".join(map(_label, line.point.values))
            axes.annotate(name, (size, score.mean), (4, 4), textcoords="offset points", fontsize="x-small")
        axes.plot([], [], marker="o", color=f"C{at}", label=method)
    axes.set_xscale("log")
    axes.set_xlabel(f"stored bytes per passage (at each point: {', '.join(group.keys)})")
    _finish([axes])
    return figure


def use_figure(gates_NGK: RowGates | Tensor) -> Figure:
    """How much each expert is used, largest first, beside even use."""
    use_K = expert_use(gates_NGK)
    order = use_K.argsort(descending=True).tolist()
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(order)), use_K[order].tolist(), color="tab:blue")
    axes.axhline(1 / len(order), color="black", linewidth=1, linestyle="--", label="even use")
    axes.set_xticks(range(len(order)), [str(expert) for expert in order])
    axes.set_xlabel("expert")
    axes.set_ylabel("mean gate")
    axes.legend(frameon=False)
    return figure


def similarity_figure(similarity_KK: Tensor) -> Figure:
    """A heat map of the cosines between experts' weight updates."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(similarity_KK.numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xlabel("expert")
    axes.set_ylabel("expert")
    figure.colorbar(image, ax=axes, label="mean cosine of ΔW over layers")
    return figure


def _run_figures(folder: Path, outcome: Outcome) -> set[str]:
    """Routing, use and similarity of one training; drawn only if its store is newer. Returns their names."""
    names = {kind: f"{kind}_{outcome.folder.name}" for kind in ("routing", "use", "similarity")}
    store = open_store(outcome.folder / "store")
    trained = (store.folder / MANIFEST).stat().st_mtime
    files = [folder / f"{name}.{ending}" for name in names.values() for ending in ENDINGS]
    if all(file.exists() and file.stat().st_mtime >= trained for file in files):
        return set(names.values())
    gates_NGK = stored_gates(store)
    rank = load_config(store.folder / CONFIG).experts.rank
    heat_map = routing_figure(gates_NGK)
    _save(folder, names["routing"], heat_map)
    plt.close(heat_map)
    _save(folder, names["use"], use_figure(gates_NGK))
    _save(folder, names["similarity"], similarity_figure(expert_similarity(store.pool(), rank)))
    return set(names.values())


def _draw(
    axes: Axes, values: Sequence[Any], scores: Sequence[dict[str, Score]], methods: Sequence[str], joined: bool = True
) -> None:
    """A series with intervals for each method; numbers at their place, anything else side by side."""
    numeric = _is_numeric(values)
    distinct = list(dict.fromkeys(map(_label, values)))
    places = np.array(list(map(float, values)) if numeric else [distinct.index(_label(v)) for v in values])
    for at, method in enumerate(methods):
        known = [index for index, found in enumerate(scores) if method in found]
        if numeric:
            known.sort(key=lambda index: places[index])
        found = [scores[index][method] for index in known]
        middle = at - (len(methods) - 1) / 2
        shifted = _aside(places, ASIDE * middle) if numeric else places + DODGE * middle / len(methods)
        means = np.array([score.mean for score in found])
        below = means - np.array([score.low for score in found])
        above = np.array([score.high for score in found]) - means
        style: Literal["--", "-", "none"] = "none"
        if numeric and joined:
            style = "--" if is_control(method) else "-"
        axes.errorbar(
            shifted[known],
            means,
            np.clip([below, above], 0, None),
            marker="o",
            markersize=4,
            capsize=2,
            elinewidth=1,
            linestyle=style,
            color=f"C{at}",
            label=method,
        )
    if numeric:
        _scale(axes, sorted(set(places.tolist())))
    else:
        axes.set_xticks(range(len(distinct)), distinct)


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """A fitting axis with a tick at each value."""
    base = _log_base(values)
    if base:
        axes.set_xscale("log", base=base)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _log_base(values: Sequence[float]) -> int:
    """2 for powers of two, 10 for wide ranges; 0 where an axis is linear."""
    if all(math.log2(value).is_integer() for value in values):
        return 2
    return 10 if max(values) / min(values) >= WIDE else 0


def _aside(places: Values, share: float) -> Values:
    """Places moved by a share of the axis that they span."""
    low, high = float(places.min()), float(places.max())
    moved: Values = places * (high / low) ** share if _log_base(places.tolist()) else places + (high - low) * share
    return moved


def _is_numeric(values: Sequence[Any]) -> bool:
    """Whether values have places on an axis: 0 has none, since it stands for all or for off in most keys."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values)


def _label(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _panel(values: tuple[Any, ...]) -> tuple[str, ...]:
    """The values of all keys but the one across the figure."""
    return tuple(map(_label, values[1:]))


def _of_several_densities(lines: Sequence[Line]) -> list[Line]:
    """The finished lines of a group, if what it sweeps changes the number of passages per expert."""
    finished = [line for line in lines if line.scores]
    return finished if len(set(map(_passages_per_expert, finished))) > 1 else []


def _bytes_per_passage(line: Line, method: str) -> float:
    """Mean over the seeds of a finished combination."""
    return float(np.mean([outcome.methods[method]["bytes_per_passage"] for outcome in line.outcomes]))


def sizes_differ(lines: Sequence[Line]) -> bool:
    """Whether what is swept changes, by more than a hundredth, what a method stores for each passage."""
    finished = [line for line in lines if line.scores]
    sizes = [[_bytes_per_passage(line, name) for line in finished if name in line.scores] for name in methods_of(lines)]
    return any(min(of_method) > 0 and max(of_method) > 1.01 * min(of_method) for of_method in sizes)


def _passages_per_expert(line: Line) -> float:
    return line.outcomes[0].passages / line.point.config.experts.count


def _finish(all_axes: Sequence[Axes]) -> None:
    """What all score figures have in common."""
    all_axes[0].set_ylabel("F1 (95 % interval)")
    all_axes[0].set_ylim(bottom=0)
    for axes in all_axes:
        axes.grid(axis="y", linewidth=0.5, alpha=0.5)
    all_axes[-1].legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _save(folder: Path, name: str, figure: Figure) -> str:
    """Write a figure in both formats; the same figure gives the same bytes. Returns its name."""
    with matplotlib.rc_context({"svg.hashsalt": "polyprag", "svg.fonttype": "none"}):
        for ending in ENDINGS:
            content = io.BytesIO()
            metadata = {"Date": None} if ending == "svg" else {}
            figure.savefig(content, format=ending, dpi=150, metadata=metadata)
            write_bytes(folder / f"{name}.{ending}", content.getvalue())
    return name
