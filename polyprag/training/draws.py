"""Random numbers that belong to a batch, whichever process has it and whatever was drawn before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawn_for(number: int, seed: int, device: torch.device) -> Iterator[None]:
    """Let torch draw from a seed and a number alone inside the block; outside it is as if nothing had been drawn.

    Args:
        number: of the batch, among those of all processes.
        seed: of the run.
        device: on which numbers are drawn, besides the CPU.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(random.Random(f"{seed}-{number}-draws").getrandbits(63))
        yield
