"""An augmentation that is killed loses no finished reply and asks for none of them again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from compatible_server import passage_text

ROOT = Path(__file__).resolve().parents[2]
PASSAGES, CONCURRENCY = 200, 8
PROGRAM = """
import sys
from pathlib import Path
from rich.console import Console
from polyprag.augmentation.stage import run_augmentation
from polyprag.chat import pace
from polyprag.cli import guarded
from polyprag.config.loading import load_config
from polyprag.knowledge.loading import load_knowledge

def main(overrides):
    config = load_config(None, overrides)
    run_augmentation(config, Path(config.run.dir), load_knowledge(config.data), Console(stderr=True))

pace.FIRST_WAIT = 0.05
sys.exit(guarded(main))
"""
"""What `train.py augment` does, with less to import and shorter waits between tries."""


@pytest.fixture
def start(server, tmp_path) -> Callable[[], subprocess.Popen[str]]:
    """Starts an augmentation of 200 passages."""
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"id": f"p{number}", "text": passage_text(number)} for number in range(PASSAGES)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [
        *(sys.executable, "-c", PROGRAM, "data.name=jsonl", f"data.path={corpus}"),
        *("augmentation.by=server", f"augmentation.url={server}", "augmentation.model=m", "augmentation.timeout=10"),
        *(f"augmentation.concurrency={CONCURRENCY}", f"augmentation.cache={tmp_path / 'cache'}"),
        f"run.dir={tmp_path / 'run'}",
    ]

    def run() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return run


def lines_of(path: Path) -> list[dict]:
    """The complete lines of a file of JSON lines; none while there is no file."""
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def cached(tmp_path: Path) -> list[dict]:
    return [row for path in (tmp_path / "cache").glob("*.jsonl") for row in lines_of(path)]


def stop_at(process: subprocess.Popen[str], signum: int, replies: int, tmp_path: Path) -> tuple[int, str]:
    """Send a signal once so many replies are kept; the exit status and what stood on standard error."""
    deadline = time.monotonic() + 60
    while len(cached(tmp_path)) < replies:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signum)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


def finish(process: subprocess.Popen[str]) -> None:
    output = process.communicate(timeout=60)
    assert process.returncode == 0, output


@pytest.mark.slow
def test_kills_lose_nothing_and_repeat_no_finished_request(start, tmp_path):
    log = tmp_path / "log.jsonl"
    finished: set[str] = set()
    for replies, signum in ((90, signal.SIGKILL), (220, signal.SIGTERM)):
        asked_before = len(lines_of(log))
        status, errors = stop_at(start(), signum, replies, tmp_path)
        assert status == (-signum if signum == signal.SIGKILL else 128 + signum)
        assert not (tmp_path / "run" / "augmentation.jsonl").exists()
        if signum == signal.SIGTERM:
            assert errors.strip().splitlines()[-1] == "interrupted; finished replies are kept; run again to go on"
        asked = {row["asked"] for row in lines_of(log)[asked_before:]}
        kept = len(cached(tmp_path))
        assert len(asked & finished) <= CONCURRENCY, "no more than were under way at the kill"
        finished |= {row["asked"] for row in lines_of(log) if row["usable"]}
        assert kept <= len(finished) <= kept + CONCURRENCY
    finish(start())

    rows = lines_of(tmp_path / "run" / "augmentation.jsonl")
    assert [row["passage_id"] for row in rows] == [f"p{number}" for number in range(PASSAGES)]
    assert {(len(row["rewrites"]), len(row["qa"]), row["by"]) for row in rows} == {(1, 3, "m")}
    assert len(cached(tmp_path)) == len({row["key"] for row in cached(tmp_path)}) == 2 * PASSAGES
    usable = Counter(row["asked"] for row in lines_of(log) if row["usable"])
    assert len(usable) == 2 * PASSAGES
    assert usable.total() - len(usable) <= 2 * CONCURRENCY

    report = json.loads((tmp_path / "run" / "augmentation_report.json").read_text(encoding="utf-8"))
    assert report["cached"] + report["this_run"]["replies"] == 2 * PASSAGES
