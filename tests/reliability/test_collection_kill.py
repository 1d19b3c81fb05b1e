"""A kill while a collection is being indexed leaves nothing half, and the next call makes it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polyprag.config import DataConfig, DataName
from polyprag.knowledge.collection import open_collection

# Indexes the collection in children that kill themselves after their first, second, ... passages or files, until one
# lives to the end.
KILLER = """
import os, signal, sys
import test_collection_kill as t
from polyprag.knowledge import collection

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}

def die(event_number, passage_number):
    left = [event_number]
    def hook(event, arguments):
        if event in CHANGES or (event == "open" and arguments[2] & os.O_CREAT):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    written = collection._written
    def dying(*arguments):
        for count, passage in enumerate(written(*arguments)):
            if count == passage_number:
                os.kill(os.getpid(), signal.SIGKILL)
            yield passage
    collection._written = dying

path, folder = sys.argv[1:]
kills = [(0, at) for at in (0, 1, 20)] + [(at, -1) for at in range(1, 200)]
done = 0
for events, passages in kills:
    child = os.fork()
    if child == 0:
        die(events, passages)
        t.made(path, folder)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    done += 1
    assert t.state_of(folder) in ("none", "whole"), t.state_of(folder)
else:
    sys.exit("none lived to the end")
print(done)
"""


def made(path: str, folder: str) -> None:
    open_collection(DataConfig(name=DataName.POPQA, collection=path, collection_index=folder))


def state_of(folder: str) -> str:
    """none, whole, or half: a folder by that name without its manifest."""
    if not Path(folder).exists():
        return "none"
    return "whole" if (Path(folder) / "manifest.json").is_file() else "half"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_indexing_leaves_nothing_half(tmp_path):
    path = tmp_path / "trees.jsonl"
    path.write_text("".join(json.dumps({"text": f"tree {at}"}) + "\n" for at in range(30)), encoding="utf-8")
    command = [sys.executable, "-c", KILLER, str(path), str(tmp_path / "index")]
    importable = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(command, env={**os.environ, **importable}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
    opened = open_collection(
        DataConfig(name=DataName.POPQA, collection=str(path), collection_index=f"{tmp_path}/index")
    )
    assert len(opened) == 30
    assert [passage.text for passage in opened.retrieve(["29"], 1)[0]] == ["tree 29"]
    folders = {entry.name for entry in tmp_path.iterdir() if entry.is_dir()}
    assert folders == {"index"}
