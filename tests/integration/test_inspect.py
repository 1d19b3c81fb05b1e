"""`python evaluate.py inspect`, as a user types it, on a tiny random model."""

import re
from pathlib import Path

import pytest
from programs import snapshot

from polyprag.config.loading import load_config
from polyprag.knowledge.loading import load_knowledge

STRANGE = "What is 2=3: yes, no? 'it' \"or\" #that [x]"


@pytest.fixture(scope="module")
def known(trained: Path):
    """A test question of the trained run."""
    return load_knowledge(load_config(trained / "config.yaml").data).test[0]


def test_a_known_question_in_a_process_of_its_own(trained, run_program, known):
    before = snapshot(trained)
    done = run_program("evaluate.py", "inspect", f"run.dir={trained}", f"question={known.text}")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 100
    lines = [line.split() for line in done.stdout.splitlines()]
    for routing in ("passage", "query", "hybrid", "oracle"):
        assert [line for line in lines if line[:1] == [routing]], routing
    for title in ("Answers", "Passages considered", "Experts", "Most decided groups", "Nearest task rows"):
        assert title in done.stdout
    assert known.answers[0] in done.stdout
    assert all(passage in done.stdout for passage in known.passage_ids)
    assert snapshot(trained) == before


def test_a_question_of_ones_own_survives_the_shell_and_the_parser(trained, in_process, capsys):
    assert in_process("evaluate.py", "inspect", f"run.dir={trained}", f"question={STRANGE}") == 0
    printed = capsys.readouterr().out
    assert STRANGE in " ".join(printed.split())
    assert not re.search(r"^\s*oracle", printed, re.MULTILINE)


def test_a_dry_run_names_the_routings(trained, in_process, known, capsys):
    call = ("evaluate.py", "inspect", f"run.dir={trained}", f"question={known.text}", "--dry-run")
    assert in_process(*call) == 0
    names = ["poly_prag", "poly_prag_query", "poly_prag_hybrid", "poly_prag_oracle"]
    assert capsys.readouterr().out.splitlines() == names


@pytest.mark.parametrize("words", [[], ["question="], ["question=  "]])
def test_no_question_is_refused(trained, in_process, capsys, words):
    assert in_process("evaluate.py", "inspect", f"run.dir={trained}", *words) == 2
    printed, complaints = capsys.readouterr()
    assert printed == ""
    assert re.fullmatch(r"error: evaluation\.question is empty; give [^\n]*\n", complaints)


def test_a_run_without_a_store_is_refused(in_process, world_keys, tmp_path, capsys):
    folder = tmp_path / "none"
    assert in_process("evaluate.py", "inspect", f"run.dir={folder}", *world_keys, "question=Who?") == 2
    printed, complaints = capsys.readouterr()
    assert printed == ""
    assert re.fullmatch(rf"error: {folder}: no store there; train one first by [^\n]*\n", complaints)
    assert not folder.exists()


def test_a_question_that_the_shell_took_apart_is_refused(in_process, capsys):
    assert in_process("evaluate.py", "inspect", "run.dir=none", "question=Where", "was", "Ada", "born?") == 2
    assert "'was' is not key=value" in capsys.readouterr().err
