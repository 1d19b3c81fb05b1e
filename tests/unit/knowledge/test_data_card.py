import json
from dataclasses import replace

import pytest

from polyprag.config import Config
from polyprag.config.loading import load_config
from polyprag.knowledge.data_card import SCHEMA, DataCard, make_card, reasons
from polyprag.knowledge.overlap import Copy, Overlap
from polyprag.records import Augmentation, Knowledge, LoadCounts, Passage, QAPair, Question

REPORT = {
    "by": "small-model",
    "rejected": {"not grounded": 3, "repeated": 1},
    "failed": {"server error": 2},
    "filled": 1,
    "pairs": 4,
}


@pytest.fixture
def config() -> Config:
    return load_config(None, ["data.name=jsonl", "data.path=hf:some/set", "tasks.max_tokens=64", "run.seed=5"])


@pytest.fixture
def knowledge() -> Knowledge:
    """Four passages, one a near duplicate, one without pairs; three test questions, two of them copied."""
    texts = {
        "mill": "Orsin Mill stands on the river Tave in the north.",
        "mill-2": "Orsin Mill stands on the river Tave, in the north.",
        "renn": "Ada Renn was a miller from Corvel.",
        "tave": "The Tave is a river.",
    }
    pairs = {
        "mill": (QAPair("Where does Orsin Mill stand?", "on the Tave"), QAPair("What is Orsin Mill?", "a mill")),
        "mill-2": (QAPair("Where is the Orsin Mill standing today?", "on the Tave"),),
        "renn": (QAPair("When did Ada Renn of Corvel die?", "1851"),),
    }
    rewrites = {"mill": ("On the Tave lies Orsin Mill.",)}
    return Knowledge(
        passages=tuple(Passage(id_, "", text) for id_, text in texts.items()),
        augmentations={id_: Augmentation(id_, rewrites.get(id_, ()), own) for id_, own in pairs.items()},
        test=(
            Question("t1", "Where does the Orsin mill stand?", ("Tave", "the Tave"), "one_hop", ("mill",)),
            Question("t2", "When did old Ada Renn of Corvel die?", ("1851",), "one_hop", ("renn",)),
            Question("t3", "Who was older?", ("Ada Renn",), "comparison"),
        ),
        validation=(Question("v1", "Who milled?", ("Ada Renn",)),),
        counts=LoadCounts(
            duplicates=7, unknown_gold=2, dropped_rows={"answers missing": 4}, dropped_questions={"other types": 9}
        ),
    )


@pytest.fixture
def card(config, knowledge, tiny_tokenizer) -> DataCard:
    return make_card(config, knowledge, tiny_tokenizer, REPORT, {1: 0.5, 3: 1.0})


def test_counts(card):
    assert (card.name, card.passages, card.duplicates) == ("jsonl", 4, 7)
    assert (card.near.found, card.near.looked_at, card.near.examples) == (1, 4, (("mill-2", "mill"),))
    asked, trained, out = card.asked, card.trained, card.left_out
    assert asked.test == {"comparison": 1, "one_hop": 2}
    assert asked.validation == {"": 1}
    assert (asked.with_aliases, asked.with_gold, asked.unknown_gold) == (1, 2, 2)
    assert (trained.passages, trained.by, trained.filled) == (3, "small-model", 1)
    assert (trained.pairs.total, trained.pairs.min, trained.pairs.median, trained.pairs.max) == (4, 0, 1.0, 2)
    assert (trained.rewrites.total, trained.rewrites.max) == (1, 1)
    assert out.rows == {"answers missing": 4}
    assert out.questions == {"other types": 9}
    assert out.augmentation == {"not grounded": 3, "repeated": 1}
    assert out.requests == {"server error": 2}
    assert (card.recall, card.recall_questions) == ({"1": 0.5, "3": 1.0}, 2)


def test_copies(card):
    examples = (
        Copy("mill", "Where does Orsin Mill stand?", "t1", "Where does the Orsin mill stand?", True),
        Copy("renn", "When did Ada Renn of Corvel die?", "t2", "When did old Ada Renn of Corvel die?", False),
    )
    assert card.overlap == Overlap(4, exact=1, near=1, test_exact=1, test_near=1, examples=examples)


def test_lengths(card, knowledge, tiny_tokenizer):
    assert list(card.tokens) == [
        *("passages", "test questions", "test answers", "training questions", "training answers"),
        "training sequences",
    ]
    counted = [len(tiny_tokenizer.encode(question.text, add_special_tokens=False)) for question in knowledge.test]
    assert card.tokens["test questions"].total == sum(counted)
    assert card.tokens["training sequences"].n == 4 + 4 + 2  # alone, with the passage, with the rewrite
    assert card.cut_sequences > 0


def test_warnings_say_what_it_means(card):
    sequences = card.tokens["training sequences"].n
    assert card.warnings == (
        "1 of 3 test questions equal to a training question",
        "1 of 3 test questions nearly a copy of a training question",
        "4 rows of the files left out, since they could not be used: answers missing 4",
        "2 requests for augmentation without an answer: server error 2",
        "1 of 4 passages without a training pair",
        "1 of 4 passages with extractive pairs only, since no other was left",
        f"{card.cut_sequences} of {sequences} training sequences longer than tasks.max_tokens=64, so that they lose "
        "the beginning of their prompt",
        "1 of 4 passages nearly the same as an earlier one",
        "2 gold passages of questions not in the corpus",
        "1 of 3 test questions without known gold passages: recall leaves them out, and controls are refused",
    )


def test_sound_data_need_no_warning(config, tiny_knowledge, tiny_tokenizer):
    config.tasks.max_tokens = 1024
    card = make_card(config, tiny_knowledge, tiny_tokenizer)
    assert card.warnings == ()
    assert (card.recall, card.recall_questions) == ({}, 0)


def test_without_a_tokenizer_lengths_are_left_out(config, knowledge, card):
    without = make_card(config, knowledge, None, REPORT, {1: 0.5, 3: 1.0})
    assert without.tokens == {}
    assert replace(without, tokens=card.tokens, cut_sequences=card.cut_sequences, warnings=card.warnings) == card


def test_it_is_json_and_comes_back(card):
    written = card.to_json()
    assert json.loads(json.dumps(written, allow_nan=False)) == json.loads(json.dumps(written))
    read = json.loads(json.dumps(written))
    assert read["schema"] == SCHEMA == 1
    assert set(read) == {"schema", *DataCard.__dataclass_fields__}
    assert read["overlap"]["examples"][0]["test_id"] == "t1"
    assert read["tokens"]["passages"].keys() == {"n", "of", "total", "min", "median", "p95", "max"}
    assert read["warnings"] == list(card.warnings)


def test_the_summary_holds_numbers_and_warnings(card):
    assert card.summary() == {
        "passages": 4,
        "duplicates": 7,
        "near_duplicates": {"found": 1, "looked_at": 4},
        "pairs": 4,
        "with_gold": 2,
        "left_out": {
            "rows": {"answers missing": 4},
            "questions": {"other types": 9},
            "augmentation": {"not grounded": 3, "repeated": 1},
            "requests": {"server error": 2},
        },
        "overlap": {"training": 4, "exact": 1, "near": 1, "test_exact": 1, "test_near": 1},
        "warnings": list(card.warnings),
    }


def test_reasons_come_by_frequency():
    assert reasons({"a": 1, "b": 2000, "c": 30}) == "b 2,000, c 30, a 1"
