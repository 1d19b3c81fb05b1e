import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from polyprag.evaluation.page.axes import MOST_STEPS, MOST_TICKS, axis_limit, log_scale, spread_out, ticks_up_to
from polyprag.evaluation.page.charts import Scored, bars, columns, heat_map, reach, scatter
from polyprag.evaluation.page.numbers import seconds
from polyprag.evaluation.report import is_control

NAMES = ["vanilla", "prag", "prag_combine", "poly_prag", "format_lora"]
VALUES = st.floats(0, 1)
COSTS = st.one_of(st.just(0.0), st.floats(1e-6, 1e9))


def point(name: str, value: float, cost: float = 1.0, reach: float = 0.05) -> Scored:
    return Scored(name, value, max(0.0, value - reach), min(1.0, value + reach), Markup(), cost)


def percents(text: str, tag: str, kind: str, attribute: str) -> list[float]:
    return [
        float(value) / 100
        for attributes in re.findall(rf'<{tag} class="{kind}"([^>]*)>', text)
        for value in re.findall(rf' {attribute}="(-?[\d.]+)%"', attributes)
    ]


def marks(text: str) -> list[tuple[float, float]]:
    return [(float(x) / 100, float(y)) for x, y in re.findall(r'<svg x="([\d.]+)%" y="([\d.]+)"', text)]


def test_bars_are_as_long_as_their_scores():
    points = [point("vanilla", 0.1), point("prag", 0.2), point("poly_prag", 0.4)]
    text = bars(points, "F1").__html__()
    lengths = [percents(text, "rect", f"bar {kind}", "width")[0] for kind in ("prompt", "prag", "poly")]
    assert lengths[1] / lengths[0] == pytest.approx(2, abs=1e-3)
    assert lengths[2] / lengths[0] == pytest.approx(4, abs=1e-3)


def test_whiskers_reach_from_low_to_high():
    text = bars([Scored("prag", 0.3, 0.2, 0.5, Markup())], "F1").__html__()
    length = percents(text, "rect", "bar prag", "width")[0]
    low, high = percents(text, "line", "whisker", "x1")[0], percents(text, "line", "whisker", "x2")[0]
    assert low / length == pytest.approx(2 / 3, abs=1e-3)
    assert high / length == pytest.approx(5 / 3, abs=1e-3)


@given(st.lists(VALUES, min_size=1, max_size=5), st.lists(COSTS, min_size=5, max_size=5))
def test_everything_lies_within_its_figure(values, costs):
    points = [point(name, value, cost) for name, value, cost in zip(NAMES, values, costs, strict=False)]
    for drawing in (bars(points, "F1"), scatter(points, "F1", "seconds", seconds)):
        text = drawing.__html__()
        assert "nan" not in text
        for x in re.findall(r' (?:x|x1|x2|width)="(-?[\d.]+)%"', text):
            assert 0 <= float(x) <= 100
        for y in re.findall(r' (?:y|y1|y2)="(-?[\d.]+)"', text):
            assert 0 <= float(y) <= drawing.height


@given(st.lists(st.tuples(VALUES, COSTS), min_size=2, max_size=5))
def test_a_scatter_keeps_the_order_of_scores_and_costs(pairs):
    points = [point(name, value, cost) for name, (value, cost) in zip(NAMES, pairs, strict=False)]
    text = scatter(points, "F1", "seconds", seconds).__html__()
    placed = marks(text)[len(points) :]  # those before are beside the names
    ordered = sorted(points, key=lambda one: -one.value)
    for (one, (x, y)), (other, (x2, y2)) in pairwise(zip(ordered, placed, strict=True)):
        assert y <= y2 + 0.11
        if one.cost < other.cost:
            assert x <= x2
        if one.cost > other.cost:
            assert x >= x2


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_names_beside_a_figure_do_not_cover_one_another(places):
    moved = spread_out(sorted(places), 16, 8, 292)
    assert all(after - before >= 16 - 1e-9 for before, after in pairwise(moved))
    assert min(moved) >= 8 - 1e-9
    assert max(moved) <= 292 + 1e-9


@given(st.floats(1e-6, 1e9), st.floats(1, 1e9))
def test_logarithmic_ticks_are_few_and_within_the_axis(low, ratio):
    scale = log_scale([low, low * ratio])
    assert 1 <= len(scale.ticks) <= MOST_TICKS
    assert all(0 <= scale.across(tick) <= 1 for tick in scale.ticks)


@given(st.floats(0, 1))
def test_an_axis_of_scores_ends_above_the_highest(highest):
    limit, step = axis_limit(highest)
    ticks = ticks_up_to(limit, step)
    assert ticks[-1] == pytest.approx(limit)
    assert highest <= limit + 1e-9
    assert 2 <= len(ticks) <= MOST_STEPS + 1


def test_names_that_a_figure_shows_are_escaped_and_cut():
    text = bars([point("<script>" + "x" * 50, 0.5)], 'a "title" <b>').__html__()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "…" in text
    assert 'aria-label="a &#34;title&#34; &lt;b&gt;"' in text


def test_controls_are_drawn_below_the_others():
    text = bars([point("format_lora", 0.9), point("prag", 0.1)], "F1").__html__()
    assert is_control("format_lora")
    assert text.index("bar prag") < text.index("bar control")


def test_a_heat_map_has_every_cell_once():
    levels = [[0.0, 1.0, 1.0], [0.5, 0.5, 0.0]]
    text = heat_map(levels, "gates", "expert").__html__()
    cells = {
        (int(x) + at, int(y)): float(level)
        for level, path in re.findall(r'fill-opacity="([\d.]+)" d="([^"]*)"', text)
        for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)", path)
        for at in range(int(width))
    }
    assert cells == {(1, 0): 1.0, (2, 0): 1.0, (0, 1): 0.5, (1, 1): 0.5}


def test_columns_show_the_experts_beside_even_use():
    text = columns([0.5, 0.25, 0.25], "use", "expert").__html__()
    heights = [float(h) for h in re.findall(r'<rect class="bar poly"[^>]* height="([\d.]+)"', text)]
    assert heights[0] / heights[1] == pytest.approx(2, abs=0.01)
    assert text.count('class="even"') == 1


def test_an_interval_around_zero_is_drawn_to_scale():
    text = reach(-0.5, 0.25, 1.0, 1.0, "a minus b").__html__()
    assert percents(text, "line", "whisker", "x1") == [0.25]
    assert percents(text, "line", "whisker", "x2") == [1.0]
    assert marks(text)[0][0] == 0.625
