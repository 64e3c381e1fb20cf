from __future__ import annotations

import random
import threading

from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.policies.hedge_delay import BATCH, WINDOW, DelayEstimate


def filled(*times: float) -> DelayEstimate:
    estimate = DelayEstimate()
    for seconds in times:
        estimate.record(seconds)
    return estimate


def test_nothing_is_known_before_there_are_enough_times() -> None:
    estimate = filled(*[1.0] * 99)
    assert estimate.value(0.95, 100) is None
    estimate.record(1.0)
    assert estimate.value(0.95, 100) == 1.0


def test_few_times_are_enough_where_few_are_asked_for() -> None:
    assert filled(2.0).value(0.95, 1) == 2.0
    assert filled().value(0.95, 1) is None


@given(st.lists(st.floats(1e-5, 100), min_size=20, max_size=300), st.sampled_from([0.5, 0.9, 0.95]))
def test_the_quantile_is_that_of_the_times(times: list[float], quantile: float) -> None:
    value = filled(*times).value(quantile, 20)
    assert value is not None
    assert sum(seconds <= value * 1.033 for seconds in times) >= quantile * len(times)
    assert sum(seconds >= value / 1.033 for seconds in times) >= (1 - quantile) * len(times)


def test_what_changes_is_noticed_after_a_batch() -> None:
    estimate = filled(*[0.01] * 100)
    known = estimate.value(0.95, 100)
    for _ in range(BATCH - 1):
        estimate.record(5.0)
    assert estimate.value(0.95, 100) == known
    estimate.record(5.0)
    assert estimate.value(0.95, 100) == 5.0


def test_what_is_long_past_is_forgotten_and_meanwhile_the_old_quantile_holds() -> None:
    estimate = filled(*[5.0] * WINDOW)
    assert estimate.value(0.95, 100) == 5.0
    for _ in range(99):
        estimate.record(0.01)
        assert estimate.value(0.95, 100) == 5.0
    estimate.record(0.01)
    value = estimate.value(0.95, 100)
    assert value is not None
    assert 0.0096 < value < 0.0104


def test_a_window_is_never_shorter_than_what_is_asked_for() -> None:
    estimate = DelayEstimate()
    for _ in range(3 * WINDOW):
        estimate.record(1.0)
        estimate.value(0.95, 2 * WINDOW)
    assert estimate.value(0.95, 2 * WINDOW) == 1.0


def test_another_quantile_counts_at_once() -> None:
    estimate = filled(*[0.01] * 60, *[5.0] * 40)
    assert estimate.value(0.95, 100) == 5.0
    median = estimate.value(0.5, 100)
    assert median is not None
    assert median < 0.02


def test_threads_record_at_once_and_nothing_is_lost() -> None:
    estimate = DelayEstimate()

    def work() -> None:
        for _ in range(WINDOW // 8):
            estimate.record(random.uniform(0.9, 1.1))
            estimate.value(0.95, WINDOW)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    value = estimate.value(0.95, WINDOW)  # None, if one of the thousand were missing
    assert value is not None
    assert 1.0 < value < 1.15
