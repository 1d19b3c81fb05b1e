"""A process of our own that hears of signals, so that it can save its work."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from polyprag.signals import hearing

STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Child:
    """Runs one process at a time, hands signals on to it, and waits until it has ended.

    Args:
        inherited: a file descriptor that processes keep open; None for none.
    """

    inherited: int | None = None
    signum: int = 0
    process: subprocess.Popen[bytes] | None = None

    def execute(self, command: Sequence[str], log: Path | None = None, folder: Path | None = None) -> int:
        """Run a command to its end.

        Args:
            command: the program and its arguments.
            log: a file to whose end its output is added; None leaves it on the terminal.
            folder: where it runs; None for where we are.

        Returns:
            Its exit status; a signal that has killed it, as a negative number.
        """
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") if log is not None else nullcontext() as output:
            # In a session of its own, a process hears of Ctrl-C from here alone, and once.
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if log is not None else None,
                start_new_session=True,
                pass_fds=() if self.inherited is None else (self.inherited,),
            )
            if self.signum:
                self.process.send_signal(self.signum)
            status = self.process.wait()
        self.process = None
        return status

    @contextmanager
    def listening(self, signals: Sequence[int] = STOPPING) -> Iterator[None]:
        """Note signals, and hand them on, inside the block."""
        with hearing(signals, self._on_signal):
            yield

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        if self.process is not None:
            self.process.send_signal(signum)
