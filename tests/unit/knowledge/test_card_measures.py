import hashlib
import os
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyprag.config import DataConfig, DataName, Recipe, TasksConfig
from polyprag.knowledge import card_measures
from polyprag.knowledge.card_measures import (
    Source,
    Spread,
    drawn,
    measure_repeats,
    measure_sequences,
    measure_texts,
    sources_of,
    spread_of,
    token_counts,
)
from polyprag.knowledge.prompts import PromptWriter
from polyprag.knowledge.tasks import examples_of
from polyprag.records import Augmentation, Knowledge, Passage, QAPair, Question


class TestSources:
    def test_a_file_is_told_with_its_hash(self, tmp_path):
        file = tmp_path / "corpus.jsonl"
        file.write_bytes(b"{}\n")
        os.utime(file, (1_700_000_000, 1_700_000_000))
        [source] = sources_of(DataConfig(name=DataName.JSONL, path=str(file)))
        sha = hashlib.sha256(b"{}\n").hexdigest()
        assert source == Source("data.path", str(file), 1, 3, "2023-11-14T22:13:20+00:00", sha)

    def test_a_folder_is_told_by_size_and_newest_time(self, tmp_path):
        for at, name in enumerate(["a.txt", "deep/b.txt"]):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("ab")
            os.utime(tmp_path / name, (1_700_000_000 - at, 1_700_000_000 - at))
        [source] = sources_of(DataConfig(name=DataName.JSONL, path=str(tmp_path)))
        assert (source.files, source.bytes, source.sha256) == (2, 4, "")
        assert source.modified == "2023-11-14T22:13:20+00:00"

    def test_so_is_a_file_that_is_too_large_to_hash(self, tmp_path, monkeypatch):
        monkeypatch.setattr(card_measures, "HASHED_BYTES", 3)
        (tmp_path / "a").write_text("abc")
        [source] = sources_of(DataConfig(name=DataName.JSONL, path=str(tmp_path / "a")))
        assert (source.files, source.bytes, source.sha256) == (1, 3, "")

    def test_what_lies_elsewhere_is_named_only(self):
        data = DataConfig(name=DataName.JSONL, path="hf:somebody/set", questions="")
        assert sources_of(data) == (Source("data.path", "hf:somebody/set"),)

    def test_the_demo_world_is_told_by_what_makes_it(self):
        [source] = sources_of(DataConfig())
        assert source == Source("data.world", "seed 0, 40 passages, 2 phrasings")


class TestSpread:
    @given(st.lists(st.integers(0, 1000), min_size=1, max_size=200))
    def test_it_agrees_with_numpy(self, numbers):
        spread = spread_of(numbers)
        assert spread == Spread(
            n=len(numbers),
            of=len(numbers),
            total=sum(numbers),
            min=min(numbers),
            median=float(np.median(numbers)),
            p95=int(np.percentile(numbers, 95, method="inverted_cdf")),
            max=max(numbers),
        )

    def test_nothing_has_none(self):
        assert spread_of([]) is None

    def test_a_sample_names_the_whole(self):
        spread = spread_of([1, 2], of=50)
        assert spread is not None
        assert (spread.n, spread.of, spread.median) == (2, 50, 1.5)


def test_a_draw_keeps_order_and_depends_on_the_seed():
    items = list(range(1000))
    assert drawn(items, 1000, 0) is items
    first = drawn(items, 50, 0)
    assert len(first) == 50
    assert first == sorted(set(first))
    assert first == drawn(items, 50, 0) != drawn(items, 50, 1)


class TestTexts:
    def test_tokens_are_those_of_the_tokenizer(self, tiny_knowledge, tiny_tokenizer):
        found = measure_texts(tiny_knowledge, tiny_tokenizer, seed=0)
        assert list(found) == ["passages", "training questions", "training answers"]  # there are no test questions
        lengths = [
            len(tiny_tokenizer.encode(f"{p.title}: {p.text}", add_special_tokens=False))
            for p in tiny_knowledge.passages
        ]
        assert (found["passages"].n, found["passages"].total) == (3, sum(lengths))
        assert (found["passages"].min, found["passages"].max) == (min(lengths), max(lengths))
        pairs = [pair for own in tiny_knowledge.augmentations.values() for pair in own.qa]
        answers = [len(tiny_tokenizer.encode(pair.answer, add_special_tokens=False)) for pair in pairs]
        assert (found["training answers"].n, found["training answers"].total) == (6, sum(answers))

    def test_more_than_one_batch(self, tiny_tokenizer, monkeypatch):
        texts = [" ".join(["the answer"] * length) for length in range(1, 8)]
        expected = [len(tiny_tokenizer.encode(text, add_special_tokens=False)) for text in texts]
        monkeypatch.setattr(card_measures, "_BATCH", 3)
        assert token_counts(texts, tiny_tokenizer) == expected

    def test_of_many_a_sample_is_measured(self, tiny_tokenizer, monkeypatch):
        monkeypatch.setattr(card_measures, "TEXTS", 4)
        passages = tuple(Passage(str(at), "", "answer " * (at + 1)) for at in range(10))
        question = Question("q", "Who wrote it?", ("Ada Renn", "Renn"))
        found = measure_texts(Knowledge(passages, {}, (question,)), tiny_tokenizer, seed=0)
        assert (found["passages"].n, found["passages"].of) == (4, 10)
        assert (found["test answers"].n, found["test answers"].of) == (1, 1)
        assert found["test answers"].max == len(tiny_tokenizer.encode("Ada Renn", add_special_tokens=False))


class TestSequences:
    def test_those_that_are_cut_are_counted(self, tiny_knowledge, tiny_tokenizer):
        tasks = TasksConfig(recipe=Recipe.DEFAULT)
        writer = PromptWriter(tiny_tokenizer)
        lengths = sorted(
            len(example.tokens)
            for passage in tiny_knowledge.passages
            for group in examples_of(passage, tiny_knowledge.augmentations[passage.id], tasks, writer)
            for example in group
        )
        tasks.max_tokens = lengths[-3]
        spread, cut = measure_sequences(tiny_knowledge, tasks, tiny_tokenizer, seed=0)
        assert spread == spread_of(lengths)
        assert cut == sum(length > lengths[-3] for length in lengths)
        assert 0 < cut < len(lengths)

    def test_passages_without_pairs_have_none(self, tiny_tokenizer):
        knowledge = Knowledge((Passage("a", "", "The mill."), Passage("b", "", "The river.")))
        assert measure_sequences(knowledge, TasksConfig(), tiny_tokenizer, seed=0) == (None, 0)
        spread, _ = measure_sequences(knowledge, TasksConfig(passage_text=True), tiny_tokenizer, seed=0)
        assert spread is not None
        assert spread.n == 2

    def test_of_many_passages_some_are_drawn_and_the_whole_is_estimated(self, tiny_tokenizer, monkeypatch):
        monkeypatch.setattr(card_measures, "SEQUENCE_PASSAGES", 2)
        passages = tuple(Passage(str(at), "", "The mill.") for at in range(6))
        augmentations = {p.id: Augmentation(p.id, qa=(QAPair("Who?", "Ada"),)) for p in passages}
        tasks = TasksConfig(alone_repeats=1)
        spread, _ = measure_sequences(Knowledge(passages, augmentations), tasks, tiny_tokenizer, seed=0)
        assert spread is not None
        assert (spread.n, spread.of) == (4, 12)


class TestRepeats:
    PASSAGES = (
        Passage("a", "Mill", "Orsin Mill stands on the river Tave."),
        Passage("b", "Renn", "Ada Renn was a miller from Corvel."),
        Passage("c", "The mill", "orsin mill stands on the river Tave!"),
    )

    def test_the_text_alone_decides(self):
        repeats = measure_repeats(self.PASSAGES, seed=0)
        assert (repeats.found, repeats.looked_at, repeats.examples) == (1, 3, (("c", "a"),))

    def test_of_many_passages_some_are_looked_at(self, monkeypatch):
        monkeypatch.setattr(card_measures, "REPEAT_PASSAGES", 20)
        passages = [Passage(str(at), "", "Orsin Mill stands on the river Tave.") for at in range(30)]
        random.Random(0).shuffle(passages)
        repeats = measure_repeats(passages, seed=0, examples=2)
        assert (repeats.found, repeats.looked_at, len(repeats.examples)) == (19, 20, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_draw_of_passages_is_that_of_the_seed(seed, monkeypatch):
    monkeypatch.setattr(card_measures, "REPEAT_PASSAGES", 2)
    passages = [Passage(str(at), "", "Orsin Mill stands on the river Tave.") for at in range(9)]
    [[later, earlier]] = measure_repeats(passages, seed).examples
    assert [earlier, later] == [p.id for p in drawn(passages, 2, seed)]
