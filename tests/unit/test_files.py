import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from polyprag import files
from polyprag.errors import DataError

ROWS = st.lists(st.dictionaries(st.text(max_size=5), st.one_of(st.text(), st.integers(), st.none())), max_size=4)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writers_make_folders_and_leave_nothing_else(tmp_path):
    folder = tmp_path / "a" / "b"
    files.write_text(folder / "t.txt", "naïve\n")
    files.write_bytes(folder / "b.bin", b"\x00\xff")
    files.write_json(folder / "j.json", {"ä": [1, 2.5, None]})
    files.write_jsonl(folder / "l.jsonl", ({"ä": number} for number in range(2)))
    assert (folder / "l.jsonl").read_bytes() == '{"ä": 0}\n{"ä": 1}\n'.encode()
    assert (folder / "t.txt").read_bytes() == "naïve\n".encode()
    assert (folder / "b.bin").read_bytes() == b"\x00\xff"
    assert json.loads((folder / "j.json").read_text("utf-8")) == {"ä": [1, 2.5, None]}
    assert names_in(folder) == ["b.bin", "j.json", "l.jsonl", "t.txt"]


def test_tensors_round_trip_with_metadata_and_ordinary_permissions(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16, requires_grad=True)}
    files.write_tensors(tmp_path / "x.safetensors", tensors, {"k": "v"})
    loaded = load_file(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    with safe_open(tmp_path / "x.safetensors", "pt") as handle:
        assert handle.metadata() == {"k": "v"}
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_refuses_what_json_does_not_know(tmp_path):
    files.write_json(tmp_path / "j.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "j.json", float("nan"))
    assert (tmp_path / "j.json").read_text() == "1\n"
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.append_jsonl(tmp_path / "l.jsonl", [{"a": 1}, {"a": float("inf")}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_jsonl(tmp_path / "l.jsonl", [{"a": 1}, {"a": float("nan")}])
    assert names_in(tmp_path) == ["j.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch, call):
    path = tmp_path / "f.txt"
    files.write_text(path, "old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            files.write_text(path, "new")
        with pytest.raises(OSError, match="No space left"):
            files.write_tensors(path, {"a": torch.zeros(3)}, {})
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["f.txt"]


def test_a_really_full_disk(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "l.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        files.append_jsonl(tmp_path / "l.jsonl", [{"a": 1}])


def test_tensors_that_do_not_fit_are_an_error_of_the_system_and_leave_the_old_file(tmp_path):
    resource = pytest.importorskip("resource", reason="no limits on file sizes here")
    path = tmp_path / "x.safetensors"
    files.write_tensors(path, {"a": torch.zeros(3)}, {})
    before, (soft, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            files.write_tensors(path, {"a": torch.zeros(1 << 16)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["x.safetensors"]


def test_an_error_of_safetensors_itself_is_not_taken_for_one_of_the_system(tmp_path):
    with pytest.raises(SafetensorError, match="header"):
        files.write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(3)}, {"k": "v" * 100_000_000})


def test_sha256_of(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    assert files.sha256_of(tmp_path / "f") == hashlib.sha256(b"x" * 100_000).hexdigest()


def test_no_file_reads_as_no_rows(tmp_path):
    assert files.read_jsonl_tolerant(tmp_path / "none.jsonl") == []


@settings(max_examples=40, deadline=None)
@given(first=ROWS, second=ROWS, cut=st.integers(0, 200))
def test_a_torn_tail_costs_only_the_torn_lines(tmp_path_factory, first, second, cut):
    path = tmp_path_factory.mktemp("jsonl") / "l.jsonl"
    files.append_jsonl(path, first)
    size = max(0, path.stat().st_size - cut)
    os.truncate(path, size)
    whole = first[: path.read_bytes().count(b"\n")]
    assert files.read_jsonl_tolerant(path) == whole
    files.append_jsonl(path, second)
    assert files.read_jsonl_tolerant(path) == whole + second


def test_a_torn_line_longer_than_a_block_is_cut(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": "' + b"x" * 200_000)
    files.append_jsonl(path, [{"c": 3}])
    assert path.read_bytes() == b'{"a": 1}\n{"c": 3}\n'


@pytest.mark.parametrize("line", [b"{broken", b"[1]", b"\xff", b"\0\0"])
def test_a_broken_whole_line_is_an_error_with_its_place(tmp_path, line):
    path = tmp_path / "l.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(DataError, match=r"l\.jsonl:2: not .*delete this line"):
        files.read_jsonl_tolerant(path)


def fill(folder: Path, text: str) -> None:
    with files.replace_folder(folder) as new:
        (new / "inner").mkdir()
        (new / "inner" / "f.txt").write_text(text)


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "runs" / "store"
    fill(folder, "one")
    (folder / "stale.txt").touch()
    fill(folder, "two")
    assert names_in(folder) == ["inner"]
    assert (folder / "inner" / "f.txt").read_text() == "two"
    assert names_in(folder.parent) == ["store"]
    assert files.current_folder(folder) == folder


def test_a_failure_leaves_the_old_folder(tmp_path):
    fill(tmp_path / "store", "one")
    with pytest.raises(KeyboardInterrupt), files.replace_folder(tmp_path / "store"):
        raise KeyboardInterrupt
    assert (tmp_path / "store" / "inner" / "f.txt").read_text() == "one"
    assert names_in(tmp_path) == ["store"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failing_rename_leaves_the_old_folder(tmp_path, monkeypatch, failing):
    fill(tmp_path / "store", "one")
    rename, calls = os.rename, []

    def flaky(source, target):
        calls.append(source)
        if len(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", flaky)
        with pytest.raises(OSError, match="Input/output"):
            fill(tmp_path / "store", "two")
    assert (tmp_path / "store" / "inner" / "f.txt").read_text() == "one"
    assert names_in(tmp_path) == ["store"]


def test_what_a_kill_between_the_renames_leaves_is_found_and_cleared(tmp_path):
    folder = tmp_path / "store"
    fill(folder, "one")
    folder.rename(tmp_path / ".store.old")
    (tmp_path / ".store.new").mkdir()
    assert (files.current_folder(folder) / "inner" / "f.txt").read_text() == "one"
    with pytest.raises(RuntimeError), files.replace_folder(folder):
        raise RuntimeError
    assert (folder / "inner" / "f.txt").read_text() == "one"
    assert names_in(tmp_path) == ["store"]
