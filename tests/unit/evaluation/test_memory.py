import mmap
import sys

import pytest
import torch

from polyprag.evaluation import memory
from polyprag.evaluation.memory import peak_memory

CPU = torch.device("cpu")
MEGABYTE = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets a peak back")
def test_a_block_is_charged_with_its_own_peak():
    with peak_memory(CPU) as idle:
        pass
    with peak_memory(CPU) as busy:
        touch(64 * MEGABYTE)
    with peak_memory(CPU) as after:
        pass
    assert busy.bytes - idle.bytes > 48 * MEGABYTE
    assert busy.bytes - after.bytes > 48 * MEGABYTE, "memory that was given back is no longer charged"


def touch(size: int) -> None:
    """Have memory of the system's own for a moment; malloc may hand out what it keeps resident."""
    with mmap.mmap(-1, size) as pages:
        for at in range(0, size, mmap.PAGESIZE):
            pages[at] = 1


def test_it_is_known_when_the_block_has_ended():
    with peak_memory(CPU) as peak:
        assert peak.bytes is None


def test_where_a_peak_cannot_be_set_back_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "missing" / "clear_refs")
    with peak_memory(CPU) as peak:
        pass
    assert peak.bytes is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_it_is_what_torch_had_allocated_there():
    device = torch.device("cuda")
    held = torch.zeros(8 * MEGABYTE, dtype=torch.uint8, device=device)
    with peak_memory(device) as peak:
        torch.zeros(32 * MEGABYTE, dtype=torch.uint8, device=device)
    assert 40 * MEGABYTE <= peak.bytes <= torch.cuda.memory_allocated() + 40 * MEGABYTE
    del held
