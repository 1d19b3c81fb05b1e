import re
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from polyprag.config.checks import validate
from polyprag.config.loading import load_config
from polyprag.errors import ConfigError
from polyprag.sweeps.definition import Axis, Design, read_definition
from polyprag.sweeps.grid import build_sweep

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted(path for path in (ROOT / "configs" / "sweeps").glob("*.yaml") if not path.name.startswith("base"))
GRIDS = [path for path in SHIPPED if "\npolyprag:" not in path.read_text()]
WANDB_KEYS = {
    *("apiVersion", "kind", "controller", "description", "program", "job", "image_uri", "entity", "project", "method"),
    *("command", "name", "run_cap", "metric", "metrics", "scheduler", "early_terminate", "parameters"),
}
"""Top-level keys in the JSON schema of W&B sweeps, which knows no others (package `sweeps` 0.3.0)."""
WANDB_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
GOOD = "parameters: {experts.count: {values: [1, 2]}}\ncommand: [--config, base.yaml]\n"


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """`refused(text, says)`: reading the text as a sweep file ends in one line that begins with the file's name."""
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text("")

    def check(text: str | bytes, says: str) -> None:
        path = Path("sweep.yaml")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError) as caught:
            read_definition(path)
        assert re.fullmatch(rf"sweep\.yaml(:\d+)?: {says}", str(caught.value)), caught.value

    return check


def test_all_that_a_file_can_say(base_file, sweep_file):
    swept = {
        "experts.count": [1, 2],
        "routing.gumbel": [False, True],
        "training.learning_rate": [1e-5],
        "experts.targets": [["gate_proj"], ["gate_proj", "up_proj"]],
        "run.seed": [0, 7],
        "data.limit": 5,
    }
    found = read_definition(sweep_file(swept, design="one_at_a_time", x="routing.gumbel", keep_checkpoints=True))
    assert found.base == base_file
    assert found.axes == (
        Axis("experts.count", ("1", "2")),
        Axis("routing.gumbel", ("false", "true")),
        Axis("training.learning_rate", ("1e-05",)),
        Axis("experts.targets", ('["gate_proj"]', '["gate_proj", "up_proj"]')),
    )
    assert found.seeds == ("0", "7")
    assert found.constants == ("data.limit=5",)
    assert (found.design, found.x, found.keep_checkpoints) == (Design.ONE_AT_A_TIME, "routing.gumbel", True)


def test_little_is_needed(tmp_path, monkeypatch, refused):
    Path("sweep.yaml").write_text(GOOD)
    found = read_definition(Path("sweep.yaml"))
    assert (found.design, found.x, found.keep_checkpoints, found.seeds) == (Design.GRID, "", False, ())
    Path("sweep.yaml").write_text("parameters: {experts.count: {values: [1]}}\npolyprag: {base: base.yaml}\n")
    assert read_definition(Path("sweep.yaml")).base == Path("base.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"expected keys such as `parameters:`, not 'None'; docs/sweeps\.md shows .*"),
        ("- a\n- b\n", r"expected keys such as `parameters:`, not .*"),
        ("parameters: {a: [}\n", r"not valid YAML: .*; correct it"),
        (b"name: \xff\n", r"cannot be read \(UnicodeDecodeError\); name a sweep file after --config"),
        ("name: \x01\n", r"not valid YAML \(.*\); correct it"),
        (f"{GOOD}parametrs: 1\n", r"unknown key 'parametrs'; did you mean parameters\?"),
        (f"{GOOD}parameters: {{}}\n", r"not valid YAML: 'parameters' is given twice; correct it"),
        (f"{GOOD}method: bayes\n", r"method is 'bayes', this program runs grids; write method: grid"),
        ("command: [--config, base.yaml]\n", r"parameters is empty, expected keys and values"),
        ("parameters: {}\n", r"parameters is \{\}, expected keys and values"),
        ("parameters: [a]\n", r"parameters is \['a'\], expected keys and values"),
        (
            "parameters: {experts.cuont: {values: [1]}}\n",
            r"parameters\.experts\.cuont: unknown key 'experts\.cuont'; did you mean experts\.count\?",
        ),
        ("parameters: {run.dir: {value: a}}\n", r"parameters\.run\.dir: the sweep itself sets run\.dir; leave it out"),
        ("parameters: {experts.count: [1, 2]}\n", r"parameters\.experts\.count is \[1, 2\], expected keys and values"),
        (
            "parameters: {experts.count: {values: []}}\n",
            r"parameters\.experts\.count\.values is \[\], expected a list .*",
        ),
        ("parameters: {experts.count: {values: 3}}\n", r"parameters\.experts\.count\.values is 3, expected a list .*"),
        (
            "parameters: {experts.count: {values: [1, ]}, data.limit: {value: }}\n",
            r"parameters\.data\.limit\.value is empty, .*",
        ),
        ("parameters: {experts.count: {values: [{a: 1}]}}\n", r"parameters\.experts\.count\.values is \{'a': 1\}, .*"),
        ("parameters: {experts.count: {min: 1, max: 4}}\n", r"parameters\.experts\.count: expected `values: .*"),
        ("parameters: {experts.count: {values: [1]}}\n", r"names no base configuration; put --config and a file .*"),
        (GOOD.replace("base.yaml", "none.yaml"), r"no base configuration none\.yaml here; paths count from .*"),
        (f"{GOOD}polyprag: {{base: other.yaml}}\n", r"names two base configurations, base\.yaml and other\.yaml; .*"),
        (f"{GOOD}polyprag: 3\n", r"polyprag is 3, expected keys and values"),
        (f"{GOOD}polyprag: {{disign: grid}}\n", r"unknown key 'polyprag\.disign'; did you mean design\?"),
        (f"{GOOD}polyprag: {{design: random}}\n", r"polyprag\.design is 'random', expected one of grid, one_at_a_time"),
        (f"{GOOD}polyprag: {{x: experts.rank}}\n", r"polyprag\.x is 'experts\.rank', not one of the swept keys; .*"),
        (f"{GOOD}polyprag: {{keep_checkpoints: 1}}\n", r"polyprag\.keep_checkpoints is 1, expected true or false"),
        (GOOD.replace("[--config, base.yaml]", "words"), r"command is 'words', expected a list of words"),
    ],
)
def test_a_malformed_file_is_one_line(refused, text, says):
    refused(text, says)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file; name a sweep file after --config"):
        read_definition(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_are_sweeps_whose_every_run_is_possible(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    named_by_call = ("data.name=popqa", "data.path=popQA.tsv") if path.stem.startswith("reproduce") else ()
    sweep = build_sweep(read_definition(path), named_by_call)
    assert len(sweep.runs) >= 2
    assert {run.config.run.seed for run in sweep.runs} == {0, 1}


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_shipped_grids_are_files_of_wandb(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    content = yaml.safe_load(path.read_text())
    assert content.keys() <= WANDB_KEYS
    assert content["method"] == "grid"
    assert content["metric"] == {"name": "val/f1", "goal": "maximize"}
    assert (ROOT / content["program"]).is_file()
    for name, parameter in content["parameters"].items():
        assert WANDB_NAME.fullmatch(name)
        assert parameter.keys() in ({"value"}, {"values"})
    base = load_config(read_definition(path).base)
    assert base.training.validate_every == 1, "val/f1 is logged by validation"


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_what_an_agent_of_wandb_calls_is_understood(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    content = yaml.safe_load(path.read_text())
    arguments = {
        name: {"value": parameter.get("values", [parameter.get("value")])[-1]}
        for name, parameter in content["parameters"].items()
    }
    words = create_sweep_command_args({"args": arguments})["args_no_hyphens"]
    command = create_sweep_command(content["command"])
    assert command[:4] == ["${env}", "${interpreter}", "${program}", "--config"]
    config = load_config(Path(command[4]), [command[5], *words])
    validate(config)
    assert command[6:] == ["${args_no_hyphens}"]
    assert config.run.dir == "runs/wandb/abc123"
    assert config.run.seed == 1
