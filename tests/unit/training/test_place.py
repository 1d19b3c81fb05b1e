import os

import pytest

from polyprag.training.place import Place, is_first, local_rank, place

NAMES = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_NUM_TASKS")


@pytest.fixture
def says(monkeypatch):
    """Sets the environment as whoever starts a process would, and gives back what the test leaves there."""
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def say(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return say


def test_a_process_by_itself_is_nowhere(says):
    assert place() is None
    assert is_first()
    assert local_rank() == 0


def test_a_world_of_one_is_no_company(says):
    says(RANK="0", WORLD_SIZE="1")
    assert place() is None


def test_torchrun_is_believed(says):
    says(RANK="5", LOCAL_RANK="1", WORLD_SIZE="8")
    assert place() == Place(5, 8)
    assert local_rank() == 1
    assert not is_first()


def test_srun_is_translated(says):
    says(SLURM_PROCID="5", SLURM_LOCALID="1", SLURM_NODEID="1", SLURM_STEP_NUM_TASKS="8", SLURM_JOB_ID="123456")
    says(SLURM_STEP_NODELIST="gpu[07-08],other")
    assert place() == Place(5, 8)
    assert local_rank() == 1
    found = [os.environ[name] for name in ("RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")]
    assert found == ["5", "1", "8", "gpu07", "18456"]


def test_a_job_script_without_srun_is_by_itself(says):
    says(SLURM_PROCID="0", SLURM_NTASKS="8", SLURM_JOB_ID="1")
    assert place() is None
