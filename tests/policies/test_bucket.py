from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.policies.bucket import Bucket

RATES = st.floats(0.01, 10_000)
BURSTS = st.floats(1, 100)
PAUSES = st.floats(0, 5)


def test_a_full_bucket_gives_its_burst_at_once_and_then_one_at_a_time() -> None:
    bucket = Bucket()
    assert [bucket.take(100.0, 2, 3) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.5, 2, 3) for _ in range(2)] == [True, False]
    assert [bucket.take(200.0, 2, 3) for _ in range(4)] == [True, True, True, False]


def test_who_waits_has_a_slot_behind_those_who_wait_already() -> None:
    bucket = Bucket()
    assert bucket.reserve(100.0, 2, 1, 5) == (100.0, True)
    assert bucket.reserve(100.0, 2, 1, 5) == (100.5, True)
    assert bucket.reserve(100.2, 2, 1, 5) == (101.0, True)
    assert not bucket.take(100.9, 2, 1)


def test_a_slot_too_far_away_is_not_taken_and_told() -> None:
    bucket = Bucket()
    bucket.take(100.0, 2, 1)
    assert bucket.reserve(100.0, 2, 1, 0.4) == (100.5, False)
    assert bucket.reserve(100.0, 2, 1, 0.5) == (100.5, True)


def test_a_returned_slot_goes_to_the_next_who_comes_in_time() -> None:
    bucket = Bucket()
    slots = [bucket.reserve(100.0, 1, 1, 10).at for _ in range(5)]
    bucket.refund(slots[3])
    bucket.refund(slots[1])
    assert bucket.reserve(100.5, 1, 1, 0.1) == (101.0, False)
    assert bucket.reserve(100.5, 1, 1, 10) == (101.0, True)
    assert bucket.reserve(100.5, 1, 1, 10) == (103.0, True)
    assert bucket.reserve(100.5, 1, 1, 10) == (105.0, True)


def test_a_returned_slot_whose_time_has_passed_is_nobodys() -> None:
    bucket = Bucket()
    slots = [bucket.reserve(100.0, 1, 1, 10).at for _ in range(4)]
    bucket.refund(slots[1])
    assert bucket.reserve(101.5, 1, 1, 10) == (104.0, True)


def test_another_rate_changes_what_is_to_come_and_not_what_was_used() -> None:
    bucket = Bucket()
    for _ in range(8):
        bucket.take(100.0, 8, 8)
    assert bucket.reserve(100.0, 1, 8, 5) == (101.0, True)
    assert bucket.reserve(100.0, 8, 8, 5) == (100.25, True)
    assert bucket.reserve(100.0, 1, 8, 5) == (103.0, True)


@given(RATES, BURSTS)
def test_who_comes_back_when_it_was_told_is_not_sent_away(rate: float, burst: float) -> None:
    bucket, now = Bucket(), 12_345.678
    for _ in range(50):
        slot = bucket.reserve(now, rate, burst, 0)
        if not slot.granted:
            now = slot.at
            assert bucket.take(now, rate, burst)


@given(RATES, st.integers(1, 1000))
def test_a_burst_is_neither_one_less_nor_one_more(rate: float, burst: int) -> None:
    bucket = Bucket()
    assert [bucket.take(12_345.678, rate, burst) for _ in range(burst + 1)] == [True] * burst + [False]


def test_a_call_that_is_collected_while_this_thread_decides_does_not_block_it() -> None:
    bucket = Bucket()
    with bucket._lock:
        bucket.refund(100.0)
    assert bucket.take(100.0, 1, 1)


def most_in_any_window(times: list[float], rate: float, burst: float) -> float:
    """By how much any span of time had more calls than the burst and what the rate makes of it."""
    times = sorted(times)
    worst = -1.0
    for start, first in enumerate(times):
        for end in range(start, len(times)):
            worst = max(worst, (end - start + 1) - burst - rate * (times[end] - first))
    return worst


@given(RATES, BURSTS, st.lists(st.tuples(PAUSES, st.floats(0, 3), st.booleans()), max_size=40))
def test_no_span_of_time_has_more_than_the_burst_and_what_the_rate_makes_of_it(
    rate: float, burst: float, arrivals: list[tuple[float, float, bool]]
) -> None:
    bucket, now = Bucket(), 1000.0
    going: list[float] = []
    for pause, patience, gives_up in arrivals:
        now += pause / rate
        slot = bucket.reserve(now, rate, burst, patience / rate)
        if not slot.granted:
            assert slot.at > now + patience / rate
            continue
        assert now <= slot.at <= now + patience / rate
        if gives_up and slot.at > now:
            bucket.refund(slot.at)
        else:
            going.append(slot.at)
    assert most_in_any_window(going, rate, burst) <= 1e-3


@given(RATES, BURSTS, st.integers(1, 200))
def test_who_always_asks_gets_all_there_is(rate: float, burst: float, calls: int) -> None:
    bucket = Bucket()
    slots = [bucket.reserve(1000.0, rate, burst, 1e9) for _ in range(calls)]
    assert all(slot.granted for slot in slots)
    assert slots[-1].at == pytest.approx(1000.0 + max(0.0, calls - burst) / rate, rel=1e-9)


@given(RATES, BURSTS, st.integers(1, 20), st.data())
def test_a_refund_leaves_the_next_one_as_it_was(rate: float, burst: float, waiters: int, data: st.DataObject) -> None:
    bucket = Bucket()
    while bucket.take(1000.0, rate, burst):
        pass
    slots = [bucket.reserve(1000.0, rate, burst, 1e9).at for _ in range(waiters)]
    returned = data.draw(st.sampled_from(slots))
    bucket.refund(returned)
    assert bucket.reserve(1000.0, rate, burst, 1e9) == (returned, True)


def test_threads_take_no_more_than_there_is() -> None:
    bucket = Bucket()
    taken: list[bool] = []

    def work() -> None:
        taken.extend([bucket.take(1000.0, 1, 500) for _ in range(200)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(taken), sum(taken)) == (1600, 500)
