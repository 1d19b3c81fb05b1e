"""A judge that is killed loses no verdict and asks for none of them again."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from polyprag.chat import pace
from polyprag.config import EvaluationConfig
from polyprag.evaluation.answers import Answer
from polyprag.evaluation.judge import Judge
from polyprag.methods.workbench import STEPS
from polyprag.metrics import Scores

ROOT = Path(__file__).resolve().parents[2]
ANSWERS, CONCURRENCY = 90, 4


def verdicts(url: str, cache: Path) -> list[bool | None]:
    """The verdicts on some answers, of which every third is wrong."""
    seconds, scores = dict.fromkeys(STEPS, 0.0), Scores(0.0, 0.0, 0.0, 0.0)
    said = ["yes" if number % 3 else "no" for number in range(ANSWERS)]
    answers = [
        Answer("m", f"q{number}", f"{number}?", "", ("yes",), text, text, scores, (), (), 1, 1, seconds)
        for number, text in enumerate(said)
    ]
    settings = {"judge_url": url, "judge_cache": str(cache), "judge_concurrency": CONCURRENCY, "judge_timeout": 10.0}
    return Judge(EvaluationConfig(judge="m", **settings), Console(file=io.StringIO())).verdicts(answers)


def lines_of(path: Path) -> list[dict]:
    """The complete lines of a file of JSON lines; none while there is no file."""
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def kept(cache: Path) -> list[dict]:
    return [row for path in cache.glob("*.jsonl") for row in lines_of(path)]


@pytest.mark.slow
def test_a_kill_loses_no_verdict_and_repeats_none(server, tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "FIRST_WAIT", 0.05)
    log, cache = tmp_path / "log.jsonl", tmp_path / "cache"
    command = [sys.executable, __file__, server, str(cache)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        deadline = time.monotonic() + 120
        while len(kept(cache)) < 30:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.5)  # for answers of the server that were under way
    known = {row["asked"] for row in lines_of(log) if row["usable"]}
    before, asked_before = len(kept(cache)), len(lines_of(log))
    assert 30 <= before <= len(known) <= before + CONCURRENCY
    assert before < ANSWERS

    assert verdicts(server, cache) == [number % 3 > 0 for number in range(ANSWERS)]
    asked = {row["asked"] for row in lines_of(log)[asked_before:]}
    assert len(asked & known) <= CONCURRENCY, "no more than were under way at the kill"
    assert len(kept(cache)) == len({row["key"] for row in kept(cache)}) == ANSWERS
    usable = Counter(row["asked"] for row in lines_of(log) if row["usable"])
    assert len(usable) == ANSWERS
    assert usable.total() - ANSWERS <= CONCURRENCY


if __name__ == "__main__":
    verdicts(sys.argv[1], Path(sys.argv[2]))
