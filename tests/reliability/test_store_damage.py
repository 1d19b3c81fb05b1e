"""A store survives kills while it is written, and names the file that is damaged."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from polyprag.errors import StoreError
from polyprag.records import Passage
from polyprag.retrieval.bm25 import BM25Retriever
from polyprag.store import open_store, verify_store, write_store

FILES = [
    "manifest.json",
    "config.yaml",
    "pool.safetensors",
    "rows.safetensors",
    "passages.jsonl",
    "lookup/offsets.npy",
    "lookup/ids.npy",
    "lookup/contents.npy",
    "index/data.csc.index.npy",
    "index/indices.csc.index.npy",
    "index/indptr.csc.index.npy",
    "index/words.utf8",
    "index/words.offsets.npy",
    "index/words.terms.npy",
    "index/params.index.json",
    "index/retriever.json",
]

# Writes store after store in children that kill themselves before their first, second, ... change of the file system,
# until one lives to the end; after each kill the store must be the old or the new one, whole.
KILLER = """
import os, signal, sys
from pathlib import Path
import test_store_damage as t

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}

def die_before_change(number):
    left = [number]
    def hook(event, arguments):
        if event in CHANGES or (event == "open" and arguments[2] & os.O_CREAT):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

folder, has_old, seen, number = Path(sys.argv[1]), sys.argv[2] == "old", set(), 0
while True:
    number += 1
    if has_old and (number == 1 or t.state_of(folder) != "old"):
        t.write(folder, "old")
    child = os.fork()
    if child == 0:
        die_before_change(number)
        t.write(folder, "new")
        os._exit(0)
    killed = os.waitpid(child, 0)[1] != 0
    seen.add(t.state_of(folder))
    if not killed:
        break
print(number, sorted(seen))
"""


def write(folder: Path, config_yaml: str = "run: {}\n") -> None:
    passages = [Passage(f"p{index}", "title", f"passage {index}") for index in range(4)]
    write_store(
        folder,
        config_yaml=config_yaml,
        base_name="tiny",
        base_fingerprint="f00d",
        pool={"A": torch.ones(4, 3), "B": torch.ones(3, 4)},
        rows_NGK=torch.zeros(4, 1, 2),
        group_names=["all"],
        passages=passages,
        retriever=BM25Retriever.build(passages),
        training={"seconds": 1.0},
    )


def state_of(folder: Path) -> str:
    """Which store is there, after checking all of it; "none" where nothing can be opened."""
    try:
        store = open_store(folder)
    except StoreError as error:
        return f"none ({'no such folder' in str(error)})"
    verify_store(folder)
    return store.config_yaml


@pytest.fixture
def folder(tmp_path) -> Path:
    write(tmp_path / "store")
    return tmp_path / "store"


def test_these_are_all_the_files(folder):
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_truncated_or_longer_file_is_named_on_opening(folder, name):
    whole = (folder / name).read_bytes()
    for content in (whole[:-2], whole[: len(whole) // 2], b"", whole + b"\0", None):
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(StoreError, match=name.rsplit("/")[-1]) as caught:
            open_store(folder)
        assert "\n" not in str(caught.value)
    (folder / name).mkdir()
    with pytest.raises(StoreError, match=name.rsplit("/")[-1]):
        open_store(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_named_on_verifying(folder, name):
    whole = (folder / name).read_bytes()
    rng = random.Random(name)
    for place in {0, len(whole) - 1, *rng.choices(range(len(whole)), k=20)}:
        if name == "manifest.json" and whole[place : place + 1].isspace():
            continue  # spacing of the manifest carries nothing
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(flipped)
        with pytest.raises(StoreError, match=name.rsplit("/")[-1]) as caught:
            verify_store(folder)
        assert "\n" not in str(caught.value)
    (folder / name).write_bytes(whole)
    verify_store(folder)


@pytest.mark.parametrize("name", ["pool.safetensors", "rows.safetensors"])
def test_a_damaged_tensor_header_is_named_on_opening(folder, name):
    whole = (folder / name).read_bytes()
    for damaged in (b"\xff" * 8 + whole[8:], whole.replace(b"[", b"(", 1), whole.replace(b"F32", b"F99")):
        assert len(damaged) == len(whole)
        (folder / name).write_bytes(damaged)
        with pytest.raises(StoreError, match=name + ".*its header"):
            open_store(folder)
    shapes = (b"[4,3]", b"[3,4]") if name == "pool.safetensors" else (b"[4,1,2]", b"[2,1,4]")
    (folder / name).write_bytes(whole.replace(*shapes, 1))
    with pytest.raises(StoreError, match=name + ".*other tensors or shapes"):
        open_store(folder)


def test_an_extra_file_is_named_on_verifying(folder):
    (folder / "index" / "extra.pkl").touch()
    open_store(folder)
    with pytest.raises(StoreError, match=r"extra\.pkl: does not belong to this store; move it away"):
        verify_store(folder)


@pytest.mark.parametrize(("before", "expected"), [("old", "['new', 'old']"), ("nothing", "['new', 'none (True)']")])
def test_a_kill_at_any_moment_leaves_the_old_store_or_the_new_one(tmp_path, before, expected):
    command = [sys.executable, "-c", KILLER, str(tmp_path / "store"), before]
    importable = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(command, env={**os.environ, **importable}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    kills, states = done.stdout.strip().split(" ", 1)
    assert int(kills) > 20
    assert states == expected
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
