"""How fast a server may be asked: evenly spaced requests, pauses that it wishes, and waits that grow."""

from __future__ import annotations

import random
import threading
import time

FIRST_WAIT = 1.0
"""Seconds before the second try of a request, at most."""
LONGEST_WAIT = 60.0


class Pace:
    """Spaces the requests of many threads.

    Args:
        per_minute: most requests a minute; 0 means no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self.interval = 60 / per_minute if per_minute else 0.0
        self.next_at = 0.0
        self.lock = threading.Lock()
        self.ended = threading.Event()

    def take_turn(self) -> bool:
        """Wait until the next request may leave.

        Returns:
            Whether to go on; False after `end`.
        """
        while True:
            with self.lock:
                now = time.monotonic()
                wait = self.next_at - now
                if wait <= 0:
                    self.next_at = now + self.interval
                    return not self.ended.is_set()
            if self.ended.wait(wait):
                return False

    def pause(self, seconds: float) -> None:
        """Let no request leave for a while, in any thread."""
        with self.lock:
            self.next_at = max(self.next_at, time.monotonic() + seconds)

    def back_off(self, failures: int) -> None:
        """Wait before another try of one request, twice as long after each failure, with jitter."""
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(failures - 1, 16))
        self.ended.wait(random.uniform(0.5, 1.0) * longest)

    def end(self) -> None:
        """Let all who wait go home."""
        self.ended.set()
