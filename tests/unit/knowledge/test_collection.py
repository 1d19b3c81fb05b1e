import csv
import gzip
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from polyprag.config import DataConfig, DataName, OnBadRow, SplittingConfig
from polyprag.errors import ConfigError, DataError
from polyprag.knowledge import collection
from polyprag.knowledge.collection import open_collection, retrieve_from_collection
from polyprag.passages import StoredPassages
from polyprag.records import Passage
from polyprag.retrieval.bm25 import BM25Retriever

TREES = ["alder", "birch", "cedar", "fig", "gum", "hazel"]
PASSAGES = [Passage(str(at + 1), tree.title(), f'The {tree} is a "tree", №{at}.') for at, tree in enumerate(TREES)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POLYPRAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def psgs(tmp_path) -> Path:
    """A collection as DPR publishes it."""
    path = tmp_path / "psgs_w100.tsv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["id", "text", "title"])
        writer.writerows([passage.id, passage.text, passage.title] for passage in PASSAGES)
    return path


def data_of(path: Path, **keys) -> DataConfig:
    return DataConfig(name=DataName.POPQA, collection=str(path), **keys)


def rows_into(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def builds(monkeypatch) -> list[str]:
    """The collections that are indexed from now on."""
    seen: list[str] = []
    build = collection._build

    def counted(data, folder, source):
        seen.append(data.collection)
        build(data, folder, source)

    monkeypatch.setattr(collection, "_build", counted)
    return seen


def test_passages_come_back_as_they_were_best_first(psgs):
    found = retrieve_from_collection(data_of(psgs), ["Which tree is the hazel?", "fig or gum", "unheard-of"], 2)
    assert found[0][0] == PASSAGES[5]
    assert {passage.title for passage in found[1]} == {"Fig", "Gum"}
    assert found[2] == []
    assert retrieve_from_collection(data_of(psgs), ["hazel"], 0) == [[]]


def test_it_finds_what_an_index_in_memory_finds(tmp_path):
    rng = np.random.default_rng(0)
    passages = [Passage(f"p{at}", "", " ".join(rng.choice(TREES, 5))) for at in range(300)]
    path = rows_into(tmp_path / "trees.jsonl", [{"id": p.id, "text": p.text} for p in passages])
    queries = [" ".join(rng.choice(TREES, 3)) for _ in range(20)]
    found = retrieve_from_collection(data_of(path), queries, 7)
    expected = BM25Retriever.build(passages).search(queries, 7)
    assert found == [[passages[hit.position] for hit in hits] for hits in expected]
    assert len(open_collection(data_of(path))) == 300


@pytest.mark.parametrize("form", ["jsonl.gz", "folder", "no ids"])
def test_any_form_of_passages_will_do(tmp_path, form):
    if form == "jsonl.gz":
        path = tmp_path / "trees.jsonl.gz"
        path.write_bytes(gzip.compress("".join(json.dumps(vars(p)) + "\n" for p in PASSAGES).encode()))
    elif form == "folder":
        path = tmp_path / "trees"
        path.mkdir()
        for passage in PASSAGES:
            (path / f"{passage.title}.txt").write_text(passage.text, encoding="utf-8")
    else:
        path = rows_into(tmp_path / "trees.jsonl", [{"text": passage.text} for passage in PASSAGES])
    ((best,),) = retrieve_from_collection(data_of(path), ["hazel"], 1)
    assert best.text == PASSAGES[5].text
    assert best.id


def test_it_is_indexed_once_and_lies_beside_the_models(psgs, cache, monkeypatch, capsys):
    seen = builds(monkeypatch)
    first = retrieve_from_collection(data_of(psgs), ["birch"], 3)
    assert retrieve_from_collection(data_of(psgs), ["birch"], 3) == first
    assert seen == [str(psgs)]
    (folder,) = (path for path in (cache / "collections").iterdir() if path.is_dir())
    assert folder.name.startswith("psgs_w100-")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["passages"], manifest["left_out"]) == (6, {})
    assert capsys.readouterr().out == ""


def test_the_passages_are_mapped_and_not_held(psgs):
    opened = open_collection(data_of(psgs))
    assert isinstance(opened._passages, StoredPassages)
    assert isinstance(opened._retriever._index.scores["data"], np.memmap)


@pytest.mark.parametrize("change", ["content", "time", "reading"])
def test_a_change_is_noticed(psgs, tmp_path, monkeypatch, caplog, change):
    seen = builds(monkeypatch)
    data = data_of(psgs, collection_index=str(tmp_path / "index"))
    retrieve_from_collection(data, ["birch"], 1)
    if change == "content":
        psgs.write_text(psgs.read_text(encoding="utf-8").replace("birch", "beech"), encoding="utf-8")
    elif change == "time":
        os.utime(psgs, ns=(1, 1))
    else:
        data = data_of(psgs, collection_index=str(tmp_path / "index"), title_column="none")
    ((best,),) = retrieve_from_collection(data, ["beech birch"], 1)
    assert ("beech" if change == "content" else "birch") in best.text
    assert (best.title == "") == (change == "reading")
    assert len(seen) == 2
    assert "made again" in caplog.text


def test_each_reading_has_an_index_of_its_own(tmp_path, cache):
    path = rows_into(tmp_path / "trees.jsonl", [{"text": "one two three four five six seven eight nine ten"}])
    whole = retrieve_from_collection(data_of(path), ["nine"], 9)
    split = data_of(path, splitting=SplittingConfig(rows=True, size=8, sentences=False))
    parts = retrieve_from_collection(split, ["nine"], 9)
    assert whole[0][0].text != parts[0][0].text
    assert len([one for one in (cache / "collections").iterdir() if one.is_dir()]) == 2


def test_a_folder_that_holds_something_else_is_left_alone(psgs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("ten years")
    with pytest.raises(ConfigError, match=r"^data.collection_index is .*mine.* name a new folder$"):
        open_collection(data_of(psgs, collection_index=str(tmp_path / "mine")))
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "ten years"
    (tmp_path / "empty").mkdir()
    assert len(open_collection(data_of(psgs, collection_index=str(tmp_path / "empty")))) == 6


def test_bad_rows_end_it_or_are_counted(tmp_path):
    path = rows_into(tmp_path / "trees.jsonl", [{"text": "alder"}, {"text": ""}, {"title": "no text"}, {"text": "fig"}])
    index = tmp_path / "index"
    with pytest.raises(DataError, match=r"trees.jsonl:2"):
        open_collection(data_of(path, collection_index=str(index)))
    assert not index.exists()
    skipping = data_of(path, collection_index=str(index), on_bad_row=OnBadRow.SKIP)
    assert len(open_collection(skipping)) == 2
    left_out = json.loads((index / "manifest.json").read_text(encoding="utf-8"))["left_out"]
    assert sum(left_out.values()) == 2


@pytest.mark.parametrize("rows", [[], [{"text": ""}]])
def test_a_collection_without_passages_is_refused(tmp_path, rows):
    path = rows_into(tmp_path / "trees.jsonl", rows)
    with pytest.raises(DataError, match="holds no passages that can be used"):
        open_collection(data_of(path, on_bad_row=OnBadRow.SKIP))


def test_a_missing_collection_is_one_line():
    with pytest.raises(DataError, match=r"^nowhere.tsv: no such file; check data.collection"):
        open_collection(data_of(Path("nowhere.tsv")))


@pytest.mark.parametrize("victim", ["passages.jsonl", "offsets.npy", "index/data.csc.index.npy"])
def test_damage_is_noticed(psgs, tmp_path, victim):
    data = data_of(psgs, collection_index=str(tmp_path / "index"))
    open_collection(data)
    path = tmp_path / "index" / victim
    whole = path.read_bytes()
    for damaged in (whole[:-8], b"", None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"index: damaged \(.*; delete this folder to have it made again"):
            open_collection(data)
        path.write_bytes(whole)
    assert len(open_collection(data)) == 6


def test_an_error_on_the_way_leaves_nothing_and_the_old_index_as_it_was(psgs, tmp_path, monkeypatch):
    data = data_of(psgs, collection_index=str(tmp_path / "index"))
    open_collection(data)
    before = (tmp_path / "index" / "manifest.json").read_bytes()
    os.utime(psgs, ns=(1, 1))
    monkeypatch.setattr(collection, "write_json", lambda path, content: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        open_collection(data)
    assert (tmp_path / "index" / "manifest.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} <= {"index", "cache"}


def test_those_who_want_it_at_once_make_it_once(psgs, monkeypatch):
    seen, found = builds(monkeypatch), []
    threads = [
        threading.Thread(target=lambda: found.append(retrieve_from_collection(data_of(psgs), ["birch"], 1)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert found == [found[0]] * 4
