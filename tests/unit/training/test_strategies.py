import subprocess
from pathlib import Path

import pytest
import yaml

from polyprag.config import Config
from polyprag.config.checks import validate
from polyprag.config.loading import load_config
from polyprag.training.place import world_of
from polyprag.training.trainer import strategy_of

FOLDER = Path(__file__).resolve().parents[3] / "configs" / "strategies"


@pytest.mark.parametrize(("name", "processes"), [("ddp", 4), ("fsdp", 8), ("nodes", 8)])
def test_examples_are_valid(name, processes):
    config = load_config(FOLDER / f"{name}.yaml", ["data.path=PASSAGES"])
    validate(config)
    assert world_of(config.training) == processes
    assert yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["training"]["strategy"] == config.training.strategy


def test_there_is_no_example_besides_these():
    assert sorted(path.name for path in FOLDER.iterdir()) == ["ddp.yaml", "fsdp.yaml", "nodes.yaml", "slurm.sbatch"]


def test_the_job_script_is_one_and_fits_its_configuration():
    script = FOLDER / "slurm.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    asked = dict(
        line.removeprefix("#SBATCH --").split("=", 1)
        for line in script.read_text().splitlines()
        if "#SBATCH --" in line and "=" in line
    )
    training = load_config(FOLDER / "nodes.yaml").training
    assert (int(asked["nodes"]), int(asked["ntasks-per-node"])) == (training.nodes, training.devices)
    assert int(asked["gpus-per-node"]) == training.devices


def test_one_process_has_no_strategy_of_several():
    config = Config()
    for strategy in ("auto", "ddp"):
        config.training.strategy = strategy
        assert strategy_of(config.training) == "auto"
