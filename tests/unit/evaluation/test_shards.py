import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from polyprag.config import MethodName
from polyprag.config.sharding import NOTHING, WHOLE, Shard
from polyprag.evaluation.harness import CHOICES, Harness
from polyprag.evaluation.results import ANSWERS, RESULTS
from polyprag.evaluation.shards import SHARDS, TRIALS, Ledger, Unfinished
from polyprag.methods.workbench import Workbench

VANILLA, RAG, POLY = MethodName.VANILLA, MethodName.STANDARD_RAG, MethodName.POLY_PRAG
SHUFFLED = MethodName.POLY_PRAG_SHUFFLED
SETTLED = ("answering.shots=0", "answering.passages=1", "answering.combine=sum")
OPEN = ("answering.passages=1", "answering.combine=sum", "answering.batch_size=1")
"""Leaves examples open, so that `standard_rag` has three settings."""
MEASURED = (
    *("seconds", "seconds_per_question", "first_token_seconds", "seconds_to_first_token", "peak_memory_bytes"),
    *("offline_seconds_per_passage", "break_even", "environment", "key"),
)


def harness(bench: Workbench, shard: Shard = WHOLE) -> Harness:
    return Harness(bench, Console(file=io.StringIO()), shard)


def without_measurements(value: Any) -> Any:
    """Results or answers without what a clock or the machine says."""
    if isinstance(value, dict):
        return {name: without_measurements(inner) for name, inner in value.items() if name not in MEASURED}
    return [without_measurements(inner) for inner in value] if isinstance(value, list) else value


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "run" / "evaluation"


@pytest.fixture
def whole(make_bench, folder):
    """Makes an evaluation in one piece, gives its results and answers, and puts it away."""

    def run(names, *overrides) -> tuple[dict, list[dict]]:
        results, path = harness(make_bench(*overrides)).run(names), folder.parent / "whole"
        answers = lines(folder / ANSWERS)
        folder.rename(path)
        return without_measurements(results), without_measurements(answers)

    return run


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_merge_to_the_same_results(make_bench, whole, folder, order):
    names = [VANILLA, POLY, SHUFFLED]
    results, answers = whole(names, *SETTLED)
    for index in order:
        said = harness(make_bench(*SETTLED), Shard(index, 3)).run_share(names)
        own = len(range(index, 8, 3))
        assert said == [f"{name}: all {own} questions of shard {index}/3 are answered" for name in names]
        assert not (folder / RESULTS).exists()
    merged = harness(make_bench(*SETTLED), NOTHING).run(names)
    assert without_measurements(merged) == results
    assert without_measurements(lines(folder / ANSWERS)) == answers
    assert without_measurements(json.loads((folder / RESULTS).read_text())) == results


def test_a_shard_answers_its_own_questions_once(make_bench, folder):
    ids = [question.id for question in make_bench(*SETTLED).knowledge.test]
    for _ in range(2):
        harness(make_bench(*SETTLED), Shard(1, 3)).run_share([VANILLA])
        rows = lines(folder / SHARDS / "1-of-3" / ANSWERS)
        assert [row["question_id"] for row in rows] == ids[1::3]
    assert not (folder / ANSWERS).exists()


def test_choices_are_those_of_all_validation_questions(make_bench, whole, folder):
    results, answers = whole([RAG], *OPEN)
    shards = [Shard(0, 2), Shard(1, 2)]
    first = harness(make_bench(*OPEN), shards[0]).run_share([RAG])
    assert len(first) == 1
    assert first[0].startswith("standard_rag: waits for the choice; ")
    assert "validation answers by standard_rag are missing: 1 of shard 1/2; run evaluate.py with each" in first[0]
    assert first[0].endswith(", then with 0/2 again")
    assert not (folder / SHARDS / "0-of-2" / ANSWERS).exists()
    for shard in (shards[1], shards[0]):
        assert harness(make_bench(*OPEN), shard).run_share([RAG]) == [
            f"standard_rag: all 4 questions of shard {shard} are answered"
        ]
    counts = [len(lines(folder / SHARDS / f"{index}-of-2" / TRIALS)) for index in range(2)]
    assert counts == [3, 3]  # each validation question under each setting, once
    assert without_measurements(harness(make_bench(*OPEN), NOTHING).run([RAG])) == results
    assert without_measurements(lines(folder / ANSWERS)) == answers
    assert (folder / CHOICES).read_bytes() == (folder.parent / "whole" / CHOICES).read_bytes()


def test_choosing_goes_on_where_it_was_stopped(make_bench, whole, folder):
    results, _ = whole([RAG], *OPEN)
    folder.mkdir()
    rows = (folder.parent / "whole" / TRIALS).read_bytes().splitlines(keepends=True)
    (folder / TRIALS).write_bytes(b"".join(rows[:3]) + rows[3][:20])
    assert without_measurements(harness(make_bench(*OPEN)).run([RAG])) == results
    assert (folder / TRIALS).read_bytes() == b"".join(rows)


class TestMissing:
    def test_shards_that_have_not_run_are_named(self, make_bench):
        for index in (0, 2):
            harness(make_bench(*SETTLED), Shard(index, 4)).run_share([VANILLA])
        with pytest.raises(
            Unfinished,
            match=r"evaluation/shards: answers by vanilla are missing: 2 of shard 1/4, 2 of shard 3/4; "
            r"run evaluate\.py with each of these as run\.shard$",
        ):
            harness(make_bench(*SETTLED), NOTHING).run([VANILLA])

    def test_a_method_that_no_shard_has_run_is_named(self, make_bench):
        for index in range(2):
            harness(make_bench(*SETTLED), Shard(index, 2)).run_share([VANILLA])
        with pytest.raises(Unfinished, match=r"answers by standard_rag are missing: 4 of shard 0/2, 4 of shard 1/2"):
            harness(make_bench(*SETTLED), NOTHING).run([VANILLA, RAG])

    def test_other_settings_are_other_answers(self, make_bench):
        harness(make_bench(*SETTLED), Shard(0, 2)).run_share([VANILLA])
        with pytest.raises(Unfinished, match="4 of shard 0/2, 4 of shard 1/2"):
            harness(make_bench("answering.shots=1", *SETTLED[1:]), NOTHING).run([VANILLA])

    def test_nothing_to_merge(self, make_bench):
        with pytest.raises(
            Unfinished, match=r"8 answers by vanilla are missing, and no shard is there; .*0/N to N-1/N"
        ):
            harness(make_bench(*SETTLED), NOTHING).run([VANILLA])

    def test_shards_of_different_numbers_are_told(self, make_bench):
        for shard in (Shard(0, 2), Shard(2, 3)):
            harness(make_bench(*SETTLED), shard).run_share([VANILLA])
        with pytest.raises(Unfinished, match=r"3 answers by vanilla are missing, and shards of 2 and of 3 are there"):
            harness(make_bench(*SETTLED), NOTHING).run([VANILLA])

    def test_a_call_without_shard_answers_what_is_missing(self, make_bench, whole, folder):
        results, answers = whole([VANILLA], *SETTLED)
        harness(make_bench(*SETTLED), Shard(1, 3)).run_share([VANILLA])
        assert without_measurements(harness(make_bench(*SETTLED)).run([VANILLA])) == results
        found = without_measurements(lines(folder / ANSWERS))
        assert sorted(found, key=lambda row: row["question_id"]) == sorted(answers, key=lambda row: row["question_id"])


def test_a_ledger_reads_all_and_writes_its_own(tmp_path):
    whole, own = Ledger(tmp_path, WHOLE), Ledger(tmp_path, Shard(3, 12))
    assert whole.shards() == []
    own.add("name", "key", [{"at": 1}])
    whole.add("name", "key", [{"at": 0}])
    own.add("name", "other", [{"at": 2}])
    assert whole.shards() == own.shards() == [Shard(3, 12)]
    assert [row["at"] for _, row in whole.rows("name", "key")] == [0, 1]
    assert [path.parent.name for path, _ in own.rows("name", "key")] == [tmp_path.name, "3-of-12"]
