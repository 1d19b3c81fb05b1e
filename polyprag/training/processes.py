"""The processes that train together: how they meet, and how one decides for all."""

from __future__ import annotations

import atexit
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from polyprag.config import TrainingConfig
from polyprag.errors import ConfigError, PolyPragError
from polyprag.experts.base_model import device_of
from polyprag.training.place import EXIT_LOST, is_first, place, world_of

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=14)
"""How long processes wait for what the first one does alone, such as asking a model for pairs."""
LOST_SIGNS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")


def cluster() -> ClusterEnvironment:
    """What Lightning is to believe of this process: one of several if it has joined them, else alone."""
    return TorchElasticEnvironment() if dist.is_initialized() else LightningEnvironment()


def join(training: TrainingConfig) -> None:
    """Meet the other processes, if this one was started together with some; all but the first fall silent.

    Raises:
        ConfigError: the configuration wants another number of processes than were started, or this one has no GPU of
            those that are wanted.
    """
    own = place()
    if own is None or dist.is_initialized():
        return
    if own.world != world_of(training):
        raise ConfigError(
            f"training.devices={training.devices} and training.nodes={training.nodes} make {world_of(training)} "
            f"processes, but {own.world} were started; make both the same"
        )
    device = torch.device(device_of(training.accelerator))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=own.rank, world_size=own.world)
    atexit.register(leave)
    _waiting_room()
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives


def leave() -> None:
    """Go on alone; the others may end."""
    if dist.is_initialized():
        _waiting_room.cache_clear()
        dist.destroy_process_group()


def first_decides(decide: Callable[[], T]) -> T:
    """Let the first process find something out, or do it, while the others wait; all of them return what it returned.

    Args:
        decide: called in the first process alone; what it returns must be picklable.

    Raises:
        PolyPragError: it was raised in the first process, and is raised in all.
    """
    if not dist.is_initialized():
        return decide()
    told: list[Any] = [None, ""]
    error: PolyPragError | None = None
    if is_first():
        try:
            told[0] = decide()
        except PolyPragError as raised:
            error, told[1] = raised, str(raised)
    try:
        with ending_together():
            dist.broadcast_object_list(told, src=0, group=_waiting_room())
    finally:
        if error:
            raise error
    if told[1]:
        raise PolyPragError(told[1])
    found: T = told[0]
    return found


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    first_decides(lambda: None)


@contextmanager
def ending_together() -> Iterator[None]:
    """End this process quietly where a collective call fails since another process has ended, which has said why.

    Raises:
        SystemExit: with `EXIT_LOST`.
    """
    try:
        yield
    except RuntimeError as error:
        if dist.is_initialized() and any(sign in str(error) for sign in LOST_SIGNS):
            raise SystemExit(EXIT_LOST) from None
        raise


@functools.cache
def _waiting_room() -> dist.ProcessGroup:
    """All processes, over the network, with patience; made in all of them at once."""
    group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    return group
