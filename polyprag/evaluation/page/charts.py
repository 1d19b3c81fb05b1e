"""The figures of a page: bars with intervals, scores against costs, expert use, heat maps, intervals around zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from polyprag.evaluation.page.axes import axis_limit, log_scale, short_number, spread_out, tick_kind, ticks_up_to
from polyprag.evaluation.page.drawing import Drawing, room_for
from polyprag.evaluation.page.numbers import Format, Source, score
from polyprag.evaluation.page.pieces import FAMILIES, family_of, kind_of
from polyprag.evaluation.report import is_control

ROW, LINE = 26, 16
"""Pixels between bars, and between labels beside a figure."""
SCATTER_HEIGHT = 300
MOST_NUMBERS = 16
"""Experts that are numbered; of more, every second or so."""


@dataclass(frozen=True)
class Scored:
    """A method's score in a figure.

    Attributes:
        method: its name.
        value: the score, from 0 to 1.
        low: lower end of its 95 % interval.
        high: upper end.
        attributes: where the score was read.
        cost: what it is drawn against, at least 0; not needed for bars.
    """

    method: str
    value: float
    low: float
    high: float
    attributes: Markup
    cost: float = 0.0


def scored(source: Source, method: str, result: tuple[str | int, ...], cost: tuple[str | int, ...] = ()) -> Scored:
    """A method's F1 in a source.

    Args:
        source: of the numbers.
        method: its name.
        result: path of its result.
        cost: path of a cost within the result.
    """
    ends = source.get(*result, "f1_ci95")
    paid = source.get(*result, *cost) if cost else 0.0
    return Scored(method, source.get(*result, "f1"), ends[0], ends[1], source.attributes(*result, "f1"), paid)


def bars(points: Sequence[Scored], title: str) -> Drawing:
    """A bar with its interval for each method, controls below the others."""
    own = [point for point in points if not is_control(point.method)]
    controls = [point for point in points if is_control(point.method)]
    gap = LINE if own and controls else 0
    bottom = ROW * len(points) + gap + 4
    names = [point.method for point in points]
    drawing = Drawing(title, bottom + 24, room_for(names), 52)
    limit, step = axis_limit(max((point.high for point in points), default=0.0))
    for at, tick in enumerate(ticks_up_to(limit, step)):
        drawing.line((tick / limit, 0), (tick / limit, bottom), "grid")
        drawing.text((tick / limit, bottom + 16), f"{tick:.3g}", "middle", kind=tick_kind(at))
    for at, point in enumerate(own + controls):
        _bar(drawing, point, limit, ROW * at + (gap if at >= len(own) else 0))
    return drawing


def _bar(drawing: Drawing, point: Scored, limit: float, top: float) -> None:
    middle = top + ROW / 2
    drawing.text((0, middle + 4), point.method, "end", -8)
    drawing.box((0, point.value / limit), (top + 5, top + ROW - 5), f"bar {kind_of(point.method)}")
    low, high = point.low / limit, point.high / limit
    drawing.line((low, middle), (high, middle), "whisker")
    for end in (low, high):
        drawing.line((end, middle - 4), (end, middle + 4), "whisker")
    drawing.text((1, middle + 4), score(point.value), "start", 10, "value", point.attributes)


def scatter(points: Sequence[Scored], title: str, axis: str, unit: Format) -> Drawing:
    """Scores against a cost on a logarithmic axis, each point with its interval and its name beside the figure.

    Args:
        points: the methods.
        title: see `Drawing`.
        axis: what the costs are.
        unit: how they are written.
    """
    room = max(SCATTER_HEIGHT, LINE * len(points))
    drawing = Drawing(title, room + 44, 36, room_for([point.method for point in points]) + 12)
    limit, step = axis_limit(max((point.high for point in points), default=0.0))
    scale = log_scale([point.cost for point in points])

    def down(value: float) -> float:
        return 8 + (room - 16) * (1 - value / limit)

    for tick in ticks_up_to(limit, step):
        drawing.line((0, down(tick)), (1, down(tick)), "grid")
        drawing.text((0, down(tick) + 4), f"{tick:.3g}", "end", -8, "tick")
    for at, tick in enumerate(scale.ticks):
        drawing.line((scale.across(tick), 8), (scale.across(tick), room), "grid")
        text = short_number(unit(tick)) if tick else "0"
        drawing.text((scale.across(tick), room + 16), text, "middle", kind=tick_kind(at))
    drawing.text((0.5, room + 38), axis, "middle", kind="axis")
    ordered = sorted(points, key=lambda point: -point.value)
    heights = spread_out([down(point.value) for point in ordered], LINE, 8, room - 8)
    for point, height in zip(ordered, heights, strict=True):
        place, kind = scale.across(point.cost), kind_of(point.method)
        drawing.line((place, down(point.value)), (1, height), f"leader {kind}")
        drawing.line((place, down(point.low)), (place, down(point.high)), f"reach {kind}")
        drawing.mark((1, height), FAMILIES[family_of(point.method)][0], f"mark {kind}", aside=10)
        drawing.text((1, height + 4), point.method, "start", 20)
    for point in ordered:
        shape = FAMILIES[family_of(point.method)][0]
        drawing.mark((scale.across(point.cost), down(point.value)), shape, f"mark {kind_of(point.method)}")
    return drawing


def columns(shares: Sequence[float], title: str, axis: str) -> Drawing:
    """A column for each expert, with a line at the height that all alike would have."""
    room, even = 150.0, 1 / len(shares)
    drawing = Drawing(title, room + 40, 36, 8)
    limit, step = axis_limit(max(shares))
    for tick in ticks_up_to(limit, step):
        height = room * (1 - tick / limit)
        drawing.line((0, height + 6), (1, height + 6), "grid")
        drawing.text((0, height + 10), f"{tick:.3g}", "end", -8, "tick")
    width = 1 / len(shares)
    every = math.ceil(len(shares) / MOST_NUMBERS)
    for at, value in enumerate(shares):
        box = ((at + 0.15) * width, (at + 0.85) * width)
        drawing.box(box, (6 + room * (1 - value / limit), 6 + room), "bar poly")
        if at % every == 0:
            drawing.text(((at + 0.5) * width, room + 20), str(at), "middle", kind="tick")
    drawing.line((0, 6 + room * (1 - even / limit)), (1, 6 + room * (1 - even / limit)), "even")
    drawing.text((0.5, room + 38), axis, "middle", kind="axis")
    return drawing


def heat_map(levels: Sequence[Sequence[float]], title: str, axis: str) -> Drawing:
    """Rows of amounts from 0 to 1, with the numbers of the columns below."""
    height = min(340.0, max(60.0, 6.0 * len(levels)))
    drawing = Drawing(title, height + 40, 8, 8)
    drawing.box((0, 1), (0, height), "heat-ground")
    drawing.heat(levels, (0, height))
    experts = len(levels[0])
    for at in range(0, experts, math.ceil(experts / MOST_NUMBERS)):
        drawing.text(((at + 0.5) / experts, height + 16), str(at), "middle", kind="tick")
    drawing.text((0.5, height + 36), axis, "middle", kind="axis")
    return drawing


def reach(low: float, middle: float, high: float, limit: float, title: str) -> Drawing:
    """An interval around zero, for a cell of a table; all of a table share their limit."""
    drawing = Drawing(title, 20)

    def across(value: float) -> float:
        return 0.5 + 0.5 * value / limit

    drawing.line((0.5, 0), (0.5, 20), "zero")
    drawing.line((across(low), 10), (across(high), 10), "whisker")
    drawing.mark((across(middle), 10), "dot", "mark plain")
    return drawing
