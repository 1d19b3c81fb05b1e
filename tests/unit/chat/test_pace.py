import random

import pytest

from polyprag.chat import pace
from polyprag.chat.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """A clock that only waiting moves; `clock.waits` are the seconds of each wait."""

    class Clock:
        now = 100.0
        waits: list[float] = []  # noqa: RUF012 - a fresh class for each test

        def monotonic(self) -> float:
            return self.now

        def wait(self, seconds: float) -> bool:
            self.waits.append(seconds)
            self.now += seconds
            return False

    clock = Clock()
    monkeypatch.setattr(pace.time, "monotonic", clock.monotonic)
    return clock


def paced(clock, per_minute: int) -> Pace:
    made = Pace(per_minute)
    made.ended.wait = clock.wait
    return made


def test_requests_leave_evenly_spaced(clock):
    made = paced(clock, 30)
    for _ in range(5):
        assert made.take_turn()
    assert clock.now == pytest.approx(100 + 4 * 2)


def test_without_a_limit_nobody_waits(clock):
    made = paced(clock, 0)
    assert all(made.take_turn() for _ in range(100))
    assert clock.waits == []


def test_a_pause_holds_everyone_and_the_longest_one_counts(clock):
    made = paced(clock, 0)
    made.pause(7)
    made.pause(3)
    assert made.take_turn()
    assert clock.now == pytest.approx(107)


def test_waits_double_up_to_a_minute_with_jitter(clock, monkeypatch):
    monkeypatch.setattr(pace, "FIRST_WAIT", 1.0)
    made = paced(clock, 0)
    random.seed(0)
    for failures in range(1, 12):
        made.back_off(failures)
    for wait, longest in zip(clock.waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60], strict=True):
        assert longest / 2 <= wait <= longest


def test_the_end_sends_everyone_home():
    made = Pace(1)
    assert made.take_turn()
    made.end()
    assert not made.take_turn()
