"""The most memory that answering takes at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What sets a process's peak of resident memory back to what is resident now (Linux, proc(5), clear_refs)."""


@dataclass
class Peak:
    """A peak of memory.

    Attributes:
        bytes: None until it is measured, and where it cannot be.
    """

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak of a block; it stands in what is yielded once the block has ended.

    On a CUDA device it is the most memory that PyTorch had allocated there at once, everything included that lay there
    before. Elsewhere it is the most resident memory of the whole process, libraries and all loaded models included,
    which only Linux lets one measure for a block; on other systems there is no figure.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    is_reset = _reset()
    yield peak
    peak.bytes = _resident_peak() if is_reset else None


def _reset() -> bool:
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    """VmHWM, which Linux gives in units of 1024 bytes."""
    lines = STATUS.read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
