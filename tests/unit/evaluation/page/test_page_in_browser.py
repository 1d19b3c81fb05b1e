"""The pages in a real, headless Chromium; skipped where there is none."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from page_reading import Shown, wrong_numbers
from rich.console import Console

from polyprag.config import MethodName
from polyprag.evaluation.comparison import compare
from polyprag.evaluation.comparison_report import write_comparison
from polyprag.evaluation.harness import Harness
from polyprag.evaluation.page.page import write_page
from polyprag.evaluation.page.routing import measure_routing
from polyprag.evaluation.recorded import read_runs

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("POLYPRAG_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; POLYPRAG_CHROMIUM may name one")

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
WIDTHS, SCHEMES = (1280, 400), ("light", "dark")
LEAST_TEXT = 9
CONTRAST = 4.5
"""WCAG 2 AA for text."""
HOSTILE = '<script>document.title="owned"</script><img src="https://example.com/x.png">'
NUMBERS = """() => [...document.querySelectorAll('[data-path]')].map(e => [
    Number(e.getAttribute('value') ?? e.dataset.value), e.dataset.path, e.dataset.source ?? '', 'opposite' in e.dataset,
    e.textContent])"""
TEXTS = """() => [...document.querySelectorAll('svg text')].filter(e => e.getClientRects().length).map(e =>
    [e.textContent, parseFloat(getComputedStyle(e).fontSize) * (e.getScreenCTM().d), e.getBoundingClientRect().left,
     e.getBoundingClientRect().right])"""
DRAWINGS = """() => [...document.querySelectorAll('.drawing > svg')].filter(e => e.checkVisibility()).map(e =>
    [e.getBoundingClientRect().width, e.getBoundingClientRect().height])"""
COLOURS = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true}), known = {};
    const pixel = colours => known[colours] ??= (() => { canvas.clearRect(0, 0, 1, 1);
        for (const c of colours) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data]; })();
    const behind = e => e ? [...behind(e.parentElement), getComputedStyle(e).backgroundColor] : [];
    return [...document.querySelectorAll('body *:not(svg *)')].filter(e =>
        [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) && e.checkVisibility()).map(e => {
        const ground = behind(e).filter(c => c != 'rgba(0, 0, 0, 0)');
        return [e.textContent.trim().slice(0, 40), pixel(ground), pixel([...ground, getComputedStyle(e).color])];
    }); }"""
"""Colours behind every visible text, and of the text itself, as the screen has them."""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def views(browser):
    """`views(path)`: the page in a tab of each width and scheme; complaints and foreign requests fail the test."""

    def views(path: Path) -> Iterator[object]:
        for width, scheme in product(WIDTHS, SCHEMES):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            tab = context.new_page()
            complaints, asked = [], []
            tab.on("console", lambda message, said=complaints: said.append(message.text))
            tab.on("pageerror", lambda error, said=complaints: said.append(str(error)))
            tab.on("requestfailed", lambda request, said=complaints: said.append(request.url))
            tab.on("request", lambda request, seen=asked: seen.append(request.url))
            tab.goto(path.as_uri())
            yield tab
            assert tab.title() != "owned"
            context.close()
            assert complaints == []
            assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]

    return views


@pytest.fixture
def whole(make_bench) -> Path:
    """A page of a real evaluation on the tiny model, with store, query router, types and controls."""
    bench = make_bench("answering.shots=0", "answering.passages=1", "answering.combine=sum", router=True)
    names = ("vanilla", "standard_rag", "poly_prag", "poly_prag_query", "poly_prag_oracle", "poly_prag_uniform")
    harness = Harness(bench, Console(file=io.StringIO()))
    harness.run([MethodName(name) for name in names])
    return write_page(harness.folder, bench.folder)


def numbers_of(tab) -> list[Shown]:
    return [Shown(*fields) for fields in tab.evaluate(NUMBERS)]


def luminance(colour: list[int]) -> float:
    shares = [value / 255 for value in colour[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: list[int], b: list[int]) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def check_layout(tab) -> None:
    """The page fits its window, and its figures can be read."""
    width, shown = tab.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert width <= shown
    assert all(width > 40 and height > 10 for width, height in tab.evaluate(DRAWINGS))
    for text, size, left, right in tab.evaluate(TEXTS):
        assert size >= LEAST_TEXT, text
        assert left >= 0, text
        assert right <= shown, text
    faint = [
        (text, contrast(ground, ink)) for text, ground, ink in tab.evaluate(COLOURS) if contrast(ground, ink) < CONTRAST
    ]
    assert faint == []


def test_a_page_of_a_real_evaluation(whole, views):
    folder = whole.parent
    results = json.loads((folder / "results.json").read_text())
    answers: dict = {}
    for line in (folder / "answers.jsonl").read_text().splitlines():
        row = json.loads(line)
        answers.setdefault(row["method"], {})[row["question_id"]] = row["scores"]
    named = {
        "": results,
        "answers.jsonl": answers,
        "data_card.json": json.loads((folder / "data_card.json").read_text()),
        "store": measure_routing(folder.parent / "store", results["run"]["store"], []).numbers.content,
    }
    for tab in views(whole):
        check_layout(tab)
        shown = numbers_of(tab)
        assert wrong_numbers([number for number in shown if not number.path.startswith("types.")], named) == []
        assert {number.source for number in shown} == set(named)
        for name in results["methods"]:
            assert [number for number in shown if number.path == f"methods.{name}.f1"]
        for section in ("scores", "costs", "types", "controls", "routing", "differences", "data", "origin"):
            assert tab.locator(f"section#{section}").is_visible(), section
        commands = tab.locator("pre.commands").inner_text()
        assert re.match(r"python train\.py run\.dir=\S+", commands)
        assert "python evaluate.py run.dir=" in commands
        tab.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
        check_layout(tab)


def test_hostile_text_does_nothing_and_fits(evaluated, views):
    folder = evaluated(
        types=[f"{HOSTILE} {'t' * 200}", "two"] * 3,
        said={"question": f"{HOSTILE} {'q' * 500}", "gold": ("g" * 500, HOSTILE)},
    )
    lines = (folder / "answers.jsonl").read_text().replace(" says ", f" {json.dumps(HOSTILE)[1:-1]} {'a' * 400} ")
    (folder / "answers.jsonl").write_text(lines)
    for tab in views(write_page(folder, folder.parent)):
        check_layout(tab)
        assert tab.locator("img, script").count() == 0
        assert HOSTILE in tab.locator("#answers").inner_text()


@pytest.mark.parametrize("methods", [["vanilla"], list(MethodName)], ids=["one", "all"])
def test_a_page_of_few_or_many_methods(evaluated, views, methods):
    f1 = {str(name): [at / len(methods), 1.0] for at, name in enumerate(methods)}
    folder = evaluated(f1, types=[])
    for tab in views(write_page(folder, folder.parent)):
        check_layout(tab)


def test_a_comparison(evaluated, views, tmp_path):
    folders = [evaluated(run="one"), evaluated(run="two" * 30)]
    write_comparison(compare(read_runs(folders), 100, 0), tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "comparison.json").read_text())
    for tab in views(tmp_path / "out" / "comparison.html"):
        check_layout(tab)
        shown = numbers_of(tab)
        assert shown
        assert wrong_numbers(shown, {"": numbers}) == []
