import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from polyprag.config import ExpertsConfig, Granularity
from polyprag.errors import StoreError
from polyprag.experts.base_model import load_base
from polyprag.experts.pool import ExpertPool
from polyprag.manifest import MANIFEST
from polyprag.passages import StoredPassages, facts_of
from polyprag.records import Passage
from polyprag.retrieval.bm25 import BM25Retriever
from polyprag.store import Store, is_sound, open_store, verify_store, write_store

PASSAGES = [Passage("a", "T", " one\n"), Passage("b", "", "zwei \u2028 Wörter"), Passage("c", "", "three")]
POOL = {"layer.A": torch.arange(12.0).reshape(4, 3), "layer.B": torch.ones(5, 4, dtype=torch.bfloat16)}
ROWS_NGK = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))


def write(folder: Path, **changes) -> Path:
    content = {
        "config_yaml": "run:\n  seed: 0\n",
        "base_name": "tiny",
        "base_fingerprint": "f00d",
        "pool": POOL,
        "rows_NGK": ROWS_NGK,
        "group_names": ["g0", "g1"],
        "passages": PASSAGES,
        "retriever": BM25Retriever.build(PASSAGES),
        "training": {"seconds": 1.25, "steps_by_epoch": {10: 2, 9: 1}},
    }
    write_store(folder, **{**content, **changes})
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "store")


def test_what_was_written_is_opened(folder):
    store = open_store(folder, "f00d")
    assert store.passages == PASSAGES
    assert store.config_yaml == "run:\n  seed: 0\n"
    assert torch.equal(store.rows_NGK, ROWS_NGK)
    pool = store.pool()
    assert pool.keys() == POOL.keys()
    assert all(torch.equal(pool[name], POOL[name]) and pool[name].dtype == POOL[name].dtype for name in POOL)
    assert store.manifest.group_names == ("g0", "g1")
    assert (store.manifest.passages, store.manifest.experts) == (3, 4)
    assert store.manifest.training["seconds"] == 1.25
    [[hit]] = BM25Retriever.open(store.index_folder).search(["three"], 1)
    assert PASSAGES[hit.position].id == "c"
    verify_store(folder)


@pytest.mark.parametrize("shared", [0, 2])
def test_a_pool_comes_back_with_and_without_a_shared_expert(tmp_path, tiny_config, shared):
    config = ExpertsConfig(count=4, rank=2, shared=shared)
    one, other = (ExpertPool(load_base(tiny_config).model, config, Granularity.MODULE) for _ in range(2))
    other.load(open_store(write(tmp_path / "store", pool=one.state())).pool())
    assert any("shared_A" in name for name in one.state()) == bool(shared)
    assert all(torch.equal(tensor, one.state()[name]) for name, tensor in other.state().items())


def test_a_store_is_a_frozen_record(folder):
    with pytest.raises(dataclasses.FrozenInstanceError):
        open_store(folder).config_yaml = ""  # type: ignore[misc]


def test_equal_content_gives_equal_bytes(folder, tmp_path):
    other = write(tmp_path / "other")
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(names) == 16
    assert all((folder / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_every_byte_is_accounted_for(folder):
    store = open_store(folder)
    sizes = store.bytes_on_disk
    assert sizes["pool"] == (folder / "pool.safetensors").stat().st_size
    assert sizes["rows"] == (folder / "rows.safetensors").stat().st_size
    assert sizes["index"] == sum(path.stat().st_size for path in (folder / "index").iterdir())
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert sum(sizes.values()) == total
    assert store.bytes_per_passage == total / 3


def test_the_manifest_is_written_last(tmp_path, monkeypatch):
    present: list[set[str]] = []

    def fail(path, content):
        present.append({file.name for file in path.parent.rglob("*") if file.is_file()})
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polyprag.store.write_json", fail)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "store")
    assert {"config.yaml", "pool.safetensors", "rows.safetensors", "passages.jsonl", "words.utf8"} <= present[0]
    assert list(tmp_path.iterdir()) == []


def test_a_new_store_replaces_the_old_one(folder):
    (folder / "left-over.txt").touch()
    write(folder, config_yaml="new\n")
    assert open_store(folder).config_yaml == "new\n"
    verify_store(folder)


def test_another_base_model_is_refused_by_name(folder):
    with pytest.raises(
        StoreError, match=r"base model tiny \(fingerprint f00d\), not to large \(beef\); set base\.model"
    ):
        open_store(folder, "beef", "large")


def test_no_store(tmp_path):
    with pytest.raises(StoreError, match=r"none: no such folder; name the folder of a finished training"):
        open_store(tmp_path / "none")
    with pytest.raises(StoreError, match=r"has no manifest\.json, so it is no store"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "damaged here: it is not JSON"),
        (b"{", "damaged here: it is not JSON"),
        (b"\xff\xfe", "damaged here: it cannot be read"),
        (b"[" * 100_000, "damaged here: it is not JSON"),
        (b"[]", '"format" is not'),
        (b"{}", '"format" is not'),
        (b'{"format": "other", "schema": 1}', '"format" is not'),
        (b'{"format": "polyprag-store", "schema": 2}', "schema 2, but this version of polyprag reads 1 only"),
        (b'{"format": "polyprag-store"}', "schema None, but"),
        (b'{"format": "polyprag-store", "schema": 1}', "not what was written"),
    ],
)
def test_a_foreign_or_broken_manifest(folder, content, complaint):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(StoreError, match=r"manifest\.json: .*" + complaint):
        open_store(folder)


def test_an_edited_manifest_is_refused_but_a_reformatted_one_is_not(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest, sort_keys=True))
    assert isinstance(open_store(folder), Store)
    manifest["base"]["fingerprint"] = "beef"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"manifest\.json: .*not what was written"):
        open_store(folder)


def test_what_does_not_belong_together_is_our_bug(tmp_path):
    with pytest.raises(AssertionError):
        write(tmp_path / "s", passages=PASSAGES[:2])
    with pytest.raises(AssertionError):
        write(tmp_path / "s", group_names=["g0"])
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_sound_until_a_byte_changes(folder, tmp_path):
    assert is_sound(folder)
    assert not is_sound(tmp_path / "none")
    path = folder / "pool.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert not is_sound(folder)


def test_a_store_without_lookup_is_opened_as_older_ones_are(folder):
    shutil.rmtree(folder / "lookup")
    body = json.loads((folder / MANIFEST).read_text())
    del body["corpus"], body["sha256"]
    body["files"] = {name: entry for name, entry in body["files"].items() if not name.startswith("lookup/")}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**body, "sha256": digest}))
    store = open_store(folder, "f00d")
    verify_store(folder)
    assert store.passages == PASSAGES
    assert store.manifest.corpus is None
    assert store.passages.facts == facts_of(PASSAGES)
    assert [store.passages.position_of_id(passage.id) for passage in PASSAGES] == [0, 1, 2]


def test_opening_reads_no_passage(folder, monkeypatch):
    monkeypatch.setattr(StoredPassages, "__getitem__", lambda self, index: pytest.fail("read"))
    store = open_store(folder)
    assert len(store.passages) == 3
    assert store.passages.facts.text_bytes == sum(len(f"{one.title}{one.text}".encode()) for one in PASSAGES)
