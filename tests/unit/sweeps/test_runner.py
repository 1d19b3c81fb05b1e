import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from polyprag.errors import Interrupted, SweepError
from polyprag.sweeps.outcomes import evaluation_folder, run_folder
from polyprag.sweeps.runner import EVALUATE, TRAIN, Runner, held

AXES = {"experts.count": [2, 3], "run.seed": [0, 1]}
PATIENCE = 60


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "sweep"


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


class TestRuns:
    def test_every_run_is_trained_then_evaluated(self, make_sweep, run_all, programs, outcomes_of):
        sweep = make_sweep(AXES)
        assert run_all(sweep) == {}
        names = [f"{run.name}-{run.training_id}" for run in sweep.runs]
        assert programs.calls == [(verb, name) for name in names for verb in ("train", "evaluate")]
        outcomes = outcomes_of(sweep)
        assert list(outcomes) == list(sweep.runs)
        for run, outcome in outcomes.items():
            assert outcome.passages == 6
            assert list(outcome.methods) == ["poly_prag", "poly_prag_oracle"]
            for method, f1 in outcome.f1.items():
                assert len(f1) == outcome.methods[method]["n"] == 8
                assert sum(f1.values()) / 8 == pytest.approx(outcome.methods[method]["f1"])
            assert outcome.run is run

    def test_what_is_finished_is_not_done_again(self, make_sweep, run_all, programs, folder):
        sweep = make_sweep(AXES)
        run_all(sweep, sweep.runs[:1])
        before = times(folder)
        programs.calls.clear()
        run_all(sweep)
        assert [name for verb, name in programs.calls if verb == "train"] == [
            f"{run.name}-{run.training_id}" for run in sweep.runs[1:]
        ]
        assert {path: at for path, at in times(folder).items() if path in before} == before

    def test_evaluations_share_a_training(self, make_sweep, run_all, programs, outcomes_of):
        sweep = make_sweep({"answering.passages": [1, 2]})
        run_all(sweep)
        assert [verb for verb, _ in programs.calls] == ["train", "evaluate", "evaluate"]
        assert len({outcome.folder for outcome in outcomes_of(sweep).values()}) == 1

    def test_another_sweep_in_the_folder_takes_over_what_fits(self, make_sweep, run_all, programs):
        run_all(make_sweep({"experts.count": [2, 3]}))
        programs.calls.clear()
        run_all(make_sweep({"experts.rank": [2, 4]}))
        assert [verb for verb, _ in programs.calls] == ["train", "evaluate"]

    def test_further_methods_are_evaluated_alone(self, make_sweep, run_all, programs):
        run_all(make_sweep({"experts.count": [2]}))
        programs.calls.clear()
        run_all(make_sweep({"experts.count": [2]}, "evaluation.methods=[poly_prag,poly_prag_uniform]"))
        assert [verb for verb, _ in programs.calls] == ["evaluate"]

    @pytest.mark.parametrize("method", ["global_lora", "standard_rag_format"])
    def test_controls_are_trained_where_methods_need_them(self, make_sweep, run_all, programs, method):
        sweep = make_sweep({"experts.count": [2]}, f"evaluation.methods=[poly_prag,{method}]", "data.max_passages=4")
        assert run_all(sweep) == {}
        assert [verb for verb, _ in programs.calls] == ["train", "controls", "evaluate"]
        programs.calls.clear()
        assert run_all(sweep) == {}
        assert not programs.calls

    def test_the_translator_is_trained_where_methods_need_it(self, make_sweep, run_all, programs, outcomes_of):
        sweep = make_sweep({"translator.epochs": [1, 2]}, "evaluation.methods=[dyprag]")
        assert run_all(sweep) == {}
        assert [verb for verb, _ in programs.calls] == ["train", "translator", "evaluate"] * 2
        assert len({outcome.folder for outcome in outcomes_of(sweep).values()}) == 2
        programs.calls.clear()
        assert run_all(sweep) == {}
        assert not programs.calls

    def test_a_translator_follows_the_recipe_of_its_adapters(self, make_sweep, run_all, programs):
        assert run_all(make_sweep({"prag.rank": [2, 3]}, "evaluation.methods=[dyprag,vanilla]")) == {}
        assert [verb for verb, _ in programs.calls] == ["train", *["translator", "evaluate"] * 2]

    @pytest.mark.parametrize("kept", [True, False])
    def test_checkpoints_go_when_the_run_is_finished(self, make_sweep, run_all, folder, kept):
        sweep = make_sweep({"experts.count": [2]}, keep_checkpoints=kept)
        checkpoints = [run_folder(folder, sweep.runs[0]) / name for name in ("checkpoints", "router/checkpoints")]
        for path in checkpoints:
            path.mkdir(parents=True)
        run_all(sweep)
        assert [path.exists() for path in checkpoints] == [kept, kept]

    def test_a_command_can_be_repeated_by_hand(self, make_sweep, programs, folder):
        sweep = make_sweep({"experts.count": [2]}, "run.threads=1")
        runner = Runner(sweep, folder, Path("here"), Console(), programs.execute)
        [run] = sweep.runs
        train = runner.command(TRAIN, run, Path("there"))
        assert train[:2] == [sys.executable, "here/train.py"]
        assert train[2:4] == ["--config", str(sweep.definition.base)]
        said = ["run.threads=1", "experts.count=2", "run.dir=there"]
        assert train[4:] == [*said, "logging.group=sweep", "--resume", "auto"]
        own = f"evaluation.dir={evaluation_folder(run)}"
        assert runner.command(EVALUATE, run, Path("there"))[4:] == [*said, own, "logging.group=sweep"]

    def test_a_group_of_the_users_own_stays(self, make_sweep, programs, folder):
        sweep = make_sweep({"experts.count": [2]}, "logging.group=mine")
        runner = Runner(sweep, folder, Path("here"), Console(), programs.execute)
        assert "logging.group=sweep" not in runner.command(TRAIN, sweep.runs[0], Path("there"))


class TestEvaluatedAgain:
    @pytest.fixture
    def sweep(self, make_sweep, run_all, programs):
        sweep = make_sweep({"experts.count": [2]})
        run_all(sweep)
        programs.calls.clear()
        return sweep

    @pytest.fixture
    def evaluation(self, sweep, folder) -> Path:
        return run_folder(folder, sweep.runs[0]) / evaluation_folder(sweep.runs[0])

    def test_results_that_an_evaluation_by_hand_has_replaced(
        self, sweep, evaluation, run_all, programs, outcomes_of, tmp_path
    ):
        [before] = outcomes_of(sweep).values()
        call = ["evaluate", "--config", str(sweep.definition.base), *sweep.runs[0].overrides, "answering.passages=2"]
        call += [f"run.dir={evaluation.parent}", f"evaluation.dir={evaluation.name}"]
        assert programs.execute(["python", *call], tmp_path / "by_hand.log") == 0
        assert not outcomes_of(sweep)
        programs.calls.clear()
        assert run_all(sweep) == {}
        assert [verb for verb, _ in programs.calls] == ["evaluate"]
        [after] = outcomes_of(sweep).values()
        assert after.f1 == before.f1

    def test_results_under_other_defaults(self, sweep, evaluation, run_all, programs):
        path = evaluation / "evaluated.json"
        noted = json.loads(path.read_text())
        assert noted["config"].pop("prag.per") == "passage"
        path.write_text(json.dumps(noted))
        assert run_all(sweep) == {}
        assert not programs.calls, "a key that is younger than the mark counts as at its default"
        noted["config"]["flare.threshold"] = 0.75
        path.write_text(json.dumps(noted))
        assert run_all(sweep) == {}
        assert [verb for verb, _ in programs.calls] == ["evaluate"]

    def test_results_of_earlier_versions_which_left_no_mark(self, sweep, evaluation, run_all, programs, folder):
        (evaluation / "evaluated.json").unlink()
        before = times(folder)
        assert run_all(sweep) == {}
        assert [verb for verb, _ in programs.calls] == ["evaluate"]
        changed = {path.name for path, at in times(folder).items() if before.get(path) != at}
        assert "results.json" in changed
        assert "answers.jsonl" not in changed, "answers are kept"

    def test_an_evaluation_that_failed_after_its_results(self, make_sweep, run_all, programs, outcomes_of):
        sweep = make_sweep({"experts.count": [3]})
        programs.fails_late = True
        for _ in range(2):
            assert run_all(sweep)["count=3"].startswith("the judge's server cannot be reached (see ")
            assert not outcomes_of(sweep)
        programs.fails_late = False
        assert run_all(sweep) == {}
        assert [verb for verb, _ in programs.calls] == ["train", *["evaluate"] * 3]
        assert len(outcomes_of(sweep)) == 1


class TestFailures:
    def test_the_others_go_on_and_the_next_call_tries_again(self, make_sweep, run_all, programs, outcomes_of):
        sweep = make_sweep({"experts.count": [2, 3], "answering.passages": [1, 2]})
        programs.fails = ("count-2",)
        reasons = run_all(sweep)
        assert list(reasons) == ["count=2 passages=1", "count=2 passages=2"]
        assert all(reason.startswith("the loss is nan at step 3 (see ") for reason in reasons.values())
        assert len(outcomes_of(sweep)) == 2
        trainings = [name[:7] for verb, name in programs.calls if verb == "train"]
        assert trainings == ["count-2", "count-3"], "a training that has failed is not tried twice in one call"
        programs.fails = ()
        assert run_all(sweep) == {}
        assert len(outcomes_of(sweep)) == 4

    def test_a_training_under_other_defaults_is_not_taken_for_this_one(self, make_sweep, run_all, folder):
        sweep = make_sweep({"experts.count": [2]})
        run_all(sweep)
        config = run_folder(folder, sweep.runs[0]) / "config.yaml"
        config.write_text(config.read_text().replace("learning_rate: 0.003", "learning_rate: 0.004"))
        reason = run_all(sweep)["count=2"]
        assert reason.endswith("was trained with another training.learning_rate; move it away to train anew")

    def test_results_that_are_not_those_of_the_answers(self, make_sweep, run_all, folder):
        sweep = make_sweep({"experts.count": [2]})
        run_all(sweep)
        answers = run_folder(folder, sweep.runs[0]) / evaluation_folder(sweep.runs[0]) / "answers.jsonl"
        answers.write_text("".join(answers.read_text().splitlines(keepends=True)[:-1]))
        assert "the answers of poly_prag_oracle are not those of results.json" in run_all(sweep)["count=2"]

    @pytest.mark.parametrize("line", ['{"method": "poly_prag"}', '{"method": "poly_prag", "key": [], "scores": 1}'])
    def test_a_damaged_answer_is_its_runs_own_failure(self, make_sweep, run_all, folder, line):
        sweep = make_sweep({"experts.count": [2]})
        run_all(sweep)
        answers = run_folder(folder, sweep.runs[0]) / evaluation_folder(sweep.runs[0]) / "answers.jsonl"
        answers.write_text(f"{answers.read_text()}{line}\n")
        assert "answers.jsonl: a line is not an answer" in run_all(sweep)["count=2"]

    def test_results_that_name_no_store_are_evaluated_again(self, make_sweep, run_all, programs, folder):
        sweep = make_sweep({"experts.count": [2]})
        run_all(sweep)
        path = run_folder(folder, sweep.runs[0]) / evaluation_folder(sweep.runs[0]) / "results.json"
        results = json.loads(path.read_text())
        del results["run"]["store"]
        path.write_text(json.dumps(results))
        programs.calls.clear()
        assert run_all(sweep) == {}
        assert [verb for verb, _ in programs.calls] == ["evaluate"]

    def test_unreadable_results_of_a_run_are_its_own_failure(self, make_sweep, run_all, folder):
        sweep = make_sweep({"experts.count": [2]})
        run_all(sweep)
        results = run_folder(folder, sweep.runs[0]) / evaluation_folder(sweep.runs[0]) / "results.json"
        for content, says in (
            ("{", "not valid JSON"),
            ("[]", "schema 1, not 'list'"),
            ('{"schema": 1}', "run.base is missing"),
        ):
            results.write_text(content)
            assert says in run_all(sweep)["count=2"]

    def test_a_killed_program_is_reported_by_its_signal(self, make_sweep, folder, tmp_path):
        sweep = make_sweep({"experts.count": [2]})
        runner = Runner(sweep, folder, tmp_path, Console(file=io.StringIO()), lambda command, log: -9)
        assert runner.run(sweep.runs, [1.0])["count=2"].startswith("killed by SIGKILL (see ")


class TestProgress:
    def test_a_line_for_each_run(self, make_sweep, run_all, programs):
        sweep, text = make_sweep({"experts.count": [2, 3]}), io.StringIO()
        programs.fails = ("count-3",)
        run_all(sweep, console=Console(file=text, width=40))
        first, second = text.getvalue().splitlines()
        assert first.startswith("run 1 of 2: count=2: poly_prag F1 0.")
        assert first.endswith(" minutes left")
        assert second.startswith("run 2 of 2: count=3: failed: the loss is nan")
        assert second.endswith(" minutes, the last")

    def test_numbers_go_on_where_an_earlier_call_stopped(self, make_sweep, run_all):
        sweep, text = make_sweep({"experts.count": [2, 3]}), io.StringIO()
        run_all(sweep, sweep.runs[:1])
        run_all(sweep, sweep.runs[1:], console=Console(file=text))
        assert text.getvalue().startswith("run 2 of 2: count=3: ")


class TestSignals:
    def test_no_run_begins_after_a_signal(self, make_sweep, programs, folder):
        sweep = make_sweep({"experts.count": [2, 3]})
        asked: list[int] = []

        def execute(command, log):
            status = programs.execute(command, log)
            asked.append(signal.SIGTERM)
            return status

        runner = Runner(
            sweep, folder, Path("here"), Console(file=io.StringIO()), execute, lambda: asked[-1] if asked else 0
        )
        with pytest.raises(
            Interrupted, match=r"^stopped in run 1 of 2 \(count=2\); go on with the same command$"
        ) as end:
            runner.run(sweep.runs, [1.0, 1.0])
        assert end.value.signum == signal.SIGTERM
        assert [verb for verb, _ in programs.calls] == ["train"]


class TestHeld:
    def test_two_sweeps_do_not_share_a_folder_at_once(self, folder):
        with held(folder), pytest.raises(SweepError, match="another sweep, or a run that a killed one has left"):
            held(folder).__enter__()
        with held(folder):
            pass

    def test_a_run_left_behind_holds_the_folder(self, folder):
        with held(folder) as descriptor:
            left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor])
        with pytest.raises(SweepError):
            held(folder).__enter__()
        left.communicate(b"\n")
        patience = time.monotonic() + PATIENCE
        while left.poll() is None and time.monotonic() < patience:
            time.sleep(0.01)
        with held(folder):
            pass


def test_the_mark_tells_of_which_store_training_ended(make_sweep, run_all, programs, train_at_random, folder):
    sweep = make_sweep({"experts.count": [2]})
    run_all(sweep)
    path = run_folder(folder, sweep.runs[0])
    assert list(json.loads((path / "trained.json").read_text())) == ["store"]
    train_at_random(sweep.runs[0].config, path, seed=9)
    programs.calls.clear()
    run_all(sweep)
    assert [verb for verb, _ in programs.calls] == ["train"], "which leaves the store that was evaluated"
