from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.serving.age import ADDRESSES, WINDOW, QueueAge

skews = st.floats(-1e9, 1e9)
waits = st.lists(st.floats(0, 100), min_size=1, max_size=30)


@given(skews, waits)
def test_the_difference_of_two_clocks_does_not_count(skew: float, waited: list[float]) -> None:
    age, least = QueueAge(), math.inf
    for number, wait in enumerate(waited):
        least = min(least, wait)
        sent = 1_000_000.0 + number
        found = age.of("a", sent, sent + wait + skew, number * 0.01)
        assert found == pytest.approx(wait - least, abs=1e-5)


@given(skews, waits)
def test_nothing_is_ever_younger_than_new_nor_older_than_it_is(skew: float, waited: list[float]) -> None:
    age = QueueAge()
    for number, wait in enumerate(waited):
        assert 0 <= age.of("a", 0.0, wait + skew, number * 40.0) <= wait + 1e-4


def test_each_address_has_a_clock_of_its_own() -> None:
    age = QueueAge()
    age.of("slow", 0.0, 3600.0, 0.0)
    assert age.of("slow", 0.0, 3605.0, 0.1) == 5.0
    assert age.of("right", 0.0, 5.0, 0.2) == 0.0
    assert age.of("right", 0.0, 6.0, 0.3) == 1.0


def test_a_clock_that_jumped_back_counts_for_two_windows_at_most() -> None:
    age = QueueAge()
    age.of("a", 0.0, 0.0, 0.0)
    assert age.of("a", 0.0, 3600.0, 1.0) == 3600.0  # the sender's clock was put back by an hour
    assert age.of("a", 0.0, 3600.0, WINDOW + 1) == 3600.0  # the window before still counts
    assert age.of("a", 0.0, 3600.0, 2 * WINDOW + 2) == 0.0


def test_a_clock_that_jumped_forward_counts_for_nothing() -> None:
    age = QueueAge()
    age.of("a", 0.0, 0.0, 0.0)
    assert age.of("a", 3600.0, 0.0, 1.0) == 0.0


def test_who_was_silent_for_long_begins_anew() -> None:
    age = QueueAge()
    age.of("a", 0.0, 0.0, 0.0)
    assert age.of("a", 0.0, 100.0, 10 * WINDOW) == 0.0


@pytest.mark.parametrize("sent", [math.inf, -math.inf, math.nan])
def test_a_time_that_is_none_has_no_age(sent: float) -> None:
    assert QueueAge().of("a", sent, 0.0, 0.0) == 0.0


def test_addresses_that_come_and_go_do_not_fill_the_memory() -> None:
    age = QueueAge()
    for number in range(ADDRESSES + 500):
        age.of(str(number), 0.0, 1.0, 0.0)
    assert len(age._least) == ADDRESSES
    assert age.of(str(ADDRESSES), 0.0, 3.0, 0.0) == 2.0, "the latest are kept"
