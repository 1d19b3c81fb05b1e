import json

import pytest


@pytest.fixture
def evaluate(in_process, world_keys, tmp_path):
    """`evaluate("merge", "run.shard=0/2", …)`: the exit status of `evaluate.py` on an untrained run."""
    settled = ("logging.wandb=disabled", "methods=[vanilla,prag]", f"run.dir={tmp_path}", "prag.parallel=4")

    def run(*words: str) -> int:
        verb = [word for word in words if "=" not in word]
        return in_process("evaluate.py", *verb, *world_keys, *settled, *(word for word in words if "=" in word))

    return run


def test_shards_are_merged_when_all_are_there(evaluate, tmp_path, capsys):
    assert evaluate("run.shard=1/2") == 0
    assert "prag: all 4 questions of shard 1/2 are answered" in capsys.readouterr().out
    assert evaluate("merge") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ")
    assert "answers by vanilla are missing: 4 of shard 0/2" in said
    assert not (tmp_path / "evaluation" / "results.json").exists()
    assert evaluate("run.shard=0/2") == 0
    assert evaluate("merge") == 0
    merged = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert evaluate("evaluation.dir=whole") == 0
    whole = json.loads((tmp_path / "whole" / "results.json").read_text())
    for name in ("vanilla", "prag"):
        assert merged["methods"][name]["n"] == 8
        for key in ("f1", "em", "contains", "f1_ci95", "bytes_per_passage", "train_seconds", "choice"):
            assert merged["methods"][name][key] == whole["methods"][name][key]
    assert merged["differences"] == whole["differences"]


def test_a_shard_that_is_none_is_refused(evaluate, capsys):
    assert evaluate("run.shard=2/2") == 2
    assert capsys.readouterr().err.startswith("error: run.shard is '2/2', but must be a number from 0 and of how many")
