"""The configurations of docs/reproduce.md pass their dry runs on every set, a tiny base in the real one's place."""

import json
import re
from pathlib import Path

import pytest
from programs import ROOT, snapshot

from polyprag.config.loading import load_config
from polyprag.evaluation.trained import trained_with

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
    films = json.loads((PUBLISHED / "2wikimultihopqa" / "dev.json").read_text())[0]["context"]
    rows += [f"{number}\t{' '.join(text)}\t{title}" for number, (title, text) in enumerate(films, start=len(rows) + 1)]
    path.write_text("\n".join(["id\ttext\ttitle", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A folder in the layout of PRAG's released augmentation, as DyPRAG's training examples have it."""
    entries = [
        {
            "test_id": number,
            "question": f"Where is {town}?",
            "answer": "by the Om",
            "augment": [
                {
                    "pid": 0,
                    "passage": f"{town} lies by the Om.",
                    "llama_rewrite": f"By the Om lies {town}.",
                    "llama_qa": [{"question": f"By what is {town}?", "answer": "Om", "full_answer": "By the Om."}],
                }
            ],
        }
        for number, town in enumerate(("Gard", "Tolm"))
    ]
    folder = tmp_path_factory.mktemp("data_aug_projector") / "2wikimultihopqa" / "llama"
    folder.mkdir(parents=True)
    (folder / "total.json").write_text(json.dumps(entries))
    return folder


PEOPLE = [
    ("Arlen", "director of a film"),
    ("Brask", "painter with an occupation"),
    ("Corvo", "author of a book"),
    ("Drissa", "mother of a capital"),
]


@pytest.fixture
def call_of(tiny_keys, collection, tmp_path):
    """`call_of(base, set)`: what all command lines of the page share."""

    def call(base: str, name: str) -> tuple[object, ...]:
        path, *more = SETS[name]
        return (
            *("--config", ROOT / "configs" / "reproduce" / f"{base}.yaml", *tiny_keys, "training.accelerator=cpu"),
            *(f"data.name={name}", f"data.path={PUBLISHED / path}", *more, "run.dir=runs/reproduce/llama32_1b/2wiki"),
            *(f"data.collection={collection}", f"data.collection_index={tmp_path / 'index'}"),
            *("augmentation.by=extractive", "data.validation_questions=0", "logging.wandb=disabled"),
        )

    return call


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Folders of runs count from here, as on the page."""
    monkeypatch.chdir(tmp_path)


def test_there_is_one_for_each_base_and_all_name_the_same_methods():
    assert BASES == ["llama32_1b", "llama3_8b", "qwen25_15b"]
    named = {tuple(load_config(ROOT / "configs" / "reproduce" / f"{base}.yaml").evaluation.methods) for base in BASES}
    assert len(named) == 1


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("base", BASES)
def test_dry_runs(base, name, call_of, tmp_path, in_process, capsys):
    call = call_of(base, name)
    assert in_process("train.py", "augment", *call, "--dry-run") == 0
    assert in_process("train.py", "augment", *call) == 0
    written = snapshot(tmp_path / "runs")
    assert in_process("train.py", *call, "--dry-run") == 0
    assert in_process("evaluate.py", *call, "methods=[vanilla,da_rag,flare,dragin,prag]", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "optimiser steps" in printed
    assert "dragin" in printed
    assert snapshot(tmp_path / "runs") == written


@pytest.mark.parametrize("name", SETS)
def test_all_methods_of_the_configuration_take_what_was_trained(name, call_of, released, in_process, capsys):
    call = call_of("llama32_1b", name)
    short = (
        *("training.max_steps=1", "training.batch_tokens=1024", "training.validate_every=0"),
        *("router.steps=1", "router.validate_every=1", "logging.every_steps=1"),
    )
    assert in_process("train.py", *call, *short) == 0
    assert in_process("train.py", "translator", *call, f"data.outside={released}", "logging.every_steps=1") == 0
    run = Path("runs/reproduce/llama32_1b/2wiki")
    told = trained_with(run, load_config(run / "config.yaml"), has_pool=True)
    assert told["translator"]["data.outside"] == str(released)
    capsys.readouterr()
    assert in_process("evaluate.py", *call, "--dry-run") == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    methods = load_config(ROOT / "configs" / "reproduce" / "llama32_1b.yaml").evaluation.methods
    assert [line.split(":")[0] for line in printed.splitlines() if ", such as " in line] == methods
    if name == "2wikimultihopqa":
        controls_of_questions_with_gold(call, in_process, capsys)


def controls_of_questions_with_gold(call, in_process, capsys) -> None:
    """What the page says of uniform gates: its Python, and its configuration."""
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    exec(compile(code, "docs/reproduce.md", "exec"), {})
    (keys,) = re.findall(r'^G="(.*)"$', page, re.MULTILINE)
    gold = keys.replace("$R", "runs/reproduce/llama32_1b/2wiki").split()
    (methods,) = re.findall(r"\$G .*'(methods=.*)'$", page, re.MULTILINE)
    assert in_process("evaluate.py", *call, *gold, methods, "--dry-run") == 0, capsys.readouterr().err
    assert "poly_prag_uniform: " in capsys.readouterr().out
