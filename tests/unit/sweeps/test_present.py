import shutil
from pathlib import Path

import pytest

from polyprag.files import write_jsonl
from polyprag.sweeps import present
from polyprag.sweeps.outcomes import evaluation_folder, is_trained, run_folder
from polyprag.sweeps.present import PresentData


@pytest.fixture
def corpus(library_files, tmp_path) -> Path:
    """The library's passages and pairs, to be edited."""
    return Path(shutil.copy(library_files[0], tmp_path / "corpus.jsonl"))


@pytest.fixture
def questions(library_files, tmp_path) -> Path:
    """Its questions, to be edited."""
    return Path(shutil.copy(library_files[1], tmp_path / "questions.jsonl"))


@pytest.fixture
def sweep(make_sweep, run_all, programs, corpus, questions):
    """Two finished runs on these files."""
    sweep = make_sweep({"experts.count": [2, 3]}, f"data.path={corpus}", f"data.questions={questions}")
    assert run_all(sweep) == {}
    programs.calls.clear()
    return sweep


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"), [("a maker of kites", "a flyer of kites"), ('"answer": "1902"', '"answer": "1903"')]
)
def test_a_run_that_learned_from_other_data_is_refused(sweep, run_all, programs, corpus, old, new):
    edit(corpus, old, new)
    says = "was trained on other passages, rewrites or pairs than data.* give now; restore them, or move it away"
    assert all(says in reason for reason in run_all(sweep).values())
    edit(corpus, new, old)
    assert run_all(sweep) == {}
    assert not programs.calls


def test_a_run_that_answered_other_questions_is_refused(sweep, run_all, programs, questions):
    edit(questions, "Which town did Runa Hale", "Which city did Runa Hale")
    reasons = run_all(sweep)
    for run in sweep.runs:
        says = f"{evaluation_folder(run)}: answers other questions than data.* give now; restore them, or move it away"
        assert says in reasons[run.label]
    assert not programs.calls


def test_runs_whose_data_are_gone_stand(sweep, run_all, programs, outcomes_of, corpus, questions):
    corpus.unlink()
    questions.unlink()
    assert len(outcomes_of(sweep)) == 2
    assert run_all(sweep) == {}
    assert not programs.calls


def test_data_are_read_once_for_all_runs(sweep, outcomes_of, monkeypatch):
    read: list[str] = []
    for name in ("training_knowledge", "run_knowledge"):
        real = getattr(present, name)
        monkeypatch.setattr(
            present, name, lambda config, folder, name=name, real=real: (read.append(name), real(config, folder))[1]
        )
    assert len(outcomes_of(sweep)) == 2
    assert read == ["training_knowledge", "run_knowledge"]


def test_only_what_was_written_for_a_run_and_is_still_there_counts(make_sweep, run_all, tmp_path):
    sweep = make_sweep({"experts.count": [2]}, "augmentation.by=extractive")
    run_all(sweep)
    [run] = sweep.runs
    folder = run_folder(tmp_path / "sweep", run)
    assert is_trained(folder, run, PresentData())
    write_jsonl(
        folder / "augmentation.jsonl", [{"passage_id": "p0", "rewrites": ["Arlen is where Mira Tolk is from."]}]
    )
    assert "was trained on other passages, rewrites or pairs" in run_all(sweep)["count=2"]
