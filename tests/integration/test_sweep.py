"""A sweep through the real command line: stopped after its first run, taken up again, summed up."""

import csv
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from programs import WORLD, command, environment

PATIENCE = 300
METHODS = ["poly_prag", "poly_prag_oracle"]

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep_call(tmp_path, tiny_keys) -> list[str]:
    """The arguments of a sweep over two counts of experts on the tiny model."""
    (tmp_path / "base.yaml").write_text("router:\n  after_pool: false\n")
    content = {
        "method": "grid",
        "parameters": {"experts.count": {"values": [2, 4]}, "evaluation.methods": {"value": METHODS}},
        "command": ["--config", str(tmp_path / "base.yaml")],
    }
    (tmp_path / "counts.yaml").write_text(yaml.safe_dump(content))
    keys = [key for key in (*tiny_keys, *WORLD) if not key.startswith("experts.count")]
    call = ["sweep", "--config", str(tmp_path / "counts.yaml"), f"run.dir={tmp_path / 'sweep'}"]
    return [*call, "logging.wandb=disabled", *keys]


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_stopped_sweep_goes_on_without_repeating_a_run(sweep_call, in_process, tmp_path, capfd):
    folder = tmp_path / "sweep"
    process = subprocess.Popen(
        command("train.py", *sweep_call),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    patience = time.monotonic() + PATIENCE
    while not list(folder.glob("runs/count-4-*/train.log")) and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM, complaints
    assert printed.splitlines()[0] == f"2 runs of 2 trainings in {folder}, 0 of them finished"
    assert printed.splitlines()[1].startswith("expected: 0.0")
    done, stopped = complaints.splitlines()
    assert done.startswith("run 1 of 2: count=2: poly_prag F1 ")
    assert stopped == "stopped in run 2 of 2 (count=4); go on with the same command"
    assert not (folder / "counts").exists()

    [first] = folder.glob("runs/count-2-*")
    before = times(first)
    assert in_process("train.py", *sweep_call) == 0
    printed, complaints = capfd.readouterr()
    assert printed.startswith(f"2 runs of 2 trainings in {folder}, 1 of them finished\n")
    assert complaints.startswith("run 2 of 2: count=4: poly_prag F1 ")
    assert times(first) == before

    results = folder / "counts"
    assert "| experts.count | seeds | poly_prag | poly_prag_oracle | training |" in (results / "table.md").read_text()
    with open(results / "results.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["experts.count"], row["method"]) for row in rows] == [(k, m) for k in ("2", "4") for m in METHODS]
    runs = [path.name for path in (folder / "runs").iterdir()]
    names = {"f1_experts.count", "f1_bytes_experts.count", "f1_passages_per_expert"}
    names |= {f"{kind}_{run}" for run in runs for kind in ("routing", "use", "similarity")}
    assert {path.stem for path in (results / "figures").glob("*.png")} == names
    assert {path.stem for path in (results / "figures").glob("*.svg")} == names
    assert not list(folder.glob("runs/*/checkpoints"))

    before = times(folder / "runs")
    (results / "table.md").unlink()
    assert in_process("train.py", *sweep_call) == 0
    assert capfd.readouterr().err == ""
    assert times(folder / "runs") == before
    assert (results / "table.md").exists()


def test_a_dry_run_tells_and_writes_nothing(sweep_call, in_process, tmp_path, capsys):
    assert in_process("train.py", *sweep_call, "--dry-run") == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert printed[1].endswith(" hours for the other 2 on this machine")
    assert not (tmp_path / "sweep").exists()
    assert in_process("train.py", *sweep_call, "experts.rank=7", "--print-config") == 0
    assert "  rank: 7\n" in capsys.readouterr().out


def test_a_run_that_fails_ends_the_sweep_with_its_reason(sweep_call, in_process, tmp_path, capfd):
    assert in_process("train.py", *sweep_call, "experts.targets=[none_such]", "experts.count=2", "--dry-run") == 2
    assert "experts.targets: no linear layer named 'none_such'" in capfd.readouterr().err
    (tmp_path / "sweep" / "runs").mkdir(parents=True)
    call = [*sweep_call, "experts.count=2", "methods=[poly_prag_query]", "training.max_steps=1"]
    assert in_process("train.py", *call) == 2
    *_, run, error = capfd.readouterr().err.splitlines()
    assert run.startswith("run 1 of 1: base: failed: ")
    assert error.startswith("error: 1 of 1 runs failed, first base: ")
    assert error.endswith("; the same command tries them again")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("parameters: {experts.count: {values: [2]}}\nparametr: 1\n", "unknown key 'parametr'"),
        ("parameters: {experts.count: {values: []}}\n", "expected a list of at least one value"),
        ("- 1\n", "expected keys such as `parameters:`"),
        ("parameters: {experts.count: {values: [2]}, routing.top_k: {values: [3]}}\n", "count=2 top_k=3 cannot run"),
        (
            "parameters: {experts.count: {values: [2]}}\npolyprag: {base: none.yaml}\n",
            "no base configuration none.yaml",
        ),
    ],
)
def test_a_malformed_sweep_is_one_line(in_process, tmp_path, capfd, content, says):
    (tmp_path / "base.yaml").touch()
    if "base:" not in content and content.startswith("parameters"):
        content += f"polyprag: {{base: '{tmp_path / 'base.yaml'}'}}\n"
    (tmp_path / "bad.yaml").write_text(content)
    assert in_process("train.py", "sweep", "--config", tmp_path / "bad.yaml", f"run.dir={tmp_path / 'sweep'}") == 2
    printed, complaints = capfd.readouterr()
    assert printed == ""
    [line] = complaints.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_needs_a_file(in_process, capfd):
    assert in_process("train.py", "sweep", "experts.count=2") == 2
    assert capfd.readouterr().err.startswith("error: train.py sweep: names no sweep file; add --config and one")


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
def test_training_under_an_agent_of_weights_and_biases(run_program, tiny_keys, tmp_path):
    """What `wandb agent` puts into the environment does not disturb a training."""
    variables = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "r1", "WANDB_PROJECT": "p", "WANDB_ENTITY": "e"}
    keys = [*tiny_keys, *WORLD, "training.max_steps=2", "logging.wandb=offline", "logging.group=g"]
    done = subprocess.run(
        command("train.py", f"run.dir={tmp_path}/${{oc.env:WANDB_RUN_ID}}", "router.after_pool=false", *keys),
        cwd=tmp_path,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r1" / "store").exists()
    assert list((tmp_path / "r1" / "wandb").glob("offline-run-*-r1"))
