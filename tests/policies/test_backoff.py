from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc import errors
from resilient_rpc.policies import Retry
from resilient_rpc.policies.backoff import Schedule, full_jitter

CLIENTS = 1000


def at(share: float) -> Callable[[], float]:
    return lambda: share


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_range_doubles_up_to_the_cap(share: float) -> None:
    waits = [full_jitter(0.05, 5.0, number, at(share)) for number in range(9)]
    assert waits == pytest.approx([share * most for most in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)])


def test_at_attempt_20_a_thousand_clients_are_spread_over_the_whole_range() -> None:
    """T8: Kolmogorov and Smirnov's distance to a uniform spread, at the 1 % level."""
    dice = random.Random(8)
    waits = sorted(full_jitter(0.05, 5.0, 19, dice.random) for _ in range(CLIENTS))
    distance = max(abs((place + 1) / CLIENTS - wait / 5.0) for place, wait in enumerate(waits))
    assert distance < 1.63 / CLIENTS**0.5
    assert waits[0] < 0.05
    assert 4.95 < waits[-1] <= 5.0


@given(base=st.floats(1e-6, 10), doublings=st.integers(0, 10**6), share=st.floats(0, 1))
def test_never_less_than_nothing_nor_more_than_the_cap(base: float, doublings: int, share: float) -> None:
    assert 0 <= full_jitter(base, 10.0, doublings, at(share)) <= 10.0


@pytest.mark.parametrize("error", [errors.Overloaded(), errors.DependencyUnavailable()])
def test_an_overload_is_given_a_second(error: errors.RpcError) -> None:
    schedule = Schedule(Retry(random=at(1.0)))
    waits = [schedule.after(error) for _ in range(4)]
    assert [wait.seconds for wait in waits] == [1.0, 2.0, 4.0, 5.0]
    assert {wait.reason for wait in waits} == {"overload"}


def test_what_the_server_asks_for_is_waited_out_and_some_more() -> None:
    schedule = Schedule(Retry(random=at(0.5)))
    assert schedule.after(errors.Overloaded(retry_after=2.0)) == (2.025, "retry_after")
    assert schedule.after(errors.Draining(retry_after=0.0)) == (0.05, "retry_after")


def test_the_jitter_counts_where_it_is_longer_than_what_was_asked_for() -> None:
    assert Schedule(Retry(random=at(1.0))).after(errors.Overloaded(retry_after=0.5)).seconds == 1.05


def test_after_a_wait_that_was_asked_for_the_doubling_begins_anew() -> None:
    schedule = Schedule(Retry(random=at(1.0)))
    lost = errors.ConnectionLost()
    assert [schedule.after(lost).seconds for _ in range(3)] == [0.05, 0.1, 0.2]
    schedule.after(errors.Draining(retry_after=1.0))
    assert [schedule.after(lost).seconds for _ in range(2)] == [0.05, 0.1]


def test_a_server_is_believed_up_to_a_limit_and_its_clients_still_do_not_come_together() -> None:
    asked = errors.Overloaded(retry_after=1e9)
    assert Schedule(Retry(random=at(0.0))).after(asked).seconds == 30.0
    assert Schedule(Retry(random=at(1.0), max_pushback=3.0)).after(asked).seconds == 3.05


def test_a_policy_of_this_process_is_believed() -> None:
    assert Schedule(Retry(random=at(0.0))).after(errors.CircuitOpen(retry_after=60.0)).seconds == 60.0


def test_a_strategy_replaces_the_jitter_and_not_what_was_asked_for() -> None:
    schedule = Schedule(Retry(random=at(1.0)))
    assert schedule.after(errors.Overloaded(), 0.3) == (0.3, "strategy")
    assert schedule.after(errors.Overloaded(retry_after=2.0), 0.3) == (2.05, "retry_after")


def test_an_error_of_another_kind_has_a_wait_too() -> None:
    assert Schedule(Retry(random=at(1.0))).after(ValueError()) == (0.05, "backoff")
