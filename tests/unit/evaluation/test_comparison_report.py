import csv
import json
import re
from pathlib import Path

import pytest

from polyprag.cli import parse_call
from polyprag.errors import ConfigError
from polyprag.evaluation.comparison_report import compare_runs

F1 = {"vanilla": [0.0, 0.5, 0.0, 0.25], "prag": [1.0, 0.5, 0.0, 1.0], "global_lora": [0.0, 0.0, 0.5, 0.0]}
BETTER = {name: [min(1.0, value + 0.25) for value in values] for name, values in F1.items()}


def run(*argv: object) -> None:
    words = [str(word) for word in argv]
    compare_runs(parse_call(["compare", *words], "evaluate.py", ("run", "compare"), "", takes_folders=("compare",)))


@pytest.fixture
def folders(evaluate, tmp_path, monkeypatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    return [evaluate("one", F1, ["even", "odd"] * 2).parent, evaluate("to_two", BETTER).parent]


def test_tables_are_printed_and_written(folders, tmp_path, capsys) -> None:
    run(*folders, f"run.dir={tmp_path / 'out'}", "evaluation.bootstrap=200")
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 200
    for title in (
        "Runs",
        "F1 by method and run",
        "Scores by method and run",
        "Costs by method and run",
        "F1 of one minus to_two",
    ):
        assert title in text
    assert text.index("prag") < text.index("controls") < text.index("global_lora")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"comparison.{ending}" for ending in ("md", "tex", "csv", "json", "html")}
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    assert f"- to_two: {folders[1] / 'evaluation'}" in markdown.replace("\\", "")
    assert "| `prag` | 0.625 (" in markdown
    assert r"\texttt{to\_two}" in (tmp_path / "out" / "comparison.tex").read_text()


def test_json_and_csv_hold_the_numbers_of_the_results(folders, tmp_path) -> None:
    run(*folders, f"run.dir={tmp_path / 'out'}", "evaluation.bootstrap=200")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines()))
    for folder, told in zip(folders, found["runs"], strict=True):
        results = json.loads((folder / "evaluation" / "results.json").read_text())
        assert told["folders"] == [str(folder / "evaluation")]
        for name, own in results["methods"].items():
            (row,) = [row for row in rows if (row["run"], row["method"]) == (told["label"], name)]
            for key in ("n", "f1", "em", "contains", "bytes_per_passage"):
                assert float(row[key]) == told["methods"][name][key] == own[key]
            assert [float(row["f1_low"]), float(row["f1_high"])] == told["methods"][name]["f1_ci95"] == own["f1_ci95"]
    assert rows[0]["macro_f1"] != ""
    assert {entry["method"] for entry in found["differences"]} == set(F1)
    assert found["schema"] == 1


def test_without_a_folder_it_goes_beside_the_runs(folders, tmp_path) -> None:
    run(*folders, "evaluation.bootstrap=100")
    assert (tmp_path / "runs" / "comparison" / "comparison.md").is_file()


def test_only_named_methods_count(folders, tmp_path, capsys) -> None:
    run(*folders, f"run.dir={tmp_path / 'out'}", "evaluation.bootstrap=100", "methods=[prag]")
    assert "vanilla" not in capsys.readouterr().out


def test_seeds_and_notes_are_shown(evaluate, tmp_path, capsys) -> None:
    config = {"experts.count": 8}
    seeds = [evaluate(f"s{seed}", f1, seed=seed, config=config) for seed, f1 in enumerate((F1, BETTER))]
    other = evaluate("other", F1, about="letter")
    run(*seeds, other, f"run.dir={tmp_path / 'out'}", "evaluation.bootstrap=100")
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "0, 1" in text
    assert "SD: standard deviation of F1 over seeds" in text
    assert "Differences in F1 over questions and seeds: s0 (2 seeds)" in text
    assert "note: 2 different sets of questions, so differences only within each: s0 (2 seeds); other" in text
    assert "**Notes**" in (tmp_path / "out" / "comparison.md").read_text()


def test_the_papers_mean_is_shown_where_runs_cover_the_benchmarks(evaluate, tmp_path, capsys) -> None:
    types = {
        "2wikimultihopqa": ["comparison", "bridge_comparison", "inference", "compositional"],
        "hotpotqa": ["bridge", "comparison"] * 2,
        "popqa": ["author"] * 4,
        "complexwebquestions": ["composition"] * 4,
    }
    runs = [evaluate(name, F1, own, data=name, about=name) for name, own in types.items()]
    run(*runs, f"run.dir={tmp_path / 'out'}", "evaluation.bootstrap=100")
    text = capsys.readouterr().out
    table = text[text.index("papers' eight columns") :]
    line, by_prag = [line for line in table.splitlines() if line.startswith("prag ")]
    mean = (1.0 + 0.5 + 0.0 + 1.0 + 0.5 + 0.75 + 0.625 + 0.625) / 8
    figures = ["1.000", "0.500", "0.000", "1.000", "0.500", "0.750", "0.625", "0.625", f"{mean:.3f}"]
    assert line.split()[1:10] == figures
    halves = ["0.500", "0.250", "0.000", "0.500", "0.250", "0.375", "0.312", "0.312", f"{mean / 2:.3f}"]
    assert by_prag.split()[1:10] == halves
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())["papers_mean"]
    assert found["tiny, none"]["prag"]["mean"] == pytest.approx(mean)


def test_names_are_never_read_as_markup(evaluate, tmp_path, capsys) -> None:
    odd = [evaluate(name, {"prag": [0.5, 1.0], "x|&_\\": [0.0, 1.0]}) for name in ("[b]a&b", "50%_$x")]
    run(*odd, f"run.dir={tmp_path / 'out'}", "evaluation.bootstrap=100")
    assert "[b]a&b" in capsys.readouterr().out
    tex = (tmp_path / "out" / "comparison.tex").read_text()
    assert r"\texttt{50\%\_\$x}" in tex
    for line in tex.splitlines():
        if line.endswith(r" \\"):
            assert not re.search(r"(?<!\\)[%$_#](?!-\$)(?<!\$-\$)", line), line
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    for table in [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_a_dry_run_says_what_it_has_found_and_writes_nothing(folders, tmp_path, capsys) -> None:
    run(*folders, f"run.dir={tmp_path / 'out'}", "--dry-run")
    assert capsys.readouterr().out.splitlines() == [
        f"one: {folders[0] / 'evaluation'}, 4 questions, vanilla, prag, global_lora",
        f"to_two: {folders[1] / 'evaluation'}, 4 questions, vanilla, prag, global_lora",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["experts.count=3"], "experts.count means nothing here"),
        (["--config", "configs/demo.yaml"], "--config means nothing here"),
        (["methods=[dragin]"], "fewer than two evaluations with these methods"),
        (["evaluation.bootstrap=1"], "evaluation.bootstrap"),
        (["no_such_run"], "no_such_run: is no folder"),
    ],
)
def test_calls_that_make_no_sense_end_in_one_line(folders, words, says) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)) as raised:
        run(*folders, *words)
    assert "\n" not in str(raised.value)


def test_one_run_is_nothing_to_compare(folders) -> None:
    with pytest.raises(ConfigError, match="name two runs or more"):
        run(folders[0])
    with pytest.raises(ConfigError, match="name two runs or more"):
        run()
