"""Which process trains which adapters, where several work in one run's folder: each adapter is trained once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOOK_EVERY_SECONDS = 0.5


class Claims:
    """Locks on the adapters of a recipe; a process that ends, however it ends, lets go of its own.

    They lie beside the recipe's folder, in `.claims/`.

    Args:
        folder: of the recipe; on a network's disk it takes a file system that knows locks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def of(self, paths: Sequence[Path]) -> Iterator[list[bool]]:
        """Claim adapters inside the block.

        Args:
            paths: their folders, each once.

        Yields:
            For each whether it is claimed; the others are in other hands.
        """
        with ExitStack() as held:
            yield [self._claimed(path, held) for path in paths]

    @contextmanager
    def alone(self, path: Path) -> Iterator[None]:
        """Wait until an adapter can be claimed, and hold it inside the block."""
        with self._lock(path):
            yield

    def wait(self) -> None:
        """Give others time."""
        time.sleep(LOOK_EVERY_SECONDS)

    def _claimed(self, path: Path, held: ExitStack) -> bool:
        lock = self._lock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        held.callback(lock.release)
        return True

    def _lock(self, path: Path) -> FileLock:
        folder = self.folder.parent / ".claims"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{'-'.join(path.relative_to(self.folder.parent).parts)}.lock")
