from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.serving.pace import ENOUGH, STALE, Pace, Usual

METHOD: Any = object()
OTHER: Any = object()


def busy(pace: Pace, seconds: float, per_second: float, begin: float = 0.0, ended: float = 0.0) -> tuple[float, float]:
    """Full all the time, looked at ten times a second."""
    for n in range(round(seconds * 10) + 1):
        pace.note(begin + n / 10, round(ended + n / 10 * per_second), full=True)
    return begin + seconds, ended + seconds * per_second


def test_nobody_knows_before_enough_has_ended() -> None:
    pace = Pace()
    assert pace.wait(1) is None
    pace.note(0.0, 0, full=True)
    pace.note(1.0, ENOUGH - 1, full=True)
    assert pace.wait(1) is None
    pace.note(1.5, ENOUGH, full=True)
    assert pace.wait(4) == pytest.approx(0.6)


def test_it_is_what_ends_in_a_second() -> None:
    pace = Pace()
    busy(pace, 3.0, 50)
    assert pace.wait(100) == pytest.approx(2.0, rel=0.05)


def test_it_follows_a_change() -> None:
    pace = Pace()
    now, ended = busy(pace, 10.0, 100)
    busy(pace, 10.0, 20, now, ended)
    assert pace.wait(20) == pytest.approx(1.0, rel=0.1)


def test_a_server_that_stalls_gets_slower_by_the_second() -> None:
    pace = Pace()
    now, ended = busy(pace, 2.0, 100)
    waits = []
    for n in range(1, 4):
        pace.note(now + n, round(ended), full=True)
        waits.append(pace.wait(10))
    assert waits == sorted(waits)
    assert waits[-1] > 0.25


def test_time_with_free_slots_does_not_count() -> None:
    pace = Pace()
    now, ended = busy(pace, 2.0, 100)
    pace.note(now + 1.0, round(ended) + 1, full=False)
    pace.note(now + 2.0, round(ended) + 2, full=True)
    assert pace.wait(100) == pytest.approx(1.0, rel=0.05)


def test_after_a_long_silence_nothing_is_known() -> None:
    pace = Pace()
    now, ended = busy(pace, 2.0, 100)
    pace.note(now + STALE + 1, round(ended), full=True)
    assert pace.wait(1) is None


def test_the_usual_time_is_the_median_and_an_outlier_moves_it_little() -> None:
    usual = Usual()
    assert (usual.of(METHOD), usual.longest()) == (0.0, 0.0)
    for n in range(200):
        usual.note(METHOD, 30.0 if n % 10 == 9 else 0.1, ended=True)
    assert usual.of(METHOD) == pytest.approx(0.1, rel=0.15)
    usual.note(OTHER, 0.5, ended=True)
    assert usual.longest() == 0.5


def test_a_slow_beginning_is_forgotten() -> None:
    usual = Usual()
    usual.note(METHOD, 10.0, ended=True)
    for _ in range(75):
        usual.note(METHOD, 0.01, ended=True)
    assert usual.of(METHOD) == 0.01


def test_what_was_stopped_has_taken_at_least_so_long() -> None:
    usual = Usual()
    usual.note(METHOD, 0.2, ended=True)
    usual.note(METHOD, 0.01, ended=False)
    assert usual.of(METHOD) == 0.2
    usual.note(METHOD, 5.0, ended=False)
    assert usual.of(METHOD) == pytest.approx(0.22)
