from __future__ import annotations

import asyncio
import math
import statistics
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import CircuitOpen, DeadlineExceeded, Expired, RemoteError
from resilient_rpc.histogram import LONGEST, SHORTEST, Histogram
from resilient_rpc.stats import BATCH, MAX_ERRORS, CallStats, StatsSnapshot

durations = st.floats(SHORTEST, LONGEST)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Clock:
    return Clock()


@pytest.fixture
def stats(time: Clock) -> CallStats:
    return CallStats(clock=time)


def count(stats: CallStats, calls: int, *, seconds: float = 0.01, error: BaseException | None = None) -> None:
    for _ in range(calls):
        stats.begin()
        stats.end(seconds, error)


def adds_up(found: StatsSnapshot) -> bool:
    return found.total == found.completed + found.failed + found.pending and sum(found.errors.values()) == found.failed


# --- the histogram ---


@given(durations)
def test_one_duration_is_read_back_within_its_bound(seconds: float) -> None:
    histogram = Histogram()
    histogram.record([seconds, LONGEST])  # the second, so that the exact maximum does not help
    (found,) = histogram.percentiles([0.5])
    assert abs(found - seconds) <= 0.05 * seconds


@given(st.lists(durations, min_size=1, max_size=300), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_percentiles_of_many_are_within_the_bound(values: list[float], shares: list[float]) -> None:
    histogram = Histogram()
    for start in range(0, len(values), 7):
        histogram.record(values[start : start + 7])
    values.sort()
    shares.sort()
    for share, found in zip(shares, histogram.percentiles(shares), strict=True):
        exact = values[max(1, math.ceil(share * len(values))) - 1]
        assert abs(found - exact) <= 0.05 * exact
    assert histogram.longest == values[-1]
    assert histogram.mean() == pytest.approx(statistics.fmean(values))
    assert histogram.count == len(values)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9, 5e-324, 3601.0, 1e9])
def test_what_lies_outside_is_counted_at_the_border(seconds: float) -> None:
    histogram = Histogram()
    histogram.record([seconds])
    assert histogram.count == 1
    (found,) = histogram.percentiles([0.5])
    assert found <= max(seconds, 0.0)


def test_nothing_is_zero() -> None:
    histogram = Histogram()
    histogram.record([])
    assert (histogram.percentiles([0.5, 0.99]), histogram.mean(), histogram.longest) == ([0.0, 0.0], 0.0, 0.0)


# --- counts ---


def test_counts_what_began_and_what_became_of_it(stats: CallStats) -> None:
    count(stats, 3)
    count(stats, 2, error=RemoteError("no"))
    count(stats, 1, error=DeadlineExceeded("late"))
    count(stats, 1, error=Expired("late"))
    stats.begin()
    stats.unknown_reply()
    stats.unknown_reply(2)
    found = stats.snapshot()
    assert (found.total, found.pending, found.completed, found.failed) == (8, 1, 3, 4)
    assert found.errors == {"RemoteError": 2, "DeadlineExceeded": 1, "Expired": 1}
    assert (found.timed_out, found.unknown_replies) == (2, 3)
    assert adds_up(found)


@pytest.mark.parametrize("calls", [1, BATCH - 1, BATCH, BATCH + 1, 10 * BATCH + 3])
def test_looking_changes_nothing(stats: CallStats, calls: int) -> None:
    count(stats, calls)
    stats.begin()
    assert stats.snapshot() == stats.snapshot()
    assert stats.snapshot().total == calls + 1


def test_a_snapshot_stays_as_it_is(stats: CallStats) -> None:
    count(stats, 1, error=OSError())
    found = stats.snapshot()
    count(stats, 1, error=OSError())
    assert (found.failed, dict(found.errors)) == (1, {"OSError": 1})
    with pytest.raises(TypeError):
        found.errors["x"] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        found.total = 1  # type: ignore[misc]


def test_names_of_errors_take_bounded_memory(stats: CallStats) -> None:
    for number in range(MAX_ERRORS + 50):
        count(stats, 1, error=type(f"Error{number}", (Exception,), {})())
    found = stats.snapshot()
    assert len(found.errors) == MAX_ERRORS + 1
    assert found.errors["other"] == 50
    assert adds_up(found)


def test_a_local_refusal_and_a_cancelled_call_tell_nothing_of_durations(stats: CallStats) -> None:
    count(stats, 1, seconds=2.0)
    count(stats, 1, seconds=1e-5, error=CircuitOpen("open"))
    count(stats, 1, seconds=1e-5, error=asyncio.CancelledError())
    assert stats.snapshot().mean == 2.0
    count(stats, 1, seconds=4.0, error=DeadlineExceeded("late"))
    found = stats.snapshot()
    assert (found.mean, found.max, found.failed) == (3.0, 4.0, 3)


def test_durations(stats: CallStats) -> None:
    for milliseconds in range(1, 101):
        count(stats, 1, seconds=milliseconds / 1000)
    found = stats.snapshot()
    assert found.mean == pytest.approx(0.0505)
    assert found.median == pytest.approx(0.050, rel=0.05)
    assert found.p95 == pytest.approx(0.095, rel=0.05)
    assert found.p99 == pytest.approx(0.099, rel=0.05)
    assert found.max == 0.1


# --- rates ---


def test_without_calls_there_is_no_rate(stats: CallStats, time: Clock) -> None:
    time.now += 3
    found = stats.snapshot()
    assert (found.calls_per_second, found.failures_per_second, found.failure_rate) == (0, 0, 0)


def test_rates_follow_the_last_seconds(stats: CallStats, time: Clock) -> None:
    def seconds(number: int, calls: int, failures: int = 0) -> StatsSnapshot:
        for _ in range(number * 4):
            count(stats, calls // 4)
            count(stats, failures // 4, error=OSError())
            time.now += 0.25
        return stats.snapshot()

    assert seconds(2, 40).calls_per_second == pytest.approx(40)
    assert seconds(30, 40).calls_per_second == pytest.approx(40, rel=0.05)
    busy = seconds(30, 300, 100)
    assert busy.calls_per_second == pytest.approx(400, rel=0.05)
    assert busy.failures_per_second == pytest.approx(100, rel=0.05)
    assert busy.failure_rate == pytest.approx(0.25, rel=0.05)
    time.now += 60
    assert stats.snapshot().calls_per_second == 0
    assert seconds(1, 40).calls_per_second == pytest.approx(4, rel=0.1)


def test_few_calls_are_spread_over_the_window(stats: CallStats, time: Clock) -> None:
    for _ in range(20):
        time.now += 5
        count(stats, 1)
    assert stats.snapshot().calls_per_second == pytest.approx(0.2, rel=0.5)


def test_the_first_second_is_not_exaggerated(stats: CallStats, time: Clock) -> None:
    count(stats, 5)
    time.now += 0.01
    assert stats.snapshot().calls_per_second == 5


# --- threads ---


def test_counts_are_exact_under_many_threads_and_every_snapshot_adds_up() -> None:
    stats, done, wrong = CallStats(), threading.Event(), []

    def work(number: int) -> None:
        for call in range(3000):
            stats.begin()
            stats.end(0.001, OSError() if (call + number) % 10 == 0 else None)

    def look() -> None:
        while not done.is_set():
            found = stats.snapshot()
            if not adds_up(found) or found.pending < 0:
                wrong.append(found)

    looker = threading.Thread(target=look)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in (looker, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    looker.join()
    assert wrong == []
    found = stats.snapshot()
    assert (found.total, found.completed, found.failed, found.pending) == (24000, 21600, 2400, 0)


def test_a_call_that_the_garbage_collector_ends_during_the_counting_is_counted_once(stats: CallStats) -> None:
    class Interrupted(Histogram):
        def record(self, durations: Sequence[float]) -> None:
            super().record(durations)
            if self.count < 5 * BATCH:
                for _ in range(BATCH):
                    stats.end(0.01, None)

    stats._durations = Interrupted()
    for _ in range(20 * BATCH):
        stats.begin()
    for _ in range(BATCH):
        stats.end(0.01, None)
    while (found := stats.snapshot()).completed < 5 * BATCH:
        pass
    assert found.pending == 20 * BATCH - found.completed
    assert stats._durations.count == found.completed


def test_a_child_process_does_not_wait_for_its_parents_calls(stats: CallStats) -> None:
    count(stats, 2)
    stats.begin()
    stats.after_fork()
    found = stats.snapshot()
    assert (found.total, found.pending, found.completed) == (2, 0, 2)
