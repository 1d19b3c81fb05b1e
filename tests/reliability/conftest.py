import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).resolve().parents[1] / "compatible_server.py"


@pytest.fixture
def server(tmp_path) -> Iterator[str]:
    """The URL of a server in a process of its own, which outlives its clients; its log is `log.jsonl`."""
    command = [sys.executable, str(SERVER), str(tmp_path / "log.jsonl"), "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        yield f"http://127.0.0.1:{port}/v1"
        process.kill()
