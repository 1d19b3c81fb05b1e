import dataclasses

import pytest

from polyprag.records import Augmentation, Knowledge, Passage, QAPair, Question

PASSAGES = (Passage("p0", "Arlen", "Arlen lies by the river."), Passage("p1", "Brask", "Brask lies by the lake."))
PAIRS = (QAPair("Where does Arlen lie?", "by the river"), QAPair("What lies by the river?", "Arlen"))
OWN = Augmentation("p0", ("By the river lies Arlen.", "Arlen is a river town."), PAIRS)
KNOWN = Knowledge(PASSAGES, {"p0": OWN})


def with_first(**changes: str) -> Knowledge:
    """That knowledge with another first passage."""
    return Knowledge((dataclasses.replace(PASSAGES[0], **changes), PASSAGES[1]), {"p0": OWN})


def with_augmentation(**changes: tuple[object, ...]) -> Knowledge:
    return Knowledge(PASSAGES, {"p0": dataclasses.replace(OWN, **changes)})


@pytest.mark.parametrize(
    "other",
    [
        with_first(text="Arlen lies by the sea."),
        with_first(title="Old Arlen"),
        with_first(title="Arlen\nArlen", text="lies by the river."),
        with_augmentation(rewrites=OWN.rewrites[:1]),
        with_augmentation(rewrites=OWN.rewrites[::-1]),
        with_augmentation(qa=PAIRS[:1]),
        with_augmentation(qa=PAIRS[::-1]),
        with_augmentation(qa=(dataclasses.replace(PAIRS[0], answer="by the sea"), PAIRS[1])),
        with_augmentation(qa=(dataclasses.replace(PAIRS[0], full_answer="It lies by the river."), PAIRS[1])),
        Knowledge(PASSAGES),
        Knowledge(PASSAGES, {"p1": dataclasses.replace(OWN, passage_id="p1")}),
        Knowledge(PASSAGES[::-1], {"p0": OWN}),
        Knowledge(PASSAGES[:1], {"p0": OWN}),
    ],
)
def test_the_fingerprint_changes_with_all_that_can_be_learned_and_with_its_order(other):
    assert other.fingerprint != KNOWN.fingerprint


def test_the_fingerprint_does_not_change_with_ids_and_questions():
    renamed = tuple(dataclasses.replace(passage, id=f"new {passage.id}") for passage in PASSAGES)
    augmentations = {"new p0": dataclasses.replace(OWN, passage_id="new p0")}
    asked = (Question("q0", "Where?", ("there",), passage_ids=("new p0",)),)
    assert Knowledge(renamed, augmentations, asked, asked).fingerprint == KNOWN.fingerprint
    assert len(KNOWN.fingerprint) == 64


def test_a_passage_without_augmentation_is_one_with_an_empty_one():
    assert Knowledge(PASSAGES, {"p0": Augmentation("p0")}).fingerprint == Knowledge(PASSAGES).fingerprint
