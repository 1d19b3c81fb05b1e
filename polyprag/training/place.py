"""Where a process stands among those that train together, as whoever has started it says."""

from __future__ import annotations

import os
from dataclasses import dataclass

from polyprag.config import TrainingConfig

# Nothing heavy is imported here: a process that only starts others and waits for them stays small.

FSDP = "fsdp"
"""The strategy that spreads the base model; all others keep it whole in every process."""
EXIT_LOST = 75
"""Exit status of a process that ends because another one of its training has; the other one says why."""


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that were started together.

    Attributes:
        rank: its number, from 0.
        world: how many there are.
    """

    rank: int
    world: int


def place() -> Place | None:
    """Where this process stands; None if it was started by itself.

    torchrun, `polyprag.training.launching` and most schedulers say so by the same variables, srun by its own, which are
    translated. A job script of SLURM that has not gone through srun is a process by itself.
    """
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "RANK" not in os.environ:
        _translate_slurm()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        return None
    os.environ.setdefault("LOCAL_RANK", "0")
    return Place(int(os.environ["RANK"]), world)


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    own = place()
    return own is None or own.rank == 0


def local_rank() -> int:
    """The number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_of(training: TrainingConfig) -> int:
    """How many processes train together: one for each device of each machine."""
    return training.devices * training.nodes


def _translate_slurm() -> None:
    """Say in torch's variables what srun says in its own; the first machine of the step is where all meet."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    slurm = os.environ
    first = SLURMEnvironment.resolve_root_node_address(slurm["SLURM_STEP_NODELIST"])
    os.environ.setdefault("MASTER_ADDR", first)
    os.environ.setdefault("MASTER_PORT", str(15000 + int(slurm["SLURM_JOB_ID"]) % 10000))
    os.environ.update(RANK=slurm["SLURM_PROCID"], LOCAL_RANK=slurm["SLURM_LOCALID"], GROUP_RANK=slurm["SLURM_NODEID"])
    os.environ["WORLD_SIZE"] = slurm["SLURM_STEP_NUM_TASKS"]
