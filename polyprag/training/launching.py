"""Starting the processes that train together on a machine, and seeing all of them to their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from polyprag.config import Config
from polyprag.errors import ConfigError
from polyprag.signals import hearing
from polyprag.training.place import EXIT_LOST, place, world_of

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that ask training to stop; SIGUSR1 is what job schedulers are told to send before time is up."""
GRACE_SECONDS = 30.0
"""How long processes may go on when one has failed; then they are asked to end, and as long again killed."""
LONGEST_REASON = 300


def takes_part(config: Config, folder: Path, program: str, argv: Sequence[str]) -> bool:
    """Join the processes that train together, or start them and wait for their end.

    Args:
        config: the whole configuration.
        folder: the run's folder; what all processes but the first say goes to `processes/` in it.
        program: the script that this process runs.
        argv: its arguments.

    Returns:
        Whether this process is to train; False if others have done so.

    Raises:
        ConfigError: processes of several machines were not started, or another number of them.
        SystemExit: a process that this one has started failed, and has said why.
    """
    training = config.training
    if config.run.shard:
        raise ConfigError(
            f"run.shard is {config.run.shard}, but a pool is trained as one; use training.devices and training.nodes"
        )
    if place() is not None or world_of(training) == 1:
        from polyprag.training.processes import join  # heavy, and of no use to a process that only waits

        join(training)
        return True
    if training.nodes > 1:
        raise ConfigError(
            f"training.nodes is {training.nodes}, but this process was started alone; start training.devices "
            "processes on each machine by srun or torchrun, see docs/scaling.md"
        )
    children = Children(folder / "processes")
    with children.hearing_signals():
        children.start([sys.executable, program, *argv], training.devices, config.run.threads)
        status = children.wait()
    if status:
        raise SystemExit(status)
    return False


@dataclass
class Children:
    """Processes that train together, started by this one.

    Args:
        folder: where a log of each process but the first is kept; the first speaks in this one's name.
    """

    folder: Path
    signum: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, command: Sequence[str], count: int, threads: int = 0) -> None:
        """Run a command as several processes that find each other by torch's environment variables.

        Args:
            command: the program and its arguments.
            count: how many processes.
            threads: CPU threads of each; 0 shares the machine's cores among them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        port, shared = _free_port(), max(1, (os.cpu_count() or 1) // count)
        common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        common["OMP_NUM_THREADS"] = str(threads or os.environ.get("OMP_NUM_THREADS") or shared)
        for rank in range(count):
            if self.signum:
                break
            own = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # In a session of its own, a process hears of Ctrl-C from here alone, and once.
            if rank == 0:
                process = subprocess.Popen(command, env=own, start_new_session=True)
            else:
                with open(self.log(rank), "wb") as log:
                    process = subprocess.Popen(command, env=own, stdout=log, stderr=log, start_new_session=True)
            self.processes.append(process)

    def wait(self) -> int:
        """Wait until all have ended.

        Returns:
            0 if all went well, else the exit status of the one that failed first; 128 and the signal if it was killed.
        """
        while self._failed() < 0 and any(process.poll() is None for process in self.processes):
            time.sleep(0.05)
        failed = self._failed()
        if failed < 0:
            return 128 + self.signum if self.signum and not self.processes else 0
        self._end_others()
        if self.processes[failed].returncode == EXIT_LOST:
            failed = self._failed()
        own = self.processes[0].returncode
        if own and (self.signum or own == self.processes[failed].returncode):
            failed = 0  # all have stopped for the same reason, and the first has said so
        self._explain(failed)
        status = int(self.processes[failed].returncode)
        return status if status > 0 else 128 - status

    def log(self, rank: int) -> Path:
        """Where a process's output goes."""
        return self.folder / f"{rank}.log"

    @contextmanager
    def hearing_signals(self) -> Iterator[None]:
        """Hand on, inside the block, the signals that ask training to stop."""
        with hearing(STOPPING, self._on_signal):
            yield

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._send(signum)

    def _send(self, signum: int) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.send_signal(signum)

    def _failed(self) -> int:
        """The process that has failed of itself, or else one that only followed; -1 if none has failed."""
        failed = [rank for rank, process in enumerate(self.processes) if process.poll()]
        of_itself = [rank for rank in failed if self.processes[rank].returncode != EXIT_LOST]
        return next(iter([*of_itself, *failed]), -1)

    def _end_others(self) -> None:
        """Let the others end by themselves, or else make them."""
        for signum in (0, signal.SIGTERM, signal.SIGKILL):
            if signum:
                self._send(signum)
            deadline = time.monotonic() + GRACE_SECONDS
            while time.monotonic() < deadline:
                if all(process.poll() is not None for process in self.processes):
                    return
                time.sleep(0.05)

    def _explain(self, rank: int) -> None:
        """Say why a process failed, unless it has said so itself where the user sees it."""
        status = self.processes[rank].returncode
        if status < 0:
            reason = f"was killed by {signal.Signals(-status).name}; go on with --resume auto"
        elif rank > 0:
            said = self.log(rank).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            reason = f"failed: {said[-1][:LONGEST_REASON] if said else f'exit status {status}'} (see {self.log(rank)})"
        else:
            return
        print(f"process {rank} of {len(self.processes)} {reason}", file=sys.stderr)


def _free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
