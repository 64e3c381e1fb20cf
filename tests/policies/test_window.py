from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.policies.window import BUCKETS, Window


def added(window: Window, *instants: float, failed: bool = False, slow: bool = False) -> Window:
    for now in instants:
        window.add(now, 30.0, failed=failed, slow=slow)
    return window


def test_begins_empty_and_counts_each_kind() -> None:
    window = Window()
    assert (window.calls, window.failures, window.slow) == (0, 0, 0)
    added(window, 100, 101)
    added(window, 102, failed=True)
    added(window, 103, slow=True)
    added(window, 104, failed=True, slow=True)
    assert (window.calls, window.failures, window.slow) == (5, 2, 2)


def test_the_oldest_tenth_leaves_at_once() -> None:
    window = added(Window(), 100, 101, 102.9, failed=True)  # one bucket: from 100 to 103
    added(window, 103)
    window.advance(129.9, 30.0)
    assert (window.calls, window.failures) == (4, 3)
    window.advance(130, 30.0)
    assert (window.calls, window.failures) == (1, 0)
    window.advance(133, 30.0)
    assert (window.calls, window.failures) == (0, 0)


@pytest.mark.parametrize("pause", [27.0, 29.9, 30.0, 33.0, 1e9])
def test_after_a_pause_as_long_as_the_window_only_the_new_call_counts(pause: float) -> None:
    window = added(Window(), 100, failed=True, slow=True)
    added(window, 103 + pause)
    assert (window.calls, window.failures, window.slow) == (1, 0, 0)


def test_an_instant_that_another_thread_has_overtaken_counts_in_the_current_bucket() -> None:
    window = added(Window(), 110, 104)
    assert window.calls == 2
    window.advance(140, 30.0)
    assert window.calls == 0


def test_a_longer_window_applies_from_the_next_bucket_on() -> None:
    window = added(Window(), 100)
    window.add(103, 300.0, failed=False, slow=False)
    assert window.ends == 133
    window.add(250, 300.0, failed=False, slow=False)
    assert window.calls == 3


def test_a_shorter_window_forgets_what_it_does_not_reach() -> None:
    window = Window()
    for now in (0, 100, 200):
        window.add(now, 300.0, failed=False, slow=False)
    window.add(211, 10.0, failed=False, slow=False)
    assert window.ends == 212
    assert window.calls == 4
    window.add(230, 10.0, failed=False, slow=False)
    assert window.calls == 1


def test_cleared_it_is_as_new() -> None:
    window = added(Window(), 100, 110, failed=True, slow=True)
    window.clear()
    assert (window.calls, window.failures, window.slow) == (0, 0, 0)
    added(window, 111)
    assert (window.calls, window.failures, window.ends) == (1, 0, 114)


@given(
    st.lists(st.tuples(st.integers(0, 15), st.booleans(), st.booleans()), max_size=200),
    st.integers(0, 1000),
)
def test_counts_what_a_list_of_all_calls_would(steps: list[tuple[int, bool, bool]], start: int) -> None:
    window, now, past = Window(), start, list[tuple[int, bool, bool]]()
    for pause, failed, slow in steps:
        now += pause
        window.add(now, float(BUCKETS), failed=failed, slow=slow)  # buckets of one second
        past.append((now, failed, slow))
        kept = [call for call in past if now - call[0] < BUCKETS]
        counted = (window.calls, window.failures, window.slow)
        assert counted == (len(kept), sum(call[1] for call in kept), sum(call[2] for call in kept))
