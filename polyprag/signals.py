"""Signals heard for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def hearing(signals: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have a handler called for signals inside the block; afterwards they go where they went before.

    Args:
        signals: their numbers.
        handler: takes the number, and the frame that was interrupted.
    """
    before: dict[int, Any] = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)
