"""Augmentation that PRAG's released files hold for single questions."""

import json
from pathlib import Path

import pytest

from polyprag.config import DataConfig, DataName
from polyprag.knowledge.question_augmentations import read_question_augmentations
from polyprag.records import Augmentation, Passage, QAPair

TEXTS = ("Ann sailed in 1912; it was cold.", "Jon stayed in Arlen.")
PASSAGES = [Passage(f"p{number}", f"title {number}", text) for number, text in enumerate(TEXTS)]


def written(passage: int, word: str, model: str = "m", pairs: int = 1) -> dict[str, object]:
    qas = [{"question": f"{word} {at}?", "answer": word, "full_answer": f"It is {word}."} for at in range(pairs)]
    return {"pid": 0, "passage": TEXTS[passage], f"{model}_rewrite": f"{word} rewrite", f"{model}_qa": qas}


def asked(question: str, *augment: dict[str, object]) -> dict[str, object]:
    return {"test_id": 0, "question": question, "answer": "x", "passages": [], "augment": list(augment)}


def write(path: Path, *entries: dict[str, object]) -> Path:
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def expected(passage: str, word: str, pairs: int = 1) -> Augmentation:
    qa = tuple(QAPair(f"{word} {at}?", word, f"It is {word}.") for at in range(pairs))
    return Augmentation(passage, (f"{word} rewrite",), qa)


def test_each_question_has_what_was_written_for_it(tmp_path):
    first = asked("Who sailed?", written(0, "red"), written(1, "blue"))
    path = write(tmp_path / "total.json", first, asked("When was it?", written(0, "green")))
    found = read_question_augmentations(DataConfig(name=DataName.POPQA, augmentation=str(path)), PASSAGES)
    assert found == {
        ("who sailed", "p0"): expected("p0", "red"),
        ("who sailed", "p1"): expected("p1", "blue"),
        ("when was it", "p0"): expected("p0", "green"),
    }


def test_of_the_same_question_and_passage_the_first_counts(tmp_path):
    path = write(tmp_path / "total.json", asked("Who?", written(0, "red"), written(0, "blue")))
    asked_again = write(tmp_path / "again.json", asked("Who?", written(0, "red")), asked("who", written(0, "blue")))
    for file in (path, asked_again):
        found = read_question_augmentations(DataConfig(augmentation=str(file)), PASSAGES)
        assert found == {("who", "p0"): expected("p0", "red")}


def test_the_same_model_is_taken_as_for_passages(tmp_path):
    rare = written(1, "blue", "rare")
    path = write(tmp_path / "total.json", asked("Who?", written(0, "red"), rare), asked("When?", written(0, "green")))
    found = read_question_augmentations(DataConfig(augmentation=str(path)), PASSAGES)
    assert set(found) == {("who", "p0"), ("when", "p0")}


def test_the_limits_of_passages_hold(tmp_path):
    path = write(tmp_path / "total.json", asked("Who?", written(0, "red", pairs=3)))
    data = DataConfig(augmentation=str(path), max_pairs=2, max_rewrites=0)
    (found,) = read_question_augmentations(data, PASSAGES).values()
    assert found == Augmentation("p0", (), expected("p0", "red", 2).qa)


def test_a_corpus_in_that_layout_names_them_too(tmp_path):
    path = write(tmp_path / "total.json", asked("Who?", written(0, "red")))
    whole = DataConfig(name=DataName.JSONL, path=str(path))
    assert set(read_question_augmentations(whole, PASSAGES)) == {("who", "p0")}


@pytest.mark.parametrize("content", ['{"passage_id": "p0", "rewrites": ["r"]}\n', "[]", None])
def test_other_layouts_tell_no_questions_apart(tmp_path, content):
    path = tmp_path / "augmentation.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert read_question_augmentations(DataConfig(augmentation=str(path) if content else ""), PASSAGES) == {}
