import json
import math
from pathlib import Path

import pytest
import wandb

from polyprag.config import WandbMode
from polyprag.config.loading import load_config
from polyprag.evaluation import tracking
from polyprag.evaluation.results import Results
from polyprag.evaluation.tracking import COLUMNS, log_results, tables_of
from polyprag.training.trainer import wandb_mode

SECONDS = {"total": 0.25, "retrieve": 0.05, "route": 0.0, "load_merge": 0.0, "generate": 0.2}


@pytest.fixture
def results() -> Results:
    method = {
        **{"n": 8, "f1": 0.5, "em": 0.25, "contains": 0.375, "prag_f1": 0.5, "f1_ci95": [0.25, 0.75]},
        **{"seconds_per_question": SECONDS, "prompt_tokens": 40.0, "new_tokens": 3.0, "bytes_per_passage": 1000.0},
        **{"train_seconds": 12.5, "choice": {}},
    }
    methods = {"poly_prag": method, "vanilla": {**method, "f1": 0.0}}
    card = {"passages": 6, "overlap": {"near": 2}, "warnings": ["mind this"]}
    data = {"card": card, "recall": {"questions": 8, "at": {"1": 0.75}}}
    return Results(schema=1, run={}, data=data, methods=methods, differences=[])


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
def test_an_offline_run_holds_table_and_scores(results, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    seen: list[dict] = []
    leave = wandb.Run.__exit__
    monkeypatch.setattr(wandb.Run, "__exit__", lambda run, *why: (seen.append(described(run)), leave(run, *why))[1])
    config = load_config(None, ["logging.project=mine", "logging.group=sweep", "experts.count=4"])
    log_results(results, config, tmp_path / "run")
    tables = logged(tmp_path / "run")
    assert set(tables) == {"results", "costs"}, "tables without rows are left out"
    content = tables["results"]
    assert content["columns"] == list(COLUMNS)
    costs = dict(zip(tables["costs"]["columns"], tables["costs"]["data"][0], strict=True))
    assert (costs["method"], costs["seconds_total"], costs["seconds_generate"]) == ("poly_prag", 0.25, 0.2)
    assert (costs["bytes_per_passage"], costs["train_seconds"], costs["peak_memory_bytes"]) == (1000.0, 12.5, None)
    assert content["data"][0] == ["poly_prag", 8, 0.5, 0.25, 0.75, 0.25, 0.375, 0.25, 1000.0]
    assert [row[0] for row in content["data"]] == ["poly_prag", "vanilla"]
    [run] = seen
    assert run["summary"]["evaluation/poly_prag/f1"] == 0.5
    assert run["summary"]["evaluation/vanilla/f1"] == 0.0
    measured = {name: value for name, value in run["summary"].items() if name.startswith("data/")}
    assert measured == {
        **{"data/passages": 6, "data/overlap/near": 2},
        **{"data/recall/questions": 8, "data/recall/at/1": 0.75},
    }
    assert run["config"]["experts.count"] == 4
    assert (run["project"], run["group"], run["job_type"]) == ("mine", "sweep", "evaluation")
    assert run["name"] == "run/evaluation"


def logged(folder: Path) -> dict[str, dict]:
    """The tables of an offline run by name."""
    files = (folder / "wandb").glob("offline-run-*/files/media/table/evaluation/*.json")
    return {path.name.split("_")[0]: json.loads(path.read_text(encoding="utf-8")) for path in files}


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
def test_what_was_answered_stands_in_tables_as_text(evaluate, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    f1 = {"prag": [1.0, 0.5, 0.0], "poly_prag": [0.5, 0.5, 1.0]}
    folder = evaluate("run", f1, ["even", "odd", "even"], about="<b>[x](javascript:y)@")
    answers = folder / "answers.jsonl"
    answers.write_text(answers.read_text().replace("@", "\\ud800"))
    results = json.loads((folder / "results.json").read_text())
    results["methods"]["prag"] |= {"break_even": None, "judge": 0.25, "judge_ci95": [0.0, 0.5], "judge_agreement": 0.75}
    results["differences"] = [{"a": "prag", "b": "poly_prag", "mean": -0.2, "ci95": [-0.5, 0.1], "p": 0.3, "d_z": None}]
    log_results(results, load_config(None, ["logging.wandb=offline"]), folder.parent)
    tables = logged(folder.parent)
    rows = {
        name: [dict(zip(found["columns"], row, strict=True)) for row in found["data"]] for name, found in tables.items()
    }
    assert [(row["method"], row["judge"], row["judge_high"]) for row in rows["results"]] == [
        ("prag", 0.25, 0.5),
        ("poly_prag", None, None),
    ]
    assert [row["break_even"] for row in rows["costs"]] in ([math.inf, None], ["Infinity", None])
    assert {(row["method"], row["type"], row["n"]) for row in rows["types"]} == {
        (method, kind, n) for method in f1 for kind, n in (("even", 2), ("odd", 1))
    }
    (difference,) = rows["differences"]
    assert (difference["a"], difference["mean"], difference["low"], difference["won"]) == ("prag", -0.2, -0.5, None)
    assert [(row["question_id"], row["method"], row["f1"]) for row in rows["answers"]] == [
        (f"q{at}", method, values[at]) for at in range(3) for method, values in f1.items()
    ]
    assert rows["answers"][0]["question"] == "What is <b>[x](javascript:y)? 0?"


def test_answers_are_those_to_the_first_questions(evaluate, monkeypatch):
    folder = evaluate("run", {"prag": [0.5] * 9, "flare": [0.5] * 9})
    monkeypatch.setattr(tracking, "MOST_ANSWERS", 7)
    results = json.loads((folder / "results.json").read_text())
    rows = {name: rows for name, _, rows in tables_of(results, folder)}["answers"]
    assert [row[0] for row in rows] == ["q0", "q0", "q1", "q1", "q2", "q2"]


def described(run: wandb.Run) -> dict:
    names = ("project", "group", "job_type", "name")
    return {
        **{name: getattr(run, name) for name in names},
        "summary": dict(run.summary),
        "config": dict(run.config),
    }


def test_nothing_is_logged_where_it_is_disabled(results, tmp_path):
    log_results(results, load_config(None, ["logging.wandb=disabled"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_server_that_cannot_be_reached_costs_a_line(results, tmp_path, monkeypatch, capsys):
    def unreachable(**_):
        raise wandb.errors.CommError("run initialization has timed out\nafter 90 seconds")

    monkeypatch.setattr(wandb, "init", unreachable)
    log_results(results, load_config(None, ["logging.wandb=online"]), tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("Weights & Biases got no results (run initialization has timed out after 90 seconds); ")


@pytest.mark.parametrize(
    ("mode", "variable", "expected"),
    [
        ("auto", "", WandbMode.OFFLINE),
        ("auto", "WANDB_API_KEY", WandbMode.ONLINE),
        ("auto", "WANDB_SWEEP_ID", WandbMode.ONLINE),
        ("offline", "WANDB_API_KEY", WandbMode.OFFLINE),
        ("disabled", "WANDB_SWEEP_ID", WandbMode.DISABLED),
    ],
)
def test_where_weights_and_biases_writes(monkeypatch, mode, variable, expected):
    for name in ("WANDB_API_KEY", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "x")
    assert wandb_mode(load_config(None, [f"logging.wandb={mode}"]).logging) is expected
