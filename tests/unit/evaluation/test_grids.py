import io

import pytest
from rich.console import Console

from polyprag.evaluation.grids import (
    Grid,
    csv_text,
    fitting,
    format_bytes,
    format_p,
    format_seconds,
    grid_markdown,
    grid_table,
    grids_latex,
    print_tables,
)

GRID = Grid("F1 of [b]x[/b] | *y*", ("name", "a\nb"), (("one_two", "-0.1"),), (("three", "–"),), note="Of `z`.")


def test_titles_and_notes_are_never_read_as_markup() -> None:
    console = Console(file=io.StringIO(), width=100)
    print_tables([grid_table(GRID)], console)
    assert isinstance(console.file, io.StringIO)
    assert "F1 of [b]x[/b] | *y*" in " ".join(console.file.getvalue().split())
    assert grid_markdown(GRID).splitlines() == [
        r"**F1 of \[b\]x\[/b\] \| \*y\***",
        "",
        "| name | a b |",
        "| :-- | --: |",
        "| `one_two` | -0.1 |",
        "| *controls* |  |",
        "| `three` | – |",
        "",
        r"Of \`z\`.",
    ]


def test_latex_says_which_packages_it_wants() -> None:
    text = grids_latex([GRID, GRID])
    assert text.startswith("% ")
    assert "booktabs" in text.splitlines()[0]
    assert text.count(r"\texttt{one\_two} & $-$0.1 \\") == 2
    assert text.endswith("\\end{table}\n")


def test_csv_quotes_what_needs_it_and_leaves_the_unknown_empty() -> None:
    assert csv_text(["a", "b"], [["x, y", None], [1, 0.1 + 0.2]]) == 'a,b\n"x, y",\n1,0.30000000000000004\n'


def test_columns_that_do_not_fit_go_into_another_table() -> None:
    heads = {at: f"run-{at}" for at in range(9)}
    assert fitting(heads) == [list(range(9))]
    groups = fitting(heads, least=17)
    assert [at for group in groups for at in group] == list(range(9))
    assert [len(group) for group in groups] == [4, 4, 1]


def test_p_values() -> None:
    assert [format_p(p) for p in (0.0002, 0.001, 0.0449, 1.0)] == ["< 0.001", "0.001", "0.045", "1.000"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        *((0.0, "–"), (0.0001, "< 1 ms"), (0.0312, "31 ms"), (0.0996, "0.10 s"), (0.62, "0.62 s"), (9.994, "9.99 s")),
        *((9.999, "10.0 s"), (99.96, "100 s"), (1234.4, "1234 s"), (9999.9, "2.8 h"), (360000.0, "100.0 h")),
    ],
)
def test_seconds(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        *((0.0, "–"), (820.4, "820 B"), (999.6, "1.00 kB"), (9_996.0, "10.0 kB"), (41_312.0, "41.3 kB")),
        *((412_900.0, "413 kB"), (999_600.0, "1.00 MB"), (12e9, "12.0 GB"), (4e15, "4000 TB")),
    ],
)
def test_bytes(size: float, expected: str) -> None:
    assert format_bytes(size) == expected
