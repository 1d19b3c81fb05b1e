"""Checkpoints that survive: written whole or not at all, with the random state, and on a signal too."""

from __future__ import annotations

import io
import pickle
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from polyprag.config import Config
from polyprag.config.weights import MAY_DIFFER, changed_keys
from polyprag.errors import ConfigError, Interrupted
from polyprag.experts.base_model import BaseModel
from polyprag.experts.fingerprints import same_weights
from polyprag.files import write_bytes
from polyprag.training.exchange import from_all, largest
from polyprag.training.launching import STOPPING
from polyprag.training.optimisation import ends_step
from polyprag.training.processes import first_decides

__all__ = ["LAST", "MAY_DIFFER", "AtomicCheckpointIO", "Checkpointing", "changed_keys", "check_base", "resume_path"]

BASE = "polyprag_base"
"""Under which a checkpoint keeps the fingerprint of the base model."""
LAST = "last.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, replaced in one move and read without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write beside the old file, flush to disk, then take its place."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read tensors and plain values only.

        Raises:
            ConfigError: the file is missing or no checkpoint.
        """
        try:
            return super().load_checkpoint(path, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise ConfigError(f"--resume {path}: no readable checkpoint ({type(error).__name__})") from None


class Checkpointing(pl.Callback):
    """Saves `last.ckpt` every few minutes, at the end, and when a signal asks training to stop.

    Processes that train together stop together, after the same step, whichever of them the signal has reached.

    Args:
        folder: where the checkpoint lies.
        minutes: time between checkpoints.
        learned_from: fingerprint of passages and pairs, which the checkpoint keeps.
    """

    def __init__(self, folder: Path, minutes: float, learned_from: str = "") -> None:
        self.path = folder / LAST
        self.learned_from = learned_from
        self.seconds = minutes * 60
        self.saved_at = time.monotonic()
        self.signum = 0
        self.handlers: dict[int, Any] = {}
        self.random_state: dict[str, Any] | None = None
        self.device = torch.device("cpu")
        self.earlier_seconds = 0.0
        self.started_at = time.monotonic()
        self.trained = False

    @property
    def train_seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self.earlier_seconds + time.monotonic() - self.started_at

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the saved random state, and listen for signals."""
        self.saved_at = self.started_at = time.monotonic()
        self.device = pl_module.device
        if self.random_state is not None:
            own = [self.random_state, *self.random_state.get("others", [])][trainer.global_rank]
            torch.set_rng_state(own["cpu"])
            if self.device.type == "cuda" and own["cuda"]:
                last = len(own["cuda"]) - 1  # older checkpoints hold the states of all devices that were visible
                torch.cuda.set_rng_state(own["cuda"][min(self.device.index or 0, last)], self.device)
            self.random_state = None
        for signum in STOPPING:
            self.handlers[signum] = signal.signal(signum, self._on_signal)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time or when asked to stop, but not while gradients are being added up: they are not saved.

        Raises:
            Interrupted: a signal came; the checkpoint is written.
        """
        self.trained = True
        if not ends_step(trainer, batch_idx):
            return
        is_due = trainer.is_global_zero and time.monotonic() - self.saved_at >= self.seconds
        signum, due = largest([self.signum, is_due], pl_module.device)
        if signum:
            trainer.save_checkpoint(self.path)
            raise Interrupted(int(signum), f"stopped at step {trainer.global_step}; go on with --resume auto")
        if due:
            trainer.save_checkpoint(self.path)
            self.saved_at = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the final state, and heed a signal that came in the last validation.

        Raises:
            Interrupted: a signal came; the checkpoint is written, the store is not.
        """
        trainer.save_checkpoint(self.path)
        (signum,) = largest([self.signum], pl_module.device)
        if signum:
            raise Interrupted(int(signum), "stopped after the last step; write the store with --resume auto")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say what was learned from."""
        checkpoint["polyprag_data"] = self.learned_from

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def state_dict(self) -> dict[str, Any]:
        """The random state of each process, on the CPU and on its own device, and the seconds of training."""
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        first, *others = from_all({"cpu": torch.get_rng_state(), "cuda": cuda})
        return {**first, "others": others, "seconds": self.train_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the random state until training starts."""
        self.random_state = state_dict
        self.earlier_seconds = float(state_dict["seconds"])

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            raise Interrupted(signum, "stopped at once; the last checkpoint is as it was")
        self.signum = signum

    def _restore_handlers(self) -> None:
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)
        self.handlers = {}


def check_base(checkpoint: Mapping[str, Any], base: BaseModel) -> None:
    """Hold the base model at hand against the one that a checkpoint was written beside.

    Args:
        checkpoint: what was saved; older ones do not tell their base model and are taken as they are.
        base: the base model that training is to go on in.

    Raises:
        ConfigError: its weights are others.
    """
    before = checkpoint.get(BASE, base.fingerprint)
    if not same_weights(before, base.fingerprint):
        raise ConfigError(
            f"--resume: base.model={base.name} has other weights (fingerprint {base.fingerprint}) than the base model "
            f"of the checkpoint ({before}); restore those, or train anew without --resume or in another run.dir"
        )


def resume_path(
    resume: str | None,
    folder: Path,
    config: Config,
    may_differ: tuple[str, ...] = MAY_DIFFER,
    learned_from: str = "",
) -> Path | None:
    """The checkpoint to go on from; the first of processes that train together looks for it, for all.

    Args:
        resume: `auto` for the run's own last checkpoint if there is one, a path, or None.
        folder: the run's checkpoint folder.
        config: the present configuration, which must train the same weights.
        may_differ: beginnings of the keys on which the weights do not depend.
        learned_from: fingerprint of the present passages and pairs; empty where they are not compared.

    Raises:
        ConfigError: the checkpoint cannot be read, or belongs to another configuration or other data.
    """
    if resume is None:
        return None
    return first_decides(lambda: _resume_path(resume, folder, config, may_differ, learned_from))


def _resume_path(
    resume: str, folder: Path, config: Config, may_differ: tuple[str, ...], learned_from: str
) -> Path | None:
    if resume == "auto" and not (folder / LAST).exists():
        return None
    path = folder / LAST if resume == "auto" else Path(resume)
    checkpoint = AtomicCheckpointIO().load_checkpoint(path)
    before = checkpoint.get("polyprag_config") if isinstance(checkpoint, dict) else None
    if before is None:
        raise ConfigError(f"--resume {path}: not a checkpoint of polyprag")
    changed = changed_keys(before, config, may_differ)
    if changed:
        raise ConfigError(
            f"--resume {path}: {', '.join(changed)} differ from the checkpoint; "
            "restore them, or train anew without --resume or in another run.dir"
        )
    if learned_from and checkpoint.get("polyprag_data", "") not in ("", learned_from):
        raise ConfigError(
            f"--resume {path}: passages, rewrites or pairs are others than those of the checkpoint, "
            "or a router's held-back questions; restore them, or train anew without --resume or in another run.dir"
        )
    return path
