import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from polyprag.config import MethodName
from polyprag.config.sharding import NOTHING, WHOLE, Shard
from polyprag.errors import DataError
from polyprag.evaluation.harness import CHOICES, Harness
from polyprag.evaluation.results import ANSWERS, RESULTS
from polyprag.evaluation.shards import SHARDS, TRIALS, Ledger, Unfinished
from polyprag.methods.adapters import FACTS
from polyprag.methods.prag import Prag
from polyprag.methods.workbench import Workbench

VANILLA, RAG, POLY = MethodName.VANILLA, MethodName.STANDARD_RAG, MethodName.POLY_PRAG
SHUFFLED, PRAG = MethodName.POLY_PRAG_SHUFFLED, MethodName.PRAG
SETTLED = ("answering.shots=0", "answering.passages=1", "answering.combine=sum")
OPEN = ("answering.passages=1", "answering.combine=sum", "answering.batch_size=1")
"""Leaves examples open, so that `standard_rag` has three settings."""
ALONE = ("prag.parallel=1", "prag.learning_rate=0.01")
"""Trains adapters one by one, so that an adapter is the same to the last bit whatever is trained beside it."""
DIGITS = 8
"""Bytes by which an adapter's folder may differ from another's: the digits of its seconds of training."""
MEASURED = (
    *("seconds", "seconds_per_question", "first_token_seconds", "seconds_to_first_token", "peak_memory_bytes"),
    *("offline_seconds_per_passage", "break_even", "environment", "key"),
    *("train_seconds", "break_even_prag", "dir"),
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


class TestMachinesWithoutACommonDisk:
    @pytest.fixture
    def machine(self, make_bench, tmp_path):
        """`machine(name, *overrides)`: a workbench on that machine's own copy of the trained run."""

        def copy(name: str, *overrides: str) -> Workbench:
            bench = make_bench(*overrides)
            if not (tmp_path / name).exists():
                shutil.copytree(bench.folder, tmp_path / name)
            return Workbench(bench.config, bench.knowledge, tmp_path / name)

        return copy

    @staticmethod
    def adapters(bench: Workbench) -> set[str]:
        return {path.parent.name for path in bench.adapters.folder.glob(f"*/{FACTS}")}

    @staticmethod
    def retrieved(bench: Workbench, shard: Shard) -> set[str]:
        found = bench.retrieve(shard.own(bench.knowledge.test), 1)
        return {bench.adapters.path(bench.passages[hit.position]).name for hits in found for hit in hits}

    @staticmethod
    def bring(one: Workbench, other: Workbench, what: str) -> None:
        shutil.copytree(one.folder / what, other.folder / what, dirs_exist_ok=True)

    def test_each_trains_the_adapters_of_its_own_questions(self, machine):
        shards = [Shard(index, 4) for index in range(4)]
        benches = [machine(f"m{shard.index}", *SETTLED, *ALONE) for shard in shards]
        for shard, bench in zip(shards, benches, strict=True):
            harness(bench, shard).run_share([PRAG])
            assert self.adapters(bench) == self.retrieved(bench, shard) < self.retrieved(bench, WHOLE)

    def test_their_answers_and_adapters_merge_to_the_same_results(self, machine):
        settings = ("answering.shots=0", "answering.combine=sum", *ALONE)
        names, shards = [VANILLA, PRAG, POLY], [Shard(0, 2), Shard(1, 2)]
        whole = machine("whole", *settings)
        expected = without_measurements(harness(whole).run(names))
        benches = [machine(f"m{shard.index}", *settings) for shard in shards]
        for shard, bench in zip(shards, benches, strict=True):
            assert "prag: waits for the choice" in harness(bench, shard).run_share(names)[1]
        self.bring(benches[0], benches[1], f"evaluation/{SHARDS}/0-of-2")
        self.bring(benches[1], benches[0], f"evaluation/{SHARDS}/1-of-2")
        for shard, bench in zip(shards, benches, strict=True):
            assert harness(bench, shard).run_share(names)[1] == f"prag: all 4 questions of shard {shard} are answered"
        home = machine("home", *settings)
        for shard, bench in zip(shards, benches, strict=True):
            self.bring(bench, home, f"evaluation/{SHARDS}/{shard.index}-of-2")
            self.bring(bench, home, "adapters")
        seconds = sum(json.loads(path.read_text())["seconds"] for path in home.adapters.folder.glob(f"*/{FACTS}"))
        merged = without_measurements(harness(home, NOTHING).run(names))
        sizes = [results["methods"]["prag"].pop("bytes_per_passage") for results in (merged, expected)]
        assert merged == expected
        assert sizes[0] == pytest.approx(sizes[1], abs=DIGITS)
        assert self.adapters(home) == self.adapters(whole)
        assert without_measurements(lines(home.folder / "evaluation" / ANSWERS)) == without_measurements(
            lines(whole.folder / "evaluation" / ANSWERS)
        )
        stored = json.loads((home.folder / "evaluation" / RESULTS).read_text())
        assert stored["methods"]["prag"]["train_seconds"] == pytest.approx(seconds)

    @pytest.mark.parametrize("shard", [NOTHING, WHOLE])
    def test_answers_without_their_adapters_are_not_summed_up(self, machine, shard):
        shards = [Shard(0, 2), Shard(1, 2)]
        benches = [machine(f"m{index}", *SETTLED, *ALONE) for index in range(2)]
        home = machine("home", *SETTLED, *ALONE)
        for own, bench in zip(shards, benches, strict=True):
            harness(bench, own).run_share([PRAG])
            self.bring(bench, home, f"evaluation/{SHARDS}")
        wanted = self.retrieved(home, WHOLE)
        with pytest.raises(DataError, match=rf"^prag: {len(wanted)} of {len(wanted)} adapters behind the answers are "):
            harness(home, shard).run([PRAG])
        self.bring(benches[0], home, "adapters")
        gone = len(wanted - self.retrieved(home, shards[0]))
        with pytest.raises(DataError) as refused:
            harness(home, shard).run([PRAG])
        assert str(refused.value) == (
            f"prag: {gone} of {len(wanted)} adapters behind the answers are not in {home.adapters.folder}; copy the "
            f"adapters/ of each machine that has answered into {home.folder / 'adapters'}, or answer anew with another "
            "evaluation.dir"
        )
        assert not (home.folder / "evaluation" / RESULTS).exists()
        assert self.adapters(home) == self.retrieved(home, shards[0])

    def test_validation_answers_without_their_adapters_choose_nothing(self, machine):
        settings = ("answering.shots=0", "answering.combine=sum", *ALONE)
        bench = machine("whole", *settings)
        harness(bench).run([PRAG])
        shutil.rmtree(bench.folder / "adapters")
        with pytest.raises(DataError, match=r"^prag: .* adapters behind the answers are not in "):
            harness(machine("whole", *settings), NOTHING).choose(Prag(PRAG, bench))
        (bench.folder / "evaluation" / CHOICES).unlink()
        with pytest.raises(DataError, match=r"^prag: .* adapters behind the answers are not in "):
            harness(machine("whole", *settings), NOTHING).choose(Prag(PRAG, bench))
