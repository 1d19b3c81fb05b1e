"""What a look inside shows, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from polyprag.evaluation.grids import Grid, Row, grid_table, print_tables
from polyprag.evaluation.inspection import Inspection, RoutingView

MOST_EXPERTS = 16
"""Experts shown of a larger pool."""

_NOTHING = "–"


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print all tables of a look inside, without those that would be empty."""
    grids = inspection_grids(inspection)
    print_tables((grid_table(grid) for grid in grids if grid.rows), console)


def inspection_grids(inspection: Inspection) -> tuple[Grid, ...]:
    """Answers, routings, their passages, experts and groups, and the nearest task rows, in this order."""
    views = inspection.routings
    return (
        _answer_grid(inspection),
        _routing_grid(views),
        _passage_grid(views),
        _expert_grid(views),
        _group_grid(views),
        _nearest_grid(inspection),
    )


def _answer_grid(inspection: Inspection) -> Grid:
    rows: list[Row] = [("question", "", inspection.question)]
    if inspection.gold:
        rows.append(("gold", "", " / ".join(inspection.gold)))
    rows.append(("none", "base model alone", inspection.base or _NOTHING))
    for view in inspection.routings:
        rows.append((view.mode, "chosen gates", view.answer or _NOTHING))
        rows.append(("", "without each group's strongest expert", view.without or _NOTHING))
        rows.append(("", "uniform gates", view.uniform or _NOTHING))
    note = "Uniform gates have the sum of the chosen ones; so have those without the strongest, if others are left."
    return Grid("Answers", ("routing", "experts", "answer"), tuple(rows), names=3, note=note)


def _routing_grid(views: Sequence[RoutingView]) -> Grid:
    rows = tuple(
        (
            view.mode,
            str(view.setting.passages or _NOTHING),
            view.setting.combine,
            f"{view.entropy:.3f}",
            f"{view.margin:.3f}",
            "yes" if view.abstains else "no",
            f"{view.active:.1f} of {len(view.experts)}",
        )
        for view in views
    )
    head = ("routing", "passages", "combined by", "entropy", "margin", "abstains", "active\nexperts")
    return Grid("How sure each routing is", head, rows)


def _passage_grid(views: Sequence[RoutingView]) -> Grid:
    rows = tuple(
        (
            view.mode * (rank == 0),
            candidate.passage.id,
            candidate.passage.title,
            f"{candidate.weight:.3f}",
            "yes" if candidate.chosen else "",
            "yes" if candidate.gold else "",
        )
        for view in views
        for rank, candidate in enumerate(view.candidates)
    )
    return Grid("Passages considered", ("routing", "passage", "title", "weight", "chosen", "gold"), rows, names=3)


def _expert_grid(views: Sequence[RoutingView]) -> Grid:
    """The experts by falling mean gate of the first routing."""
    order = sorted(views[0].experts, key=lambda use: -use.mean_gate)
    shown = [use.expert for use in order[:MOST_EXPERTS]]
    rows = tuple(
        (
            str(expert),
            *(
                figure
                for view in views
                for figure in (f"{view.experts[expert].mean_gate:.3f}", f"{view.experts[expert].strongest:.0%}")
            ),
        )
        for expert in shown
    )
    head = ("expert", *(text for view in views for text in (f"{view.mode}\nmean gate", f"{view.mode}\nstrongest")))
    note = "Mean gate over the groups; share of the groups in which the expert is the strongest."
    if len(order) > len(shown):
        note += f" {len(shown)} of {len(order)} experts."
    return Grid("Experts", head, rows, note=note)


def _group_grid(views: Sequence[RoutingView]) -> Grid:
    rows = tuple(
        (view.mode * (rank == 0), group.name, str(group.expert), f"{group.share:.1%}")
        for view in views
        for rank, group in enumerate(view.groups)
    )
    head = ("routing", "group", "expert", "share of\nthe gates")
    return Grid("Most decided groups", head, rows, names=2)


def _nearest_grid(inspection: Inspection) -> Grid:
    rows = tuple(
        (neighbour.passage.id, neighbour.passage.title, f"{neighbour.cosine:.3f}") for neighbour in inspection.nearest
    )
    note = f"Cosine with the gates of {inspection.routings[0].mode} routing."
    return Grid("Nearest task rows", ("passage", "title", "cosine"), rows, names=2, note=note)
