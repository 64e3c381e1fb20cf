from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from resilient_rpc.policies.breaker_rules import Rules
from resilient_rpc.policies.circuit import Circuit
from resilient_rpc.policies.circuit_state import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    OPEN,
    Change,
    Permit,
    Probe,
    Reason,
    Refusal,
)


def rules(**settings: Any) -> Rules:
    return Rules(**{"random": lambda: 1.0, "consecutive": None, "min_calls": 4, **settings})


def end(circuit: Circuit, by: Rules, now: float, *outcomes: str) -> list[Change]:
    """Calls that begin and end at `now`; the changes that they made."""
    changes = []
    for outcome in outcomes:
        permit: Any = circuit.generation
        if circuit.state is not CLOSED:
            permit, change = circuit.admit(by, now)
            changes.append(change)
        assert not isinstance(permit, Refusal)
        changes.append(circuit.count(permit, by, now, failed="f" in outcome, slow="s" in outcome))
    return [change for change in changes if change is not None]


def tripped(by: Rules, now: float = 100.0) -> Circuit:
    circuit = Circuit()
    end(circuit, by, now, *["f"] * 4)
    assert circuit.state is OPEN
    return circuit


def probe(circuit: Circuit, by: Rules, now: float) -> Probe:
    permit, _ = circuit.admit(by, now)
    assert isinstance(permit, Probe)
    return permit


# -- closed


def test_begins_closed() -> None:
    circuit = Circuit()
    assert (circuit.state, circuit.generation, circuit.trips, circuit.late) == (CLOSED, 0, 0, 0)


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        (["f", "f", "f"], False),  # too few
        (["ok", "ok", "f", "f"], True),
        (["f", "ok", "ok", "f"], True),
        (["f", "ok", "ok", "ok"], False),
        (["ok", "ok", "ok", "f"], False),
        (["ok", "ok", "ok", "f", "f", "f"], True),
        (["f", "f", "f", "ok"], False),  # a success never opens
        (["f", "f", "f", "ok", "f"], True),
    ],
)
def test_opens_at_the_failure_rate_of_enough_calls(outcomes: list[str], opens: bool) -> None:
    circuit = Circuit()
    changes = end(circuit, rules(), 100, *outcomes)
    assert (circuit.state is OPEN) is opens
    assert [change.reason for change in changes] == ["failure_rate"] * opens


def test_a_rate_that_a_share_meets_exactly_opens() -> None:
    circuit = Circuit()
    by = rules(failure_rate=0.1, min_calls=30)
    end(circuit, by, 100, *["ok"] * 27, "f", "f")
    assert circuit.state is CLOSED
    assert [change.reason for change in end(circuit, by, 100, "f")] == ["failure_rate"]


@pytest.mark.parametrize(
    ("slow_call", "outcomes", "opens"),
    [
        (1.0, ["s", "s", "s", "ok", "s"], True),
        (1.0, ["s", "s", "s", "ok"], False),
        (1.0, ["s", "s", "s"], False),
        (1.0, ["ok", "s", "ok", "s", "s"], False),
        (None, ["s"] * 10, False),
    ],
)
def test_opens_at_the_slow_rate_where_slow_calls_are_asked_for(
    slow_call: float | None, outcomes: list[str], opens: bool
) -> None:
    circuit = Circuit()
    changes = end(circuit, rules(slow_call=slow_call), 100, *outcomes)
    assert [change.reason for change in changes] == ["slow_rate"] * opens
    assert circuit.why == ("4 of 5 calls were slow" if opens else "")


def test_opens_after_failures_in_a_row_when_calls_are_rare() -> None:
    circuit = Circuit()
    by = rules(consecutive=3, min_calls=20)
    end(circuit, by, 100, "ok")
    end(circuit, by, 101, "f", "f", "f", "f")
    assert circuit.state is CLOSED, "a success is in the window"
    (change,) = end(circuit, by, 140, "f")
    assert (change.new, change.reason) == (OPEN, "consecutive")
    assert circuit.why == "5 calls in a row failed"


def test_a_row_ends_with_a_success() -> None:
    circuit = Circuit()
    by = rules(consecutive=3, min_calls=20)
    end(circuit, by, 100, "f", "f")
    circuit.count_success(circuit.generation, 100, by.window)
    assert circuit.in_row == 0
    end(circuit, by, 140, "f", "f")
    assert circuit.state is CLOSED
    end(circuit, by, 180, "f")
    assert circuit.state is OPEN


def test_failures_leave_the_window() -> None:
    circuit = Circuit()
    end(circuit, rules(), 100, "f", "f", "f")
    end(circuit, rules(), 131, "f", "f", "f")
    assert circuit.state is CLOSED
    assert circuit.window.calls == 3


def test_quick_successes_are_counted_like_others() -> None:
    circuit = Circuit()
    for now in (100, 101, 103):  # the third where the first bucket ends
        circuit.count_success(0, now, 30.0)
    circuit.window.advance(130, 30.0)
    assert circuit.window.calls == 1
    circuit.count_success(0, 140, 30.0)
    assert circuit.window.calls == 1
    circuit.count_success(7, 140, 30.0)
    assert (circuit.window.calls, circuit.late) == (1, 1)


# -- open


def test_says_what_it_opened_for_and_for_how_long() -> None:
    circuit = Circuit()
    (change,) = end(circuit, rules(), 100, "ok", "f", "f", "f")
    assert change == Change(CLOSED, OPEN, "failure_rate", 1, 5.0)
    assert circuit.why == "3 of 4 calls failed"


def test_open_refuses_until_its_time_is_over() -> None:
    circuit = tripped(rules())
    assert circuit.admit(rules(), 100) == (Refusal(OPEN, 5.0), None)
    assert circuit.admit(rules(), 104) == (Refusal(OPEN, 1.0), None)
    permit, change = circuit.admit(rules(), 105)
    assert isinstance(permit, Probe)
    assert change == Change(OPEN, HALF_OPEN, "open_time_over", 2, None)


def test_open_refuses_without_the_lock() -> None:
    circuit = tripped(rules())
    with circuit._lock:
        assert circuit.admit(rules(), 101)[0] == Refusal(OPEN, 4.0)


@pytest.mark.parametrize(("drawn", "first"), [(0.0, 2.5), (0.5, 3.75), (1.0, 5.0)])
def test_half_of_the_open_time_is_drawn(drawn: float, first: float) -> None:
    by = rules(random=lambda: drawn)
    assert tripped(by).admit(by, 100)[0] == Refusal(OPEN, first)


def test_the_open_time_doubles_with_each_trip_in_a_row_up_to_its_limit() -> None:
    by = rules(max_open=30.0)
    circuit, now, found = tripped(by), 100.0, []
    for _ in range(6):
        permit, _ = circuit.admit(by, now)
        assert isinstance(permit, Refusal)
        assert permit.retry_after is not None
        found.append(permit.retry_after)
        now += permit.retry_after
        end(circuit, by, now, "f")
    assert found == [5, 10, 20, 30, 30, 30]


def test_a_target_that_is_away_for_weeks_overflows_nothing() -> None:
    circuit = tripped(rules())
    circuit.trips = 100_000
    assert circuit.open(rules()).open_for == 300


def test_trips_are_in_a_row_until_it_was_closed_for_a_whole_window() -> None:
    by = rules(successes_required=1)
    circuit = tripped(by)
    end(circuit, by, 105, "ok")
    assert [change.open_for for change in end(circuit, by, 134, *["f"] * 4)] == [10.0]
    end(circuit, by, 144, "ok")
    assert [change.open_for for change in end(circuit, by, 174, *["f"] * 4)] == [5.0]


def test_a_limit_that_was_lowered_applies_to_an_open_circuit() -> None:
    circuit = tripped(rules(open_for=200.0))
    assert circuit.admit(rules(max_open=10.0), 100)[0] == Refusal(OPEN, 10.0)
    assert isinstance(circuit.admit(rules(max_open=10.0), 110)[0], Probe)


@pytest.mark.parametrize("failed", [True, False])
def test_an_outcome_from_before_the_trip_changes_nothing(failed: bool) -> None:
    by = rules()
    circuit = tripped(by)
    counted = (circuit.window.calls, circuit.window.failures, circuit.in_row)
    assert circuit.count(0, by, 104, failed=failed, slow=False) is None
    circuit.count_success(0, 104, by.window)
    assert circuit.admit(by, 104)[0] == Refusal(OPEN, 1.0)
    assert (circuit.late, circuit.trips) == (2, 1)
    assert (circuit.window.calls, circuit.window.failures, circuit.in_row) == counted


# -- half-open


def test_half_open_lets_no_more_pass_than_it_has_permits() -> None:
    by = rules(permits=2)
    circuit = tripped(by)
    first, second = probe(circuit, by, 105), probe(circuit, by, 105)
    assert circuit.admit(by, 105) == (Refusal(HALF_OPEN, None), None)
    assert circuit.count(first, by, 106, failed=False, slow=False) is None
    third = probe(circuit, by, 106)
    assert circuit.admit(by, 106)[0] == Refusal(HALF_OPEN, None)
    assert len({id(first), id(second), id(third)}) == 3


def test_closes_with_the_last_success_that_it_takes_and_nothing_counted() -> None:
    by = rules(successes_required=2)
    circuit = tripped(by)
    changes = end(circuit, by, 105, "ok", "ok")
    assert changes[-1] == Change(HALF_OPEN, CLOSED, "probes_succeeded", 3, None)
    assert (circuit.window.calls, circuit.in_row, circuit.successes, circuit.why) == (0, 0, 0, "")


@pytest.mark.parametrize(
    ("outcome", "reason", "why"),
    [("f", "probe_failed", "a probe failed"), ("s", "probe_slow", "a probe was slow"), ("fs", "probe_failed", "")],
)
def test_one_bad_probe_opens_again_for_longer(outcome: str, reason: Reason, why: str) -> None:
    by = rules()
    circuit = tripped(by)
    changes = end(circuit, by, 105, "ok", "ok", outcome)
    assert changes[-1] == Change(HALF_OPEN, OPEN, reason, 3, 10.0)
    assert why in circuit.why


def test_a_probe_of_an_earlier_half_open_state_changes_nothing() -> None:
    by = rules(successes_required=1)
    circuit = tripped(by)
    old, bad = probe(circuit, by, 105), probe(circuit, by, 105)
    circuit.count(bad, by, 105, failed=True, slow=False)
    probe(circuit, by, 115)
    assert circuit.count(old, by, 115, failed=False, slow=False) is None
    assert (circuit.state, circuit.late, circuit.successes) == (HALF_OPEN, 1, 0)


def test_a_permit_that_is_given_back_is_free_and_counts_neither_way() -> None:
    by = rules(permits=1)
    circuit = tripped(by)
    permit = probe(circuit, by, 105)
    circuit.give_back(permit)
    assert (circuit.state, circuit.successes) == (HALF_OPEN, 0)
    probe(circuit, by, 105)
    circuit.give_back(permit)
    assert circuit.admit(by, 105)[0] == Refusal(HALF_OPEN, None), "given back once"


@pytest.mark.parametrize("permit", [0, None])
def test_what_is_no_probe_has_nothing_to_give_back(permit: Permit) -> None:
    circuit = Circuit()
    circuit.give_back(permit)
    assert circuit.window.calls == 0


def test_a_hung_probe_is_reclaimed_and_its_outcome_ignored() -> None:
    by = rules(permits=1, successes_required=1)
    circuit = tripped(by)
    hung = probe(circuit, by, 105)
    assert circuit.admit(by, 134.9)[0] == Refusal(HALF_OPEN, None)
    fresh = probe(circuit, by, 135)
    assert circuit.count(hung, by, 136, failed=True, slow=False) is None
    assert (circuit.state, circuit.late) == (HALF_OPEN, 1)
    circuit.count(fresh, by, 137, failed=False, slow=False)
    assert circuit.state is CLOSED


def test_half_open_for_too_long_with_probes_that_hang_opens_again() -> None:
    by = rules(permits=1)
    circuit = tripped(by)
    probe(circuit, by, 105)
    probe(circuit, by, 135)
    assert circuit.admit(by, 164.9)[0] == Refusal(HALF_OPEN, None)
    refusal, change = circuit.admit(by, 165)
    assert refusal == Refusal(OPEN, 10.0)
    assert change == Change(HALF_OPEN, OPEN, "probes_hang", 3, 10.0)
    assert circuit.why == "probes hang"


def test_half_open_for_long_for_want_of_calls_stays_so() -> None:
    by = rules()
    circuit = tripped(by)
    for now in (105, 1_105, 2_105):
        end(circuit, by, now, "ok")
    assert circuit.state is CLOSED


def test_a_call_that_finds_it_closed_meanwhile_is_counted_as_usual() -> None:
    circuit = Circuit()
    assert circuit.admit(rules(), 100) == (0, None)


# -- by hand


def test_forced_open_refuses_until_somebody_says_otherwise() -> None:
    circuit = Circuit()
    assert circuit.force_open() == Change(CLOSED, FORCED_OPEN, "manual", 1, None)
    assert circuit.force_open() is None
    assert circuit.admit(rules(), 1e9) == (Refusal(FORCED_OPEN, None), None)
    assert circuit.close() == Change(FORCED_OPEN, CLOSED, "manual", 2, None)
    assert circuit.close() is None


def test_disabled_lets_everything_pass_and_counts_nothing() -> None:
    circuit = Circuit()
    assert circuit.disable() == Change(CLOSED, DISABLED, "manual", 1, None)
    assert circuit.disable() is None
    assert circuit.admit(rules(), 100) == (None, None)
    assert circuit.count(0, rules(), 100, failed=True, slow=False) is None
    assert circuit.window.calls == 0


def test_opened_by_hand_its_time_begins_with_the_first_refusal() -> None:
    circuit = Circuit()
    assert circuit.open(rules()) == Change(CLOSED, OPEN, "manual", 1, 5.0)
    assert circuit.why == "opened by hand"
    assert circuit.admit(rules(), 500)[0] == Refusal(OPEN, 5.0)
    assert circuit.admit(rules(), 504)[0] == Refusal(OPEN, 1.0)
    assert isinstance(circuit.admit(rules(), 505)[0], Probe)


def test_half_opened_by_hand_it_has_its_whole_time() -> None:
    by = rules(permits=1)
    circuit = tripped(by)
    assert circuit.half_open() == Change(OPEN, HALF_OPEN, "manual", 2, None)
    assert circuit.half_open() is None
    assert circuit.why == "half-opened by hand"
    probe(circuit, by, 500)
    assert isinstance(circuit.admit(by, 530)[0], Probe), "not open again before 560"


def test_after_a_reset_no_trip_is_remembered() -> None:
    circuit = tripped(rules())
    circuit.reset()
    assert circuit.open(rules()).open_for == 5.0


def test_reset_begins_anew_whatever_the_state() -> None:
    by = rules()
    circuit = Circuit()
    end(circuit, by, 100, "f", "f", "f")
    assert circuit.reset() is None
    assert (circuit.window.calls, circuit.in_row) == (0, 0)
    circuit = tripped(by)
    assert circuit.reset() == Change(OPEN, CLOSED, "manual", 2, None)
    assert [change.open_for for change in end(circuit, by, 100, *["f"] * 4)] == [5.0]


# -- from many threads


def test_eight_threads_lose_no_count() -> None:
    circuit = Circuit()
    by = rules(min_calls=1_000_000, window=1e6)
    start = threading.Barrier(8)

    def hammer(failing: bool) -> Callable[[], None]:
        def run() -> None:
            start.wait(10)
            for turn in range(4_000):
                if failing and turn % 4 == 0:
                    circuit.count(0, by, turn / 100, failed=True, slow=True)
                else:
                    circuit.count_success(0, turn / 100, by.window)

        return run

    threads = [threading.Thread(target=hammer(number % 2 == 0)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    window = circuit.window
    assert (window.calls, window.failures, window.slow, circuit.late) == (32_000, 4_000, 4_000, 0)


def test_eight_threads_never_hold_more_probes_than_there_are_permits() -> None:
    by = rules(permits=3, successes_required=1_000_000)
    circuit = tripped(by)
    start, lock = threading.Barrier(8), threading.Lock()
    out = most = admitted = 0

    def hammer() -> None:
        nonlocal out, most, admitted
        start.wait(10)
        for _ in range(2_000):
            permit, _ = circuit.admit(by, 105)
            if isinstance(permit, Probe):
                with lock:
                    out += 1
                    admitted += 1
                    most = max(most, out)
                with lock:
                    out -= 1
                circuit.count(permit, by, 105, failed=False, slow=False)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 3
    assert (circuit.state, circuit.successes, circuit.late) == (HALF_OPEN, admitted, 0)


# -- the model


class Model(RuleBasedStateMachine):
    """Any order of calls, outcomes, times and hands; the model knows who holds a permit, and of which state."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.by = rules(min_calls=3, permits=2, successes_required=2, consecutive=2)
        self.circuit = Circuit()
        self.now = 100.0
        self.generation = 0
        self.opens_until: float | None = None
        self.held: dict[int, float] = {}

    def changed(self, change: Change | None) -> None:
        if change is None:
            assert self.circuit.generation == self.generation
            return
        self.generation += 1
        self.held.clear()
        assert change.generation == self.circuit.generation == self.generation
        assert change.new is self.circuit.state
        assert (change.open_for is not None) is (change.new is OPEN)
        self.opens_until = None
        if change.open_for is not None:
            assert self.by.open_for <= change.open_for <= self.by.max_open
            if change.reason != "manual":
                self.opens_until = self.now + change.open_for

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0, 30.0, 301.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=permits)
    def begin(self) -> Any:
        before = self.circuit.state
        if before is CLOSED:
            return self.circuit.generation, None
        permit, change = self.circuit.admit(self.by, self.now)
        until = self.opens_until
        if change is not None:
            assert (change.old, change.new) in {(OPEN, HALF_OPEN), (HALF_OPEN, OPEN)}
            if change.old is OPEN:
                assert until is None or self.now >= until, "open means refused, until its time is over"
        self.changed(change)
        if isinstance(permit, Probe):
            self.held = {key: overdue for key, overdue in self.held.items() if overdue > self.now}
            self.held[id(permit)] = permit.overdue
            assert len(self.held) <= self.by.permits
            assert self.circuit.state is HALF_OPEN
        elif isinstance(permit, Refusal):
            assert permit.state is self.circuit.state
            assert permit.state in {OPEN, HALF_OPEN, FORCED_OPEN}
            assert (permit.retry_after is not None) is (permit.state is OPEN)
            if permit.state is OPEN and self.opens_until is None:
                self.opens_until = self.now + (permit.retry_after or 0)
        else:
            assert permit is None
            assert before is DISABLED
        return permit, permit

    @rule(which=permits, failed=st.booleans(), slow=st.booleans())
    def end(self, which: tuple[Any, Any], failed: bool, slow: bool) -> None:
        permit = which[0]
        if permit is None or isinstance(permit, Refusal):
            return
        known = id(permit) in self.held if isinstance(permit, Probe) else permit == self.circuit.generation
        before, late, trips = self.circuit.state, self.circuit.late, self.circuit.trips
        change = self.circuit.count(permit, self.by, self.now, failed=failed, slow=slow)
        self.held.pop(id(permit), None)
        if isinstance(permit, Probe) and self.circuit.late > late:
            assert change is None
        elif not known:
            assert (change, self.circuit.state, self.circuit.trips) == (None, before, trips), "a late outcome did"
            assert self.circuit.late == late + 1
        elif before is HALF_OPEN and (failed or slow):
            assert self.circuit.state is OPEN
        elif not failed and not slow and before is CLOSED:
            assert self.circuit.state is CLOSED
        self.changed(change)

    @rule(which=permits)
    def cancel(self, which: tuple[Any, Any]) -> None:
        permit = which[0]
        if isinstance(permit, Refusal):
            return
        before = (self.circuit.state, self.circuit.generation, self.circuit.successes, self.circuit.window.calls)
        self.circuit.give_back(permit)
        self.held.pop(id(permit), None)
        after = (self.circuit.state, self.circuit.generation, self.circuit.successes, self.circuit.window.calls)
        assert after == before

    @rule(hand=st.sampled_from(["force_open", "disable", "half_open", "close", "reset"]))
    def by_hand(self, hand: str) -> None:
        self.changed(getattr(self.circuit, hand)())

    @rule()
    def open_by_hand(self) -> None:
        self.changed(self.circuit.open(self.by))

    @precondition(lambda self: self.circuit.state is OPEN and self.opens_until is not None)
    @rule(share=st.floats(0, 0.99))
    def open_implies_refused_until_its_time(self, share: float) -> None:
        assert self.opens_until is not None
        left = self.opens_until - self.now
        if left > 0:
            permit, change = self.circuit.admit(self.by, self.now + left * share)
            assert isinstance(permit, Refusal)
            assert change is None

    @invariant()
    def counts_make_sense(self) -> None:
        window = self.circuit.window
        assert 0 <= window.failures <= window.calls
        assert 0 <= window.slow <= window.calls
        assert len(self.circuit._probes) <= self.by.permits
        if self.circuit.state is not HALF_OPEN:
            assert not self.circuit._probes
            assert self.circuit.successes == 0


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
