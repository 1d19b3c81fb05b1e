"""The configurations of docs/reproduce.md pass their dry runs on every set, a tiny base in the real one's place."""

from pathlib import Path

import pytest
from programs import ROOT, snapshot

BASES = sorted(path.stem for path in (ROOT / "configs" / "reproduce").glob("*.yaml"))
PUBLISHED = ROOT / "tests" / "unit" / "knowledge" / "published"
COT = ("answering.prompt=cot", "answering.max_new_tokens=128")
SETS = {
    "2wikimultihopqa": ("2wikimultihopqa", *COT),
    "hotpotqa": ("hotpotqa/hotpot_dev_distractor_v1.json", *COT),
    "popqa": ("popqa/popQA.tsv", "prag.epochs=2"),
    "complexwebquestions": ("complexwebquestions/ComplexWebQuestions_dev.json",),
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    """A passage collection in DPR's form."""
    path = tmp_path_factory.mktemp("collection") / "psgs_w100.tsv"
    rows = [
        f'{number}\t"Mira {name} was born in Vienna in 18{number}7. She was a {word} and founded {name} Hall."\t{word}'
        for number, (name, word) in enumerate(PEOPLE, start=1)
    ]
    path.write_text("\n".join(["id\ttext\ttitle", *rows]) + "\n")
    return path


PEOPLE = [
    ("Arlen", "director of a film"),
    ("Brask", "painter with an occupation"),
    ("Corvo", "author of a book"),
    ("Drissa", "mother of a capital"),
]


def test_there_is_one_for_each_base():
    assert BASES == ["llama32_1b", "llama3_8b", "qwen25_15b"]


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("base", BASES)
def test_dry_runs(base, name, tiny_keys, collection, tmp_path, in_process, capsys):
    path, *more = SETS[name]
    call = (
        *("--config", ROOT / "configs" / "reproduce" / f"{base}.yaml", *tiny_keys, "training.accelerator=cpu"),
        *(f"data.name={name}", f"data.path={PUBLISHED / path}", *more, f"run.dir={tmp_path / 'run'}"),
        *(f"data.collection={collection}", f"data.collection_index={tmp_path / 'index'}"),
        *("augmentation.by=extractive", "data.validation_questions=0"),
    )
    assert in_process("train.py", "augment", *call, "--dry-run") == 0
    assert in_process("train.py", "augment", *call) == 0
    written = snapshot(tmp_path / "run")
    assert in_process("train.py", *call, "--dry-run") == 0
    assert in_process("evaluate.py", *call, "methods=[vanilla,da_rag,flare,dragin,prag]", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "optimiser steps" in printed
    assert "dragin" in printed
    assert snapshot(tmp_path / "run") == written
