import json
from pathlib import Path

import pytest

from benchmarks import suite
from benchmarks.measuring import Bar, Case, Measured, alternate, quartiles, ratio
from polyprag.errors import ConfigError


def case_of(name: str, value: float = 2.0, slow: bool = False) -> Case:
    return Case(name, f"what {name} does", "its peer", Bar.at_least(1.5), lambda: Measured(value, (1.0, 3.0)), slow)


MODULES = {"fast": (case_of("a"), case_of("b")), "more": (case_of("c", slow=True),)}
MIXED = {**MODULES, "both": (case_of("d"), case_of("e", slow=True))}


def test_bars_hold_up_to_and_at_their_limit():
    assert Bar.at_least(1.2).holds(1.2)
    assert not Bar.at_least(1.2).holds(1.19)
    assert Bar.at_most(0.3).holds(0.3)
    assert not Bar.at_most(0.3).holds(0.31)


def test_forms_alternate_and_warm_ups_do_not_count():
    calls: list[str] = []
    ticks = iter(range(100))
    forms = {name: (lambda name=name: calls.append(name)) for name in "xyz"}
    seconds = alternate(forms, rounds=3, warm_ups=1, clock=lambda: next(ticks))
    assert calls == [*"zyx", *"xyz", *"zyx", *"xyz"]
    assert seconds == {name: [1, 1, 1] for name in "xyz"}


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    measured = ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0], tokens=7)
    assert measured == Measured(2.0, (1.5, 2.5), {"tokens": 7})
    assert quartiles([5.0]) == (5.0, 5.0)


@pytest.mark.parametrize(
    ("names", "slow", "expected"),
    [
        ([], False, "abd"),
        ([], True, "abcde"),
        (["b"], False, "b"),
        (["c"], False, "c"),
        (["more"], False, "c"),
        (["both"], False, "d"),
        (["both"], True, "de"),
        (["c", "fast"], False, "abc"),
        (["all"], False, "abcde"),
    ],
)
def test_cases_are_chosen_by_their_own_name_or_their_modules(names, slow, expected):
    assert "".join(case.name for case in suite.chosen_cases(MIXED, names, slow)) == expected


def test_a_name_of_nothing_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="no case 'd'; choose from all, fast, more, a, b, c"):
        suite.chosen_cases(MODULES, ["d"], False)


def test_results_have_the_documented_form_and_keep_what_was_not_run(tmp_path, monkeypatch, capsys):
    path = tmp_path / "results.json"
    monkeypatch.setattr(suite, "found_cases", lambda: MODULES)
    monkeypatch.setattr(suite, "outcome", lambda case: row_of(case, 2.0))
    suite.main(["--results", str(path), "CASE=b"])
    monkeypatch.setattr(suite, "outcome", lambda case: row_of(case, 1.0))
    with pytest.raises(SystemExit):
        suite.main(["--results", str(path), "CASE=a"])
    results = json.loads(path.read_text())
    assert {"cpu", "cores", "threads", "torch", "load_at_start"} <= results["machine"].keys()
    assert list(results["cases"]) == ["a", "b"]
    assert [row["holds"] for row in results["cases"].values()] == [False, True]
    assert {"value", "bar", "holds", "spread", "against"} <= results["cases"]["a"].keys()
    assert "| a | what a does | its peer | 1 | 1 to 3 | ≥ 1.5 | no |" in path.with_suffix(".md").read_text()
    assert "what a does" in capsys.readouterr().out


def row_of(case: Case, value: float) -> dict[str, object]:
    return suite.row_of(case) | {"value": value, "spread": [1.0, 3.0], "holds": case.bar.holds(value)}


def test_results_of_another_machine_are_left_out(tmp_path, capsys):
    path, now = tmp_path / "results.json", suite.machine()
    path.write_text(json.dumps({"machine": {**now, "cores": -1}, "cases": {"a": {}}}))
    assert suite.earlier(path, now) == {"machine": now, "cases": {}}
    assert "another machine" in capsys.readouterr().err
    path.write_text(json.dumps({"machine": {**now, "load_at_start": -1}, "cases": {"a": {}}}))
    assert suite.earlier(path, now)["cases"] == {"a": {}}


def test_a_case_that_does_not_run_is_reported_as_such():
    row = suite.outcome(case_of("nowhere"))  # its own process finds no such case
    assert row["value"] is None
    assert not row["holds"]
    assert row["error"] == "the process of the case ended with status 2"
    json.dumps(row)


def test_every_case_has_a_name_of_its_own():
    modules = suite.found_cases()
    names = [*modules, *(case.name for cases in modules.values() for case in cases)]
    assert len(names) == len(set(names))
    assert {path.stem for path in (Path(suite.__file__).parent / "cases").glob("[!_]*.py")} == set(modules)
