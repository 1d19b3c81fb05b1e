import csv
import io
import re
from typing import cast

import pytest
from rich.console import Console

from polyprag.config import MethodName
from polyprag.evaluation.cost_report import format_questions
from polyprag.evaluation.differences import Difference
from polyprag.evaluation.report import is_control, print_report, results_tables, to_csv, to_latex, to_markdown
from polyprag.evaluation.results import MethodResult, Results

METHODS = [
    *("vanilla", "standard_rag", "prag", "prag_combine", "poly_prag", "poly_prag_combine"),
    *("poly_prag_oracle", "poly_prag_uniform", "poly_prag_shuffled"),
]


def method(types: tuple[str, ...] = (), n: int = 12576, f1: float = 0.873) -> MethodResult:
    """A result whose figures are as wide as they get."""
    result = MethodResult(
        n=n,
        f1=f1,
        em=0.812,
        contains=0.854,
        prag_f1=0.7,
        f1_ci95=[0.843, 0.901],
        seconds_per_question={"total": 12.4, "retrieve": 0.0312, "route": 0.3, "load_merge": 0.32, "generate": 11.8},
        prompt_tokens=1054.4,
        new_tokens=6.2,
        bytes_per_passage=41312.0,
        train_seconds=1234.0,
        choice={},
    )
    if types:
        result["by_type"] = {
            kind: {"n": 30 + i, "f1": 0.1 * i, "em": 0.0, "contains": 0.0, "f1_ci95": [0.0, 1.0]}
            for i, kind in enumerate(types)
        }
    return result


def results(methods: dict[str, MethodResult], differences: tuple[Difference, ...] = ()) -> Results:
    return Results(schema=1, run={}, data={"sha256": "aa"}, methods=methods, differences=list(differences))


def printed(content: Results, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_report(content, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line_of(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return line.split()


DIFFERENCE = Difference(
    **{"a": "poly_prag_combine", "b": "poly_prag_shuffled", "mean": 0.6123, "ci95": [0.55, 0.67], "p": 0.0002},
    **{"p_holm": 0.0108, "d_z": 1.234, "won": 0.625, "tied": 0.25, "lost": 0.125},
)


@pytest.mark.parametrize("width", [60, 100, 160])
def test_every_figure_is_whole_and_lines_keep_to_100_columns(width: int) -> None:
    types = ("comparison", "bridge_comparison", "inference", "compositional", "one_hop", "two_hop", "by_description")
    text = printed(results({name: method(types) for name in METHODS}, (DIFFERENCE,)), width)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    expected = "12576 0.873 0.843–0.901 0.812 0.854 31 ms 0.62 s 11.8 s 41.3 kB 1234 s"
    for name in METHODS:
        assert f"{name} {expected}" in re.sub(" +", " ", text)


def test_all_types_appear_though_they_need_several_tables() -> None:
    types = tuple(f"type_number_{i}_of_many" for i in range(9))
    content = results({"prag": method(types)})
    assert len(results_tables(content)) == 4
    assert max(map(len, printed(content).splitlines())) <= 100
    heads = re.findall(r" (\w+) \(n (\d+)\) \|", to_markdown(content))
    assert heads == [("all", "12576"), *((kind, str(30 + i)) for i, kind in enumerate(types))]


def test_controls_stand_in_a_section_of_their_own_after_the_methods() -> None:
    content = results({name: method() for name in ("poly_prag_oracle", "vanilla", "poly_prag_shuffled", "prag")})
    wanted = ["vanilla", "prag", "controls", "poly_prag_oracle", "poly_prag_shuffled"]
    first_words = [line.split()[0] for line in printed(content).splitlines() if line.strip()]
    assert [word for word in first_words if word in wanted] == wanted * 2  # scores, and costs
    first_cells = re.findall(r"^\| [`*]([a-z_]+)[`*] \|", to_markdown(content), flags=re.MULTILINE)
    assert first_cells == wanted * 2


def costs_of(content: Results) -> tuple[str, list[str]]:
    """Head and rows of the table of costs in Markdown."""
    (table,) = [part for part in to_markdown(content).split("\n\n") if "seconds/question" in part]
    head, _, *rows = table.splitlines()
    return head, rows


def costing(**figures: float | None) -> MethodResult:
    return cast(MethodResult, {**method(), **figures})


MEASURED = {
    **{"seconds_to_first_token": 1.234, "tokens_in": 1054.4, "tokens_out": 12.25, "retrievals": 2.125},
    **{"peak_memory_bytes": 1.339e9, "offline_seconds_per_passage": 15.57},
}


def test_costs_have_a_table_of_their_own() -> None:
    methods = {"flare": costing(**MEASURED), "prag": method()}
    head, (flare, prag) = costs_of(results(methods))
    assert head == (
        "| method | seconds/question | first token | tokens in | tokens out | retrievals "
        "| peak memory | offline/passage |"
    )
    assert flare == "| `flare` | 12.4 s | 1.23 s | 1054 | 12.2 | 2.12 | 1.34 GB | 15.6 s |"
    assert prag == "| `prag` | 12.4 s | – | 1054 | – | – | – | – |"


def test_break_evens_are_told_where_they_are_known() -> None:
    methods = {
        "standard_rag": costing(**MEASURED),
        "prag": costing(**MEASURED, break_even=None),
        "poly_prag_query_combine": costing(**MEASURED, break_even=14.3, break_even_prag=0.25),
    }
    content = results(methods)
    head, rows = costs_of(content)
    assert head.endswith("| break-even RAG | break-even PRAG |")
    assert [row.split("|")[-3:-1] for row in rows] == [[" – ", " – "], [" never ", " – "], [" 14 ", " 0.2 "]]
    text = printed(content)
    assert max(map(len, text.splitlines())) <= 100
    assert "takes less time in all than standard_rag or prag" in " ".join(text.split())


@pytest.mark.parametrize(
    ("questions", "shown"),
    [(None, "never"), (0.0, "0"), (0.04, "0.0"), (2.54, "2.5"), (9.96, "10"), (1234.5, "1234"), (2.5e6, "2.5e+06")],
)
def test_numbers_of_questions_take_seven_characters(questions: float | None, shown: str) -> None:
    assert format_questions(questions) == shown
    assert len(shown) <= 7


def test_a_judges_share_stands_beside_the_other_scores() -> None:
    judged = costing(judge=0.625, judge_ci95=[0.5, 0.75], judge_n=8, judge_agreement=0.875, judge_by="m, judge-1-abc")
    content = results({"prag": judged, "vanilla": method()})
    markdown = to_markdown(content)
    assert "| EM | contains | judge | retrieve |" in markdown
    assert "| 0.812 | 0.854 | 0.625 | 31 ms |" in markdown
    assert "| 0.812 | 0.854 | – | 31 ms |" in markdown
    assert "Judge: share judged correct by m, judge-1-abc." in markdown
    assert max(map(len, printed(content).splitlines())) <= 100
    assert "judge" not in to_markdown(results({"vanilla": method()}))


def test_controls_alone_make_a_table() -> None:
    assert "poly_prag_oracle" in printed(results({"poly_prag_oracle": method()}))


CONTROLS = {
    *("global_lora", "format_lora"),
    *(f"poly_prag_{mode}" for mode in ("oracle", "uniform", "average", "shuffled", "random")),
    *(f"poly_prag_{mode}_combine" for mode in ("oracle", "uniform", "average", "shuffled", "random")),
}


@pytest.mark.parametrize("name", [*MethodName, "oracle_prag"])
def test_is_control(name: str) -> None:
    assert is_control(name) is (name in CONTROLS)


def first_choices(share: float) -> MethodResult:
    """A result whose questions of type `two_hop` have unknown first choices."""
    result = method(("one_hop", "two_hop"))
    result["by_type"]["one_hop"]["own_first"] = share
    return result


def test_right_first_choices_are_told_of_methods_that_choose() -> None:
    shares = {
        "vanilla": method(("one_hop",)),
        "poly_prag_query": first_choices(0.9),
        "standard_rag": first_choices(0.95),
    }
    content = results(
        {**shares, "poly_prag_oracle": first_choices(1.0), "poly_prag_random_combine": first_choices(1.0)}
    )
    (*_, markdown) = to_markdown(content).split("**Share of questions whose first chosen passage is a gold one**")
    assert markdown.split("\n\n")[1].splitlines() == [
        "| method | one_hop (n 30) |",
        "| :-- | --: |",
        "| `poly_prag_query` | 0.900 |",
        "| `standard_rag` | 0.950 |",
    ]
    text = printed(content)
    table = text[text.index("Share of questions") :]
    assert line_of(table, "poly_prag_query") == ["poly_prag_query", "0.900"]


def test_where_no_first_choice_is_known_there_is_no_such_table() -> None:
    content = results({"prag": method(("one_hop",)), "poly_prag_oracle": first_choices(1.0)})
    assert len(results_tables(content)) == 3
    assert "first chosen" not in to_markdown(content)


def test_a_type_that_a_method_lacks_is_a_dash_and_sizes_that_differ_a_range() -> None:
    other = method(("bridge",))
    other["by_type"]["bridge"]["n"] = 12
    content = results({"prag": method(("bridge", "comparison")), "vanilla": other})
    text = printed(content)
    by_type = text[text.index("F1 by question type") :]
    assert line_of(by_type, "prag") == ["prag", "0.873", "0.050", "0.000", "0.100"]
    assert line_of(by_type, "vanilla") == ["vanilla", "0.873", "0.000", "0.000", "–"]
    assert "macro (1–2 types)" in to_markdown(content)
    assert "bridge (n 12–30)" in to_markdown(content)


def test_without_types_and_differences_there_are_scores_and_costs() -> None:
    assert len(results_tables(results({"prag": method()}))) == 2
    assert results_tables(results({})) == ()


def test_differences_show_sign_interval_p_and_effect() -> None:
    worse = Difference(a="prag", b="vanilla", mean=-0.02, ci95=[-0.05, 0.01], p=0.2)
    text = printed(results({}, (DIFFERENCE, worse)))
    figures = "+0.612 +0.550 to +0.670 < 0.001 0.011 +1.23 62/25/12"
    assert line_of(text, "poly_prag_combine")[2:] == figures.split()
    assert line_of(text, "prag")[2:] == ["-0.020", "-0.050", "to", "+0.010", "0.200", "–", "–", "–"]
    assert "adjusted for all 2 of them together" in text


def test_names_are_never_read_as_markup() -> None:
    name, kind = "[bold]x[/bold]", "a|b`c*[red]\x1b[31m\nd\\"
    content = results({name: method((kind,)), "[/]": method()})
    text, markdown = printed(content), to_markdown(content)
    assert name in text
    assert "[/]" in text
    assert "\x1b" not in text + markdown
    assert f"| `{name}` |" in markdown
    tables = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table}) == 1


def test_markdown_is_a_github_table() -> None:
    markdown = to_markdown(results({"prag": method()}))
    assert markdown.endswith("\n")
    assert (
        "| method | n | F1 | 95 % interval | EM | contains | retrieve | route/load | generate | bytes/passage |"
        in markdown
    )
    assert "| `prag` | 12576 | 0.873 | 0.843–0.901 | 0.812 | 0.854 | 31 ms | 0.62 s | 11.8 s | 41.3 kB |" in markdown


CARD = {
    "passages": 1234,
    "duplicates": 7,
    "near_duplicates": {"found": 3, "looked_at": 1234},
    "left_out": {"questions": {"of type [red]a|b\x1b[0m": 4}},
    "overlap": {"training": 0},
    "warnings": ["3 of 30 test questions *equal* to a training question"],
}


def test_facts_about_the_data_stand_below_the_tables() -> None:
    content = results({"prag": method()})
    content["data"] = {"sha256": "aa", "card": CARD}
    text, markdown = printed(content), to_markdown(content)
    assert text.splitlines()[-4:] == [
        "Data",
        "1,234 passages; 7 duplicates collapsed, 3 near duplicates among 1,234",
        "left out (questions): of type [red]a|b�[0m 4",
        "note: 3 of 30 test questions *equal* to a training question",
    ]
    assert markdown.split("**Data**")[1].splitlines()[2:] == [
        "- 1,234 passages; 7 duplicates collapsed, 3 near duplicates among 1,234",
        "- left out (questions): of type \\[red\\]a\\|b�\\[0m 4",
        "- note: 3 of 30 test questions \\*equal\\* to a training question",
    ]


def test_latex_has_the_tables_of_markdown() -> None:
    content = results({name: method(("one_hop", "a&b")) for name in ("prag", "global_lora")}, (DIFFERENCE,))
    text = to_latex(content)
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == len(results_tables(content)) == 4
    assert r"\texttt{prag} & 12576 & 0.873 & 0.843--0.901 & 0.812 & 0.854 & 31 ms & 0.62 s" in text
    assert r"a\&b (n 31)" in text
    assert text.index(r"\emph{controls}") < text.index(r"\texttt{global\_lora}")
    assert r"\texttt{poly\_prag\_combine} & \texttt{poly\_prag\_shuffled} & +0.612" in text


def test_csv_holds_every_number_of_the_results() -> None:
    content = results({"prag": method(("one_hop",)), "vanilla": method()})
    rows = list(csv.DictReader(io.StringIO(to_csv(content))))
    assert [row["method"] for row in rows] == ["prag", "vanilla"]
    for row, result in zip(rows, content["methods"].values(), strict=True):
        assert float(row["f1"]) == result["f1"]
        assert [float(row["f1_ci95.low"]), float(row["f1_ci95.high"])] == result["f1_ci95"]
        assert float(row["seconds_per_question.load_merge"]) == 0.32
    assert float(rows[0]["by_type.one_hop.n"]) == 30
    assert rows[1]["by_type.one_hop.n"] == ""
    assert not [column for column in rows[0] if column.startswith("choice")]
