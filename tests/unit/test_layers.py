"""Imports only run downward through the house, and the entry points stay short."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = ("train.py", "evaluate.py")
LONGEST_ENTRY_POINT = 125
LAYERS: tuple[set[str], ...] = (
    {"errors"},
    {"config", "records"},
    {"files"},
    {"child", "sealed", "signals"},
    {"passages"},
    {"config_docs", "cli", "latex", "markdown", "metrics"},
    {"chat", "retrieval"},
    {"knowledge"},
    {"experts"},
    {"answering"},
    {"augmentation"},
    {"manifest", "store", "runs", "router_store", "translator_store"},
    {"training"},
    {"methods"},
    {"evaluation"},
    {"sweeps"},
)
"""From the bottom up; a module may import from its own layer and from those below."""
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "polyprag").rglob("*.py"))
}


def imports_in(tree: ast.AST, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Line and module of every import, also inside functions; `from package import module` names the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name if name in modules else str(node.module)) for name in whole)


def imports_of(name: str) -> list[tuple[int, str]]:
    return list(imports_in(ast.parse(FILES[name].read_text(encoding="utf-8")), set(FILES)))


def level_of(module: str) -> int:
    """The layer of a module of the package, which itself lies below all."""
    parts = module.split(".")
    return LEVELS[parts[1]] if len(parts) > 1 else -1


def test_every_module_has_a_layer():
    assert {name.split(".")[1] for name in FILES if "." in name} == set(LEVELS)


@pytest.mark.parametrize("name", FILES)
def test_imports_run_downward(name):
    own = [(line, module) for line, module in imports_of(name) if module.split(".")[0] == "polyprag"]
    upward = [f"{FILES[name]}:{line}: {module}" for line, module in own if level_of(module) > level_of(name)]
    assert not upward


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: {module for _, module in imports_of(name) if module in FILES} for name in FILES}
    TopologicalSorter(graph).prepare()


def test_nothing_imports_the_entry_points_or_the_tests():
    above = {"train", "evaluate", "tests", "conftest"}
    assert not [name for name in FILES for _, module in imports_of(name) if module.split(".")[0] in above]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_point_tells_its_story_on_two_screens(name):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= LONGEST_ENTRY_POINT


def test_the_reader_of_imports_sees_them_all():
    text = "import os, a.b\nfrom p import q, r\ndef f():\n    import c\n    from p.q import s\n"
    found = list(imports_in(ast.parse(text), {"p.q"}))
    assert sorted(found) == [(1, "a.b"), (1, "os"), (2, "p"), (2, "p.q"), (4, "c"), (5, "p.q")]
