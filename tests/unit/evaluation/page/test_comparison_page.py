import json

import pytest
from made_answers import F1, TYPES
from page_reading import Page, wrong_numbers

from polyprag.evaluation.comparison import compare
from polyprag.evaluation.comparison_report import write_comparison
from polyprag.evaluation.page.comparison_page import PAGE
from polyprag.evaluation.recorded import read_runs

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def compared(evaluated, tmp_path):
    """`compared(folders)`: the page of a comparison, read, and the numbers beside it."""

    def write(folders):
        write_comparison(compare(read_runs(folders), 100, 0), tmp_path / "out")
        numbers = json.loads((tmp_path / "out" / "comparison.json").read_text())
        page = Page((tmp_path / "out" / PAGE).read_text(encoding="utf-8"))
        assert not page.open
        assert not page.stray
        assert wrong_numbers(page.numbers, {"": numbers}) == []
        assert "script" not in page.tags
        return page, numbers

    return write


def test_every_score_and_difference_is_on_the_page(evaluated, compared):
    folders = [evaluated(run="one"), evaluated({name: F1[name] for name in ("prag", "format_lora")}, run="two")]
    page, numbers = compared(folders)
    paths = {number.path for number in page.numbers}
    for at, run in enumerate(numbers["runs"]):
        for name in run["methods"]:
            for key in ("n", "f1", "f1_ci95.0", "em", "contains", "seconds_per_question", "bytes_per_passage"):
                assert f"runs.{at}.methods.{name}.{key}" in paths
    assert len(numbers["differences"]) == 2
    for at in range(2):
        assert {f"differences.{at}.mean", f"differences.{at}.p_holm"} <= paths
    text = " ".join(page.text)
    assert text.index("poly_") < text.index("controls")


def test_runs_on_other_questions_have_a_note_instead_of_differences(evaluated, compared):
    folders = [evaluated(run="one"), evaluated(run="two", said={"question": f"other {HOSTILE}"})]
    page, numbers = compared(folders)
    assert not numbers["differences"]
    assert "different sets of questions" in " ".join(page.text)


def test_seeds_and_the_papers_mean_are_shown(evaluated, compared):
    def named(data, seed=0):
        def change(results):
            results["data"]["name"] = data
            results["run"] |= {"seed": seed, "config": {"run.seed": seed, "data.name": data}}

        return change

    kinds = {
        "2wikimultihopqa": ["comparison", "bridge_comparison", "inference", "compositional"],
        "hotpotqa": ["bridge", "comparison"],
        **dict.fromkeys(("popqa", "complexwebquestions"), TYPES[:2]),
    }
    folders = [
        evaluated(types=(types * 6)[:6], change=named(data), run=f"{data}-{HOSTILE.replace('/', '')}")
        for data, types in kinds.items()
    ]
    folders.append(evaluated(types=TYPES, change=named("popqa", seed=1), run="again"))
    page, numbers = compared(folders)
    assert numbers["papers_mean"]
    assert numbers["differences_over_seeds"]
    paths = {number.path for number in page.numbers}
    assert {f"papers_mean.tiny, none.prag.{scorer}columns.7" for scorer in ("", "prag_f1.")} <= paths
    assert "runs.0.methods.prag.prag_f1" in paths
    assert any(path.startswith("differences_over_seeds.") for path in paths)
    assert "<script>alert(1)" in "".join(page.text)


def test_one_run_alone_can_be_shown(evaluated, compared):
    page, _ = compared([evaluated({"vanilla": [0.0, 0.0]}, types=[])])
    assert "runs.0.methods.vanilla.f1" in {number.path for number in page.numbers}
