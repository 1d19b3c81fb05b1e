import json
from pathlib import Path
from typing import Any

import pytest

from polyprag.errors import ConfigError, DataError
from polyprag.evaluation.recorded import find_evaluations, labels, read_runs
from polyprag.files import append_jsonl, write_json

F1 = {"vanilla": [0.0, 0.5], "prag": [1.0, 0.25]}


def changed(folder: Path, change: Any) -> None:
    """Change results.json in place."""
    content = json.loads((folder / "results.json").read_text())
    change(content)
    write_json(folder / "results.json", content)


class TestFinding:
    def test_an_evaluation_a_run_and_a_sweep_name_their_evaluations(self, evaluate, tmp_path) -> None:
        one = evaluate("one", F1)
        other = one.parent / "other"
        one.rename(other)
        again = evaluate("one", F1)
        swept = [evaluate(f"sweep/runs/{name}", F1) for name in ("a", "b")]
        assert find_evaluations([again]) == [again]
        assert find_evaluations([again.parent]) == [again, other]
        assert find_evaluations([tmp_path / "sweep"]) == swept

    def test_each_is_found_once(self, evaluate) -> None:
        folder = evaluate("one", F1)
        assert find_evaluations([folder, folder.parent, folder / ".." / "evaluation"]) == [folder]

    def test_a_path_without_evaluations_is_named(self, tmp_path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigError, match="empty: has no evaluation; name a run"):
            find_evaluations([tmp_path / "empty"])
        with pytest.raises(ConfigError, match="missing: is no folder"):
            find_evaluations([tmp_path / "missing"])


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["runs/a/evaluation", "runs/b/evaluation"], ["a", "b"]),
        (["runs/a/evaluation", "runs/a/one_hop"], ["a", "a/one_hop"]),
        (["x/a/evaluation", "y/a/evaluation"], ["x/a", "y/a"]),
        (["x/a/one_hop", "y/a/two_hop"], ["x/a", "y/a"]),
        (["kept/a", "kept/b"], ["kept/a", "kept/b"]),
    ],
)
def test_labels_are_as_short_as_they_can_be(folders: list[str], expected: list[str]) -> None:
    assert labels([Path(folder) for folder in folders]) == expected


class TestReading:
    def test_answers_of_each_method_by_question(self, evaluate) -> None:
        (run,) = read_runs([evaluate("one", F1)])
        assert run.label == "one"
        assert run.questions == {"q0": "What is number 0?", "q1": "What is number 1?"}
        found = {name: [answer.scores.f1 for answer in own.values()] for name, own in run.answers.items()}
        assert found == F1

    def test_only_the_methods_that_count(self, evaluate) -> None:
        (run,) = read_runs([evaluate("one", F1)], ["prag", "flare"])
        assert list(run.answers) == ["prag"]

    def test_answers_of_other_settings_do_not_count(self, evaluate) -> None:
        folder = evaluate("one", F1)
        rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
        worse = [{**row, "key": "older", "scores": {**row["scores"], "f1": 0.0}} for row in rows]
        (folder / "answers.jsonl").unlink()
        append_jsonl(folder / "answers.jsonl", [*worse, *rows, *({**row, "key": "newer"} for row in worse)])
        (run,) = read_runs([folder])
        assert [answer.scores.f1 for answer in run.answers["prag"].values()] == F1["prag"]

    def test_answers_that_are_not_those_of_the_results_are_refused(self, evaluate) -> None:
        folder = evaluate("one", F1)
        (folder / "answers.jsonl").unlink()
        with pytest.raises(DataError, match=r"answers\.jsonl: the answers of vanilla are not those of results\.json"):
            read_runs([folder])

    def test_methods_with_different_questions_are_refused(self, evaluate) -> None:
        folder = evaluate("one", F1)
        text = (folder / "answers.jsonl").read_text()
        (folder / "answers.jsonl").write_text(text.replace("What is number 1?", "Who else?", 1))
        with pytest.raises(DataError, match="methods have answered different questions"):
            read_runs([folder])

    @pytest.mark.parametrize("line", ["{}", '{"method": "prag", "key": 1, "question_id": "q0", "scores": 3}'])
    def test_a_line_that_is_no_answer_is_refused(self, evaluate, line) -> None:
        folder = evaluate("one", F1)
        with open(folder / "answers.jsonl", "a") as file:
            file.write(line + "\n")
        with pytest.raises(DataError, match="a line is not an answer"):
            read_runs([folder])

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"{", "not valid JSON"),
            (b"\xff\xfe", "not valid JSON"),
            (b"[]", "expected results of schema 1, not 'list'"),
            (b"{}", "expected results of schema 1, not None"),
            (b'{"schema": 2}', "expected results of schema 1, not 2"),
            (b'{"schema": 1}', "run.base is missing"),
        ],
    )
    def test_files_that_are_no_results_are_refused_in_one_line(self, evaluate, content, says) -> None:
        folder = evaluate("one", F1)
        (folder / "results.json").write_bytes(content)
        with pytest.raises(DataError, match=says) as raised:
            read_runs([folder])
        assert str(raised.value).startswith(f"{folder}/results.json: ")
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            (lambda found: found.update(methods=[]), "methods is missing"),
            (lambda found: found["methods"].update(prag=3), r"methods\.prag\.n is missing"),
            (lambda found: found["methods"]["prag"].pop("em"), r"methods\.prag\.em is missing"),
            (lambda found: found["methods"]["prag"].update(f1="high"), r"methods\.prag\.f1 is missing"),
            (lambda found: found["methods"]["prag"].update(f1_ci95=[0.1]), r"methods\.prag\.f1_ci95\.1 is missing"),
            (lambda found: found["methods"]["prag"].update(by_type={"x": {}}), r"prag\.by_type\.x\.f1 is missing"),
            (lambda found: found["methods"]["prag"].update(by_type=[1]), r"prag\.by_type\.\.f1 is missing"),
            (lambda found: found["data"].update(name=None), r"data\.name is missing"),
        ],
    )
    def test_what_a_comparison_relies_on_must_be_there(self, evaluate, change, named) -> None:
        folder = evaluate("one", F1)
        changed(folder, change)
        with pytest.raises(DataError, match=named):
            read_runs([folder])
