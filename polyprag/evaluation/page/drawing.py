"""Figures as inline SVG that fill the width they are given while their text keeps its size.

Places across are shares of the width, from 0 to 1; places down are pixels. So nothing is scaled, and a figure is as
legible on a telephone as on a wide screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup

from polyprag.markdown import printable

Anchor = Literal["start", "middle", "end"]
CHARACTER = 6.5
"""Width of a character of a figure's labels in pixels, on the wide side."""
LONGEST = 26
"""Characters of a label beyond which it is cut."""
HEAT_LEVELS = 24
"""Shades of a heat map."""
NOTHING = Markup("")
MARKS = {
    "circle": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "square": "M-4.5 -4.5h9v9h-9z",
    "diamond": "M0 -6.2L6.2 0L0 6.2L-6.2 0z",
    "triangle": "M0 -6L5.8 4.6H-5.8z",
    "wedge": "M0 6L5.8 -4.6H-5.8z",
    "bar": "M-5.5 -2h11v4h-11z",
    "dot": "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z",
}


class Drawing:
    """An SVG drawing that grows by what is put into it.

    Args:
        title: what it shows, for those who cannot see it.
        height: in pixels.
        left: room for labels on the left, in pixels.
        right: the same on the right.
    """

    def __init__(self, title: str, height: float, left: float = 0, right: float = 0) -> None:
        self.title, self.height, self.left, self.right = title, height, left, right
        self._parts: list[Markup] = []

    def line(self, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
        """A straight line between two places (across, down) of a kind that the style sheet knows."""
        self._parts.append(
            Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
                kind, _percent(start[0]), _pixels(start[1]), _percent(end[0]), _pixels(end[1])
            )
        )

    def box(self, across: tuple[float, float], down: tuple[float, float], kind: str) -> None:
        """A filled box from one share of the width to another, and from one pixel row to another."""
        self._parts.append(
            Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                kind, _percent(across[0]), _pixels(down[0]), _percent(across[1] - across[0]), _pixels(down[1] - down[0])
            )
        )

    def mark(self, at: tuple[float, float], shape: str, kind: str, aside: float = 0) -> None:
        """One of `MARKS` at a place, or some pixels to the right of it."""
        moved = Markup(' transform="translate({} 0)"').format(_pixels(aside)) if aside else ""
        self._parts.append(
            Markup('<svg x="{}" y="{}" overflow="visible"><path class="{}" d="{}"{}/></svg>').format(
                _percent(at[0]), _pixels(at[1]), kind, MARKS[shape], moved
            )
        )

    def text(
        self,
        at: tuple[float, float],
        text: str,
        anchor: Anchor = "start",
        aside: float = 0,
        kind: str = "label",
        attributes: Markup = NOTHING,
    ) -> None:
        """A line of text.

        Args:
            at: the place of its base line.
            text: at most `LONGEST` characters of it are shown.
            anchor: which end of the text lies there.
            aside: pixels by which it is moved to the right.
            kind: as the style sheet knows it.
            attributes: of the element, see `polyprag.evaluation.page.numbers.Source.attributes`.
        """
        self._parts.append(
            Markup('<text class="{}" x="{}" y="{}" dx="{}" text-anchor="{}"{}>{}</text>').format(
                kind, _percent(at[0]), _pixels(at[1]), _pixels(aside), anchor, attributes, cut(text)
            )
        )

    def heat(self, levels: Sequence[Sequence[float]], down: tuple[float, float]) -> None:
        """Cells of a heat map over the whole width, one row below the other.

        Args:
            levels: rows of numbers from 0 to 1.
            down: the pixel rows between which they lie.
        """
        paths: dict[int, list[str]] = {}
        for row, values in enumerate(levels):
            for start, length, level in _runs([round(value * HEAT_LEVELS) for value in values]):
                paths.setdefault(level, []).append(f"M{start} {row}h{length}v1h-{length}z")
        cells = Markup().join(
            Markup('<path class="heat-cell" fill-opacity="{}" d="{}"/>').format(
                f"{level / HEAT_LEVELS:.3f}", "".join(pieces)
            )
            for level, pieces in sorted(paths.items())
            if level
        )
        self._parts.append(
            Markup(
                '<svg y="{}" width="100%" height="{}" viewBox="0 0 {} {}" preserveAspectRatio="none"'
                ' shape-rendering="crispEdges">{}</svg>'
            ).format(_pixels(down[0]), _pixels(down[1] - down[0]), len(levels[0]), len(levels), cells)
        )

    def __html__(self) -> Markup:
        """The drawing with room for its labels."""
        return Markup(
            '<div class="drawing" style="padding:0 {}px 0 {}px">'
            '<svg role="img" aria-label="{}" width="100%" height="{}">{}</svg></div>'
        ).format(
            _pixels(self.right),
            _pixels(self.left),
            printable(self.title),
            _pixels(self.height),
            Markup().join(self._parts),
        )


def cut(text: str) -> str:
    """A label that is not too long."""
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def room_for(labels: Sequence[str]) -> float:
    """Pixels that the longest of some labels takes, with a gap beside it."""
    return 12 + CHARACTER * max((len(cut(label)) for label in labels), default=0)


def _runs(levels: Sequence[int]) -> list[tuple[int, int, int]]:
    """Start, length and value of the runs of equal values."""
    runs: list[tuple[int, int, int]] = []
    for at, level in enumerate(levels):
        if runs and runs[-1][2] == level:
            start, length, _ = runs.pop()
            runs.append((start, length + 1, level))
        else:
            runs.append((at, 1, level))
    return runs


def _percent(value: float) -> str:
    return f"{value * 100:.2f}%"


def _pixels(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
