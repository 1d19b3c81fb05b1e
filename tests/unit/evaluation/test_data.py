import dataclasses
import hashlib
import json

import pytest

from polyprag.config import DataName
from polyprag.evaluation import data as evaluation_data
from polyprag.evaluation.about import about_data
from polyprag.evaluation.data import RECALL_AT, data_lines, data_sha, measure_data
from polyprag.methods.workbench import Workbench

CARD = {
    "passages": 1234,
    "duplicates": 7,
    "near_duplicates": {"found": 3, "looked_at": 1234},
    "left_out": {"rows": {"answers missing": 4}, "augmentation": {"repeated": 2, "not grounded": 30}},
    "overlap": {"training": 3600, "exact": 5, "near": 6, "test_exact": 3, "test_near": 2},
    "warnings": ["3 of 30 test questions equal to a training question"],
}


class TestMeasuring:
    def test_recall_is_the_share_of_gold_passages(self, make_bench, tmp_path):
        bench = make_bench(trained=False)
        measured = measure_data(bench, tmp_path / "evaluation")
        asked = bench.knowledge.test
        found = bench.retrieve(asked, 10)
        for k in RECALL_AT:
            shares = []
            for question, hits in zip(asked, found, strict=True):
                first = {bench.passages[hit.position].id for hit in hits[:k]}
                shares.append(sum(id_ in first for id_ in question.passage_ids) / len(question.passage_ids))
            assert measured["recall"]["at"][str(k)] == pytest.approx(sum(shares) / len(shares))
        assert measured["recall"]["questions"] == len(asked) == 8
        assert measured["recall"]["at"]["1"] < measured["recall"]["at"]["10"] <= 1.0

    def test_the_card_lies_in_the_folder(self, make_bench, tmp_path):
        bench = make_bench(trained=False)
        measured = measure_data(bench, tmp_path / "evaluation")
        written = json.loads((tmp_path / "evaluation" / "data_card.json").read_text())
        assert written["passages"] == measured["card"]["passages"] == 6
        assert written["recall"] == measured["recall"]["at"]
        assert written["tokens"]["passages"]["n"] == 6
        assert written["overlap"]["training"] == measured["card"]["overlap"]["training"] == 18
        assert "## Recall" in (tmp_path / "evaluation" / "data_card.md").read_text(encoding="utf-8")

    def test_without_gold_passages_there_is_no_recall(self, make_bench, tmp_path):
        bench = make_bench(trained=False)
        test = tuple(dataclasses.replace(question, passage_ids=()) for question in bench.knowledge.test)
        unknown = Workbench(bench.config, dataclasses.replace(bench.knowledge, test=test), bench.folder)
        measured = measure_data(unknown, tmp_path / "evaluation")
        assert "recall" not in measured
        assert "8 of 8 test questions without known gold passages" in " ".join(measured["card"]["warnings"])

    def test_files_of_prags_release_are_told_to_be_of_their_benchmark(self, make_bench, tmp_path):
        bench = make_bench(trained=False)
        assert about_data(bench, "ab", 0)["benchmark"] == ""
        folder = tmp_path / "popqa" / "llama"
        folder.mkdir(parents=True)
        (folder / "total.json").write_text('[{"augment": []}]')
        data = dataclasses.replace(bench.config.data, name=DataName.JSONL, path=str(folder), questions="")
        released = Workbench(dataclasses.replace(bench.config, data=data), bench.knowledge, bench.folder)
        told = about_data(released, "ab", 0)
        assert (told["name"], told["benchmark"]) == ("jsonl", "popqa")


class TestLines:
    def test_a_line_a_fact(self):
        assert data_lines({"card": CARD, "recall": {"questions": 30, "at": {"1": 0.5, "10": 0.9375}}}) == [
            "1,234 passages; 7 duplicates collapsed, 3 near duplicates among 1,234",
            "left out (rows): answers missing 4",
            "left out (augmentation): not grounded 30, repeated 2",
            "5 of 3,600 training questions equal a test question, 6 more are near copies",
            "recall of the retriever: @1 0.500, @10 0.938 (30 questions)",
            "note: 3 of 30 test questions equal to a training question",
        ]

    def test_what_is_not_known_takes_none(self):
        bare = {**CARD, "left_out": {}, "overlap": {**CARD["overlap"], "training": 0}, "warnings": []}
        assert len(data_lines({"card": bare})) == 1

    def test_results_of_earlier_versions_have_none(self):
        assert data_lines({"sha256": "aa"}) == []


class TestHash:
    def test_of_a_stored_corpus_it_is_that_of_the_same_passages_in_memory(self, make_bench):
        bench = make_bench()
        test, passages = bench.knowledge.test, bench.knowledge.passages
        expected = hashlib.sha256(repr((test, tuple(passages))).encode()).hexdigest()
        assert data_sha(test, passages) == data_sha(test, bench.store.passages) == expected

    def test_a_large_corpus_goes_by_the_hash_that_its_store_knows(self, make_bench, monkeypatch):
        bench = make_bench()
        test, passages = bench.knowledge.test, bench.knowledge.passages
        monkeypatch.setattr(evaluation_data, "LARGE_CORPUS", 2)
        assert data_sha(test, passages) == data_sha(test, bench.store.passages)
        assert data_sha(test, passages[:3]) != data_sha(test, passages) != data_sha(test[:1], passages)
