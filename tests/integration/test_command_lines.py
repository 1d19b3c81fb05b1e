"""What a user types, from training to the table, on a tiny random model."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from programs import command, environment, snapshot

from polyprag.config import DEFAULT_METHODS, MethodName, RouterDesign
from polyprag.config.loading import load_config
from polyprag.router_store import StoredRouter, open_router
from polyprag.store import open_store, verify_store
from polyprag.training.controls import CONTROLS, control_folder

METHODS = [name.value for name in DEFAULT_METHODS]
LATER_METHODS = ["poly_prag_query", "poly_prag_hybrid", "poly_prag_random", "global_lora", "format_lora"]
STEPS = ["retrieve", "route", "load_merge", "generate"]
RESULT_KEYS = {
    *("n", "f1", "em", "contains", "f1_ci95", "by_type"),
    *("seconds_per_question", "prompt_tokens", "bytes_per_passage", "train_seconds"),
}
OTHER_KEYS = {"prag_f1", "macro_f1", "new_tokens", "generated_tokens", "retrievals", "choice", "key", "grounds"}
COST_KEYS = {"seconds_to_first_token", "tokens_in", "tokens_out", "offline_seconds_per_passage"}
COST_KEYS |= {"peak_memory_bytes"} if sys.platform == "linux" else set()
PATIENCE = 240


def no_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def router_of(run: Path) -> StoredRouter:
    return open_router(run / "router", open_store(run / "store").manifest.digest)


def same_weights(one: Path, other: Path) -> bool:
    """Whether the query routers of two runs are equal bit for bit."""
    states = [router_of(run).router.state_dict() for run in (one, other)]
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def copy_of(run: Path, folder: Path) -> Path:
    """A run as training left it, in another place."""
    for part in ("store", "router"):
        shutil.copytree(run / part, folder / part)
    shutil.copy(run / "config.yaml", folder)
    return folder


@pytest.fixture(scope="module")
def evaluation(trained, run_program):
    """`evaluate.py` with all methods on the trained run: its folder and what it said."""
    done = run_program("evaluate.py", f"run.dir={trained}")
    assert done.returncode == 0, done.stderr
    return trained / "evaluation", done


@pytest.fixture(scope="module")
def controlled(trained, run_program, tmp_path_factory):
    """A run with its controls, evaluated by methods that need more than the pool: folder, and what was said."""
    run = copy_of(trained, tmp_path_factory.mktemp("controlled") / "run")
    done = run_program("train.py", "controls", f"run.dir={run}")
    assert done.returncode == 0, done.stderr
    done = run_program("evaluate.py", f"run.dir={run}", f"methods=[{','.join(LATER_METHODS)}]")
    assert done.returncode == 0, done.stderr
    return run, done


@pytest.fixture
def own_files(tmp_path) -> list[str]:
    """Overrides that name a user's own corpus and questions."""
    names = ["Ada Moor", "Ben Lund", "Cleo Rask"]
    corpus = [{"id": f"p{at}", "title": name, "text": f"{name} lives in Oslo."} for at, name in enumerate(names)]
    questions = [
        {"question": f"Where does {name} live?", "answers": ["Oslo"], "type": "place"} for name in [*names, "Nobody"]
    ]
    for name, rows in (("corpus", corpus), ("questions", questions)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [f"data.path={tmp_path / 'corpus.jsonl'}", f"data.questions={tmp_path / 'questions.jsonl'}"]


class TestTraining:
    def test_it_names_the_store_and_the_next_step(self, training):
        folder, done = training
        assert done.returncode == 0, done.stderr
        last = done.stdout.strip().splitlines()[-1]
        assert last == f"the store is {folder / 'store'}; next: python evaluate.py run.dir={folder}"

    def test_it_leaves_a_whole_run(self, trained, world_keys):
        expected = load_config(None, [f"run.dir={trained}", "logging.wandb=disabled", *world_keys])
        assert load_config(trained / "config.yaml") == expected
        assert {"python", "torch", "platform", "cpu_count"} <= json.loads(
            (trained / "environment.json").read_text()
        ).keys()
        assert (trained / "checkpoints" / "last.ckpt").is_file()
        verify_store(trained / "store")
        store = open_store(trained / "store")
        assert len(store.passages) == 20
        assert store.rows_NGK.shape == (20, 9, 3)
        assert store.manifest.training["steps"] > 10
        assert store.manifest.training["seconds"] > 0

    def test_its_curves_are_in_a_csv_file(self, trained):
        (path,) = (trained / "logs").rglob("metrics.csv")
        with open(path, newline="") as handle:
            rows = list(csv.DictReader(handle))
        for column in ("train/loss", "train/tokens_per_second", "routing/entropy", "routing/imbalance", "val/f1"):
            assert any(row[column] for row in rows), column
        assert not (trained / "wandb").exists()

    def test_the_adapters_of_no_passage_and_no_pickle_are_left(self, trained):
        assert not [path for path in (trained / "store").rglob("*") if path.suffix in {".pkl", ".pt", ".bin", ".ckpt"}]

    def test_a_dry_run_prints_sizes_and_writes_nothing(self, in_process, world_keys, tmp_path, capsys):
        folder = tmp_path / "run"
        assert in_process("train.py", f"run.dir={folder}", "--dry-run", *world_keys) == 0
        printed, complaints = capsys.readouterr()
        assert complaints == ""
        heads = ["tasks", "packed sequences", "tokens per pass", "optimiser steps", "trainable parameters", "store"]
        assert all(any(line.startswith(head) for line in printed.splitlines()) for head in heads)
        assert "20" in printed.splitlines()[0]
        assert not folder.exists()

    def test_a_dry_run_on_documents_ends_after_the_plan_of_their_augmentation(
        self, in_process, tiny_keys, tmp_path, capsys, caplog
    ):
        (tmp_path / "lighthouse.md").write_text("# Ada Moor\n\nAda Moor was born in Oslo in 1902.\n", encoding="utf-8")
        run = (f"run.dir={tmp_path / 'run'}", *tiny_keys, f"data.path={tmp_path / 'lighthouse.md'}", "data.name=jsonl")
        assert in_process("train.py", *run, "augmentation.by=extractive", "--dry-run") == 0
        printed, complaints = capsys.readouterr()
        assert complaints == ""
        plan, last = printed.splitlines()
        assert plan.startswith("1 passages; no model is asked")
        assert "pairs are not written yet" in last
        assert caplog.text.count("there are no test questions") == 1
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("own", [1, 2])
    def test_a_corpus_whose_pairs_are_all_trained_on_is_told_before_training(
        self, in_process, tiny_keys, tmp_path, caplog, own
    ):
        pairs = [{"question": f"When was Ada Moor born {at}?", "answer": "1902"} for at in range(own)]
        corpus = tmp_path / "corpus.jsonl"
        corpus.write_text(json.dumps({"title": "Ada Moor", "text": "She was born in 1902.", "qas": pairs}) + "\n")
        run = (f"run.dir={tmp_path / 'run'}", *tiny_keys, "data.name=jsonl", f"data.path={corpus}", "data.train_qas=1")
        assert in_process("train.py", *run, "router.after_pool=false", "--dry-run") == 0
        assert caplog.text.count("there are no test questions") == (own == 1)


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(trained, run_program, world_keys, tmp_path):
    folder = tmp_path / "stopped"
    keys = (f"run.dir={folder}", "training.checkpoint_minutes=0.00001", "logging.wandb=offline", *world_keys)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    process = subprocess.Popen(
        command("train.py", *keys),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    patience = time.monotonic() + PATIENCE
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM, complaints
    assert "go on with --resume auto" in complaints.strip().splitlines()[-1]
    assert not (folder / "store").exists()
    assert list((folder / "wandb").glob("offline-run-*"))

    resumed = run_program("train.py", *keys, "logging.wandb=disabled", "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr
    for name in ("pool.safetensors", "rows.safetensors"):
        assert (folder / "store" / name).read_bytes() == (trained / "store" / name).read_bytes()
    steps = [open_store(run / "store").manifest.training["steps"] for run in (folder, trained)]
    assert steps[0] == steps[1]
    assert same_weights(folder, trained)


class TestQueryRouter:
    def test_it_is_trained_right_after_the_pool(self, trained):
        facts = router_of(trained).facts
        assert (facts.passages, facts.groups, facts.experts) == (20, 9, 3)
        assert facts.training["held_back"] > 0
        assert 0 <= facts.training["first_choice"] <= 1
        assert facts.training["step"] in (0, 10, 20)
        (path,) = (trained / "router" / "logs").rglob("metrics.csv")
        with open(path, newline="") as handle:
            rows = list(csv.DictReader(handle))
        for column in ("router/loss", "router/first_choice", "router/held_back_loss"):
            assert any(row[column] for row in rows), column

    def test_it_can_be_trained_again_in_another_way(self, trained, in_process, tmp_path, capsys):
        run = copy_of(trained, tmp_path / "run")
        before = snapshot(run / "store") | {run / "config.yaml": (run / "config.yaml").read_bytes()}
        assert in_process("train.py", "router", f"run.dir={run}", "router.design=mlp", "router.lm_steps=2") == 0
        line = capsys.readouterr().out.strip().splitlines()[-1]
        assert line.startswith(f"the query router is {run / 'router'}; of ")
        assert router_of(run).facts.design is RouterDesign.MLP
        after = snapshot(run)
        assert {path: after[path] for path in before} == before

    def test_the_same_call_gives_the_same_one(self, trained, in_process, tmp_path):
        run = copy_of(trained, tmp_path / "run")
        (run / "router" / "router.safetensors").unlink()
        assert in_process("train.py", "router", f"run.dir={run}") == 0
        assert same_weights(run, trained)

    def test_a_finished_one_is_left_as_it_is(self, trained, in_process, capsys):
        before = snapshot(trained)
        assert in_process("train.py", "router", f"run.dir={trained}", "--resume", "auto") == 0
        assert snapshot(trained) == before

    def test_a_dry_run_prints_sizes_and_writes_nothing(self, trained, in_process, capsys):
        before = snapshot(trained)
        assert in_process("train.py", "router", f"run.dir={trained}", "--dry-run") == 0
        printed = capsys.readouterr().out
        heads = ["training questions", "sentences", "held-back questions", "steps", "trainable parameters"]
        assert [line.split("  ")[0] for line in printed.splitlines()] == heads
        assert snapshot(trained) == before

    def test_the_pool_may_be_trained_without(self, in_process, world_keys, tmp_path):
        folder = tmp_path / "run"
        keys = ("router.after_pool=false", "training.max_steps=2", "logging.wandb=disabled")
        assert in_process("train.py", f"run.dir={folder}", *world_keys, *keys) == 0
        assert not (folder / "router").exists()


class TestControls:
    def test_each_is_a_run_of_one_expert_within_the_run(self, controlled, trained):
        run, _ = controlled
        own = {passage.content_hash for passage in open_store(trained / "store").passages}
        for name in CONTROLS:
            folder = control_folder(run, name)
            verify_store(folder / "store")
            store = open_store(folder / "store")
            assert store.rows_NGK.shape == (20, 1, 1)
            learned = {passage.content_hash for passage in store.passages}
            assert learned == own if name is MethodName.GLOBAL_LORA else not learned & own
            assert load_config(folder / "config.yaml").experts.rank == 3 * 2
            assert not (folder / "router").exists()

    def test_they_are_compared_with_the_rest(self, controlled):
        run, done = controlled
        results = json.loads((run / "evaluation" / "results.json").read_text(), parse_constant=no_constant)
        assert list(results["methods"]) == LATER_METHODS
        for name in LATER_METHODS:
            assert [line for line in done.stdout.splitlines() if line.split()[:1] == [name]], name
        names = [line.split()[0] for line in done.stdout.splitlines() if line.split()[:1]]
        assert names.index("controls") > names.index("poly_prag_hybrid")
        assert names.index("controls") < min(map(names.index, ("poly_prag_random", "global_lora", "format_lora")))
        for name in ("global_lora", "format_lora"):
            trained_seconds = open_store(run / "controls" / name / "store").manifest.training["seconds"]
            assert results["methods"][name]["train_seconds"] == trained_seconds
            assert results["methods"][name].keys().isdisjoint({"own_first", "abstained"})


class TestEvaluation:
    def test_one_table_shows_all_methods(self, evaluation):
        folder, done = evaluation
        lines = done.stdout.splitlines()
        for name in METHODS:
            assert [line for line in lines if line.split()[:1] == [name]], name
        assert lines[-1] == f"answers, results and this table: {folder}"
        table = (folder / "table.md").read_text(encoding="utf-8")
        assert all(f"`{name}`" in table for name in METHODS)

    def test_results_follow_the_schema(self, evaluation):
        results = json.loads((evaluation[0] / "results.json").read_text(), parse_constant=no_constant)
        assert results["schema"] == 1
        assert results.keys() == {"schema", "run", "data", "methods", "differences"}
        assert list(results["methods"]) == METHODS
        questions = results["data"]["questions"]
        for name, result in results["methods"].items():
            choosing = {"own_first"} if name != "vanilla" else set()
            routing = {"abstained"} if name.startswith("poly_prag") else set()
            repaid = {"break_even"} if name != "standard_rag" else set()
            repaid |= {"break_even_prag"} if name.startswith("poly_prag") else set()
            assert result.keys() == RESULT_KEYS | OTHER_KEYS | COST_KEYS | choosing | routing | repaid, name
            assert result["n"] == questions
            low, high = result["f1_ci95"]
            assert 0 <= low <= result["f1"] <= high <= 1
            assert 0 <= result["em"] <= result["contains"] <= 1
            assert sum(entry["n"] for entry in result["by_type"].values()) == questions
            assert all({"n", "f1", "em"} <= entry.keys() for entry in result["by_type"].values())
            seconds = result["seconds_per_question"]
            assert list(seconds) == ["total", *STEPS]
            assert seconds["total"] == pytest.approx(sum(seconds[step] for step in STEPS))

    def test_each_method_shows_its_own_costs(self, evaluation, trained):
        methods = json.loads((evaluation[0] / "results.json").read_text())["methods"]
        for name, result in methods.items():
            seconds = result["seconds_per_question"]
            assert (seconds["load_merge"] > 0) == name.startswith("prag")
            retrieving = name in ("poly_prag", "poly_prag_combine")
            assert (seconds["route"] > 0) == (name.startswith("poly_prag") and not retrieving)
            assert (result["bytes_per_passage"] > 0) == (name != "vanilla")
        store = open_store(trained / "store")
        trained_seconds = store.manifest.training["seconds"]
        assert methods["poly_prag"]["train_seconds"] == trained_seconds
        beforehand = trained_seconds + store.manifest.training["index_seconds"]
        assert methods["poly_prag"]["offline_seconds_per_passage"] == pytest.approx(beforehand / len(store.passages))
        assert methods["vanilla"]["offline_seconds_per_passage"] == 0
        router_seconds = router_of(trained).facts.training["seconds"]
        for name in ("poly_prag_query", "poly_prag_hybrid"):
            assert methods[name]["train_seconds"] == trained_seconds + router_seconds
        assert methods["prag"]["train_seconds"] > 0
        for with_passages, without in [
            ("standard_rag", "vanilla"),
            ("prag_combine", "prag"),
            ("poly_prag_combine", "poly_prag"),
        ]:
            assert methods[with_passages]["prompt_tokens"] > methods[without]["prompt_tokens"] + 50

    def test_every_answer_is_on_a_line(self, evaluation):
        folder, _ = evaluation
        lines = [json.loads(line) for line in (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
        questions = json.loads((folder / "results.json").read_text())["data"]["questions"]
        assert [line["method"] for line in lines] == [name for name in METHODS for _ in range(questions)]

    def test_a_second_call_answers_nothing_again(self, evaluation, trained, in_process, capsys):
        folder, done = evaluation
        before = snapshot(folder)
        assert in_process("evaluate.py", f"run.dir={trained}") == 0
        printed = capsys.readouterr().out
        after = snapshot(folder)
        assert after.keys() == before.keys()
        for path in after:
            assert after[path] == before[path] or path.name == "results.json"
        methods = [json.loads(files[folder / "results.json"])["methods"] for files in (before, after)]
        assert methods[0] == methods[1]
        assert printed == done.stdout

    def test_a_dry_run_prints_the_plan_and_writes_nothing(self, trained, in_process, capsys):
        before = snapshot(trained)
        assert in_process("evaluate.py", f"run.dir={trained}", "methods=[poly_prag]", "--dry-run") == 0
        printed = capsys.readouterr().out.splitlines()
        assert "test questions" in printed[0]
        assert printed[1].startswith("poly_prag: 1 setting, such as")
        assert snapshot(trained) == before

    def test_other_questions_go_to_another_folder(self, trained, in_process, own_files, capsys):
        keys = [
            f"run.dir={trained}",
            "data.name=jsonl",
            own_files[1],
            "evaluation.dir=mine",
            "data.validation_questions=0",
        ]
        assert in_process("evaluate.py", *keys, "methods=[vanilla,poly_prag]") == 0
        results = json.loads((trained / "mine" / "results.json").read_text())
        assert results["data"]["passages"] == 20
        assert results["methods"]["poly_prag"]["n"] == 4


class TestWithoutStore:
    def test_prompt_methods_run_from_a_config_file_alone(self, run_program, tiny_keys, own_files, tmp_path):
        config = tmp_path / "mine.yaml"
        config.write_text("data:\n  name: jsonl\n  validation_questions: 0\nanswering:\n  max_new_tokens: 4\n")
        keys = [f"run.dir={tmp_path / 'run'}", *tiny_keys, *own_files, "methods=[vanilla,standard_rag]"]
        done = run_program("evaluate.py", "--config", config, *keys, "logging.wandb=disabled")
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / "run" / "evaluation" / "results.json").read_text())
        assert list(results["methods"]) == ["vanilla", "standard_rag"]
        assert results["data"]["passages"] == 3
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["evaluation"]

    def test_so_they_do_on_the_demo_world(self, in_process, world_keys, tmp_path, capsys):
        keys = [f"run.dir={tmp_path / 'run'}", *world_keys, "data.limit=3", "methods=[standard_rag]"]
        assert in_process("evaluate.py", *keys, "logging.wandb=disabled") == 0
        assert (
            json.loads((tmp_path / "run" / "evaluation" / "results.json").read_text())["methods"]["standard_rag"]["n"]
            == 3
        )


class TestPrintConfig:
    def test_training_prints_what_it_would_read_again(self, run_program, tmp_path):
        config = tmp_path / "mine.yaml"
        config.write_text("experts:\n  count: 5\ndata:\n  types: [one_hop, 'two: hop']\n")
        keys = ["experts.rank=3", f"run.dir={tmp_path / 'a folder: #1'}"]
        done = run_program("train.py", "--config", config, *keys, "--print-config")
        assert (done.returncode, done.stderr) == (0, "")
        printed = tmp_path / "printed.yaml"
        printed.write_text(done.stdout, encoding="utf-8")
        assert load_config(printed) == load_config(config, keys)
        again = run_program("train.py", "--config", printed, "--print-config")
        assert again.stdout == done.stdout
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "printed.yaml"]

    def test_evaluation_prints_that_of_the_run(self, trained, in_process, capsys, tmp_path):
        assert in_process("evaluate.py", f"run.dir={trained}", "answering.shots=2", "--print-config") == 0
        printed = tmp_path / "printed.yaml"
        printed.write_text(capsys.readouterr().out, encoding="utf-8")
        assert load_config(printed) == load_config(trained / "config.yaml", ["answering.shots=2"])


@pytest.mark.parametrize("program", ["train.py", "evaluate.py"])
def test_help_explains_itself(in_process, program, capsys):
    with pytest.raises(SystemExit) as ended:
        in_process(program, "--help")
    assert ended.value.code == 0
    assert f"python {program} [VERB] --config FILE key=value" in capsys.readouterr().out


def test_the_readable_files_of_a_run_are_utf8_text(evaluation, trained):
    for path in (trained / "config.yaml", trained / "environment.json", *Path(evaluation[0]).glob("*.*")):
        assert path.read_text(encoding="utf-8").endswith("\n")
