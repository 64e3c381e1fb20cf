"""A ration: a burst, then so many a second, never more than the burst saved up."""

from __future__ import annotations

import pytest

from resilient_rpc.serving.ration import Ration


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_burst_is_there_at_once_and_then_one_comes_at_a_time() -> None:
    clock = Clock()
    ration = Ration(3, 2.0, clock)
    assert [ration.take() for _ in range(5)] == [True, True, True, False, False]
    assert ration.wait() == pytest.approx(0.5)
    clock.now += 0.5
    assert [ration.take(), ration.take()] == [True, False]


def test_no_more_than_the_burst_is_saved_up() -> None:
    clock = Clock()
    ration = Ration(3, 2.0, clock)
    clock.now += 3_600.0
    assert sum(ration.take() for _ in range(10)) == 3
