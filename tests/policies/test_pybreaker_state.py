"""What people know from pybreaker works: its words, its manual control, its listeners."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pybreaker
import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import compose
from resilient_rpc.errors import CircuitOpen, Interrupted, NotConnected, UsageError
from resilient_rpc.policies.breaker import CircuitBreaker
from resilient_rpc.policies.circuit_state import CLOSED, DISABLED, FORCED_OPEN, HALF_OPEN, OPEN
from resilient_rpc.policies.pybreaker_state import TargetBreaker
from tests.runtimes import Bench


class Log(pybreaker.CircuitBreakerListener):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        assert callable(func)
        self.seen.append(("before_call", cb.name, args[0].method))

    def success(self, cb: Any) -> None:
        self.seen.append(("success", cb.current_state))

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.seen.append(("failure", type(exc).__name__))

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        assert isinstance(new_state, pybreaker.CircuitBreakerState)
        self.seen.append(("state_change", old_state.name, new_state.name, cb.current_state))

    @property
    def kinds(self) -> list[str]:
        return [entry[0] for entry in self.seen]


async def works(call: Call) -> Reply:
    return Reply(result="done")


async def fails(call: Call) -> Reply:
    raise Interrupted("gone")


async def away(call: Call) -> Reply:
    raise NotConnected("no broker")


def test_each_target_has_a_breaker_of_pybreaker() -> None:
    policy = CircuitBreaker()
    breaker = policy.pybreaker("orders")
    assert isinstance(breaker, pybreaker.CircuitBreaker)
    assert breaker.name == "orders"
    assert policy.pybreaker("orders") is breaker
    assert policy.pybreaker("stock") is not breaker


@pytest.mark.parametrize(
    ("move", "state", "word", "kind"),
    [
        ("close", CLOSED, "closed", pybreaker.CircuitClosedState),
        ("open", OPEN, "open", pybreaker.CircuitOpenState),
        ("half_open", HALF_OPEN, "half-open", pybreaker.CircuitHalfOpenState),
        ("force_open", FORCED_OPEN, "open", pybreaker.CircuitOpenState),
        ("disable", DISABLED, "closed", pybreaker.CircuitClosedState),
    ],
)
def test_the_state_is_told_in_its_words(move: str, state: str, word: str, kind: type) -> None:
    policy = CircuitBreaker()
    getattr(policy, move)("orders")
    breaker = policy.pybreaker("orders")
    assert policy.state("orders") is state
    assert breaker.current_state == word
    assert type(breaker.state) is kind
    assert breaker.state.name == word


@pytest.mark.parametrize(("move", "state"), [("open", OPEN), ("half_open", HALF_OPEN), ("close", CLOSED)])
def test_its_manual_control_moves_the_circuit(runtime: Bench, move: str, state: str) -> None:
    policy = CircuitBreaker()
    policy.force_open("orders")
    assert not getattr(policy.pybreaker("orders"), move)()
    assert policy.state("orders") is state
    if state is OPEN:
        with pytest.raises(CircuitOpen, match="opened by hand"):
            runtime.call(compose([policy], works))
    else:
        assert runtime.call(compose([policy], works)).result == "done"


@pytest.mark.parametrize(("word", "state"), [("open", OPEN), ("half-open", HALF_OPEN), ("closed", CLOSED)])
def test_a_state_can_be_assigned_as_there(word: str, state: str) -> None:
    policy = CircuitBreaker()
    policy.force_open("orders")
    policy.pybreaker("orders").state = word
    assert policy.state("orders") is state


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown state 'ajar'"):
        CircuitBreaker().pybreaker("orders").state = "ajar"


def test_its_counters_are_those_of_the_circuit(runtime: Bench) -> None:
    policy = CircuitBreaker(consecutive=3, random=lambda: 1.0)
    breaker = policy.pybreaker("orders")
    for _ in range(2):
        with pytest.raises(Interrupted):
            runtime.call(compose([policy], fails))
    assert (breaker.fail_counter, breaker.success_counter) == (2, 0)
    policy.half_open("orders")
    runtime.call(compose([policy], works))
    assert breaker.success_counter == 1
    assert breaker._state_storage.opened_at is None
    assert breaker._state_storage.name == "circuit"


def _call(breaker: Any) -> None:
    breaker.call(print)


def _calling(breaker: Any) -> None:
    with breaker.calling():
        pass


def _call_async(breaker: Any) -> None:
    breaker.call_async(print)


def _decorate(breaker: Any) -> None:
    breaker(print)("x")


@pytest.mark.parametrize("use", [_call, _calling, _call_async, _decorate])
def test_its_own_way_of_calling_is_refused(use: Callable[[Any], None]) -> None:
    with pytest.raises(UsageError, match="'orders' belongs to a policy"):
        use(CircuitBreaker().pybreaker("orders"))


def test_listeners_are_told_of_calls_outcomes_and_changes(runtime: Bench) -> None:
    log = Log()
    policy = CircuitBreaker(listeners=(log,), consecutive=2, successes_required=1, random=lambda: 1.0)
    runtime.call(compose([policy], works))
    for _ in range(2):
        with pytest.raises(Interrupted):
            runtime.call(compose([policy], fails))
    assert log.seen == [
        ("before_call", "orders", "orders.create"),
        ("success", "closed"),
        *[("before_call", "orders", "orders.create"), ("failure", "Interrupted")] * 2,
    ]
    log.seen.clear()
    runtime.advance(30)
    with pytest.raises(Interrupted):
        runtime.call(compose([policy], fails))
    assert log.seen[1:] == [("state_change", "closed", "open", "open"), ("failure", "Interrupted")]
    log.seen.clear()
    with pytest.raises(CircuitOpen):
        runtime.call(compose([policy], works))
    assert log.seen == []
    runtime.advance(5)
    runtime.call(compose([policy], works))
    assert log.seen == [
        ("state_change", "open", "half-open", "half-open"),
        ("before_call", "orders", "orders.create"),
        ("state_change", "half-open", "closed", "closed"),
        ("success", "closed"),
    ]


def test_listeners_are_not_told_of_what_counts_neither_way(runtime: Bench) -> None:
    log = Log()
    with pytest.raises(NotConnected):
        runtime.call(compose([CircuitBreaker(listeners=(log,))], away))
    assert log.kinds == ["before_call"]


def test_a_list_of_listeners_is_taken_as_it_is_now() -> None:
    given: Any = [log := Log()]
    policy = CircuitBreaker(listeners=given)
    given.clear()
    assert policy.listeners == (log,)
    assert policy.pybreaker("orders").listeners == (log,)


def test_listeners_are_told_of_changes_by_hand() -> None:
    log = Log()
    policy = CircuitBreaker(listeners=(log,))
    policy.pybreaker("orders").open()
    policy.disable("orders")
    assert log.seen == [("state_change", "closed", "open", "open"), ("state_change", "open", "closed", "closed")]


def test_a_listener_can_come_and_go(runtime: Bench) -> None:
    first, second = Log(), Log()
    policy = CircuitBreaker(listeners=(first,))
    breaker = policy.pybreaker("orders")
    breaker.add_listeners(second)
    runtime.call(compose([policy], works))
    breaker.remove_listener(first)
    runtime.call(compose([policy], works))
    breaker.remove_listener(second)
    runtime.call(compose([policy], works))
    assert first.kinds == ["before_call", "success"]
    assert second.kinds == ["before_call", "success"] * 2
    assert not breaker.listeners


def test_a_listener_that_raises_is_contained_and_named_once(runtime: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Log):
        def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("listener")

        def failure(self, cb: Any, exc: BaseException) -> None:
            raise RuntimeError("listener")

    after = Log()
    policy = CircuitBreaker(listeners=(Broken(), after))
    with caplog.at_level(logging.ERROR):
        assert runtime.call(compose([policy], works)).result == "done"
        with pytest.raises(Interrupted):
            runtime.call(compose([policy], fails))
    assert after.kinds == ["before_call", "success", "before_call", "failure"]
    assert len([record for record in caplog.records if "Broken" in record.getMessage()]) == 1


def test_a_listener_that_calls_back_does_not_lock_up(runtime: Bench) -> None:
    class Nosy(Log):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            super().state_change(cb, old_state, new_state)
            if new_state.name == "open":
                cb.close()

    nosy = Nosy()
    policy = CircuitBreaker(consecutive=1, listeners=(nosy,))
    with pytest.raises(Interrupted):
        runtime.call(compose([policy], fails))
    assert policy.state("orders") is CLOSED
    assert nosy.kinds.count("state_change") == 2


def test_a_reload_brings_listeners_to_targets_that_had_none(runtime: Bench) -> None:
    first, log = CircuitBreaker(), Log()
    runtime.call(compose([first], works))
    unheard = CircuitBreaker()
    unheard.adopt(first)
    second = CircuitBreaker(listeners=(log,))
    second.adopt(unheard)
    runtime.call(compose([second], works))
    assert log.kinds == ["before_call", "success"]


def test_threads_that_ask_at_once_get_the_same_breaker() -> None:
    for _ in range(20):
        policy, start, found = CircuitBreaker(), threading.Barrier(4), list[Any]()
        policy.state("orders")

        def ask(policy: CircuitBreaker = policy, start: threading.Barrier = start, found: list[Any] = found) -> None:
            start.wait(10)
            found.append(policy.pybreaker("orders"))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(breaker) for breaker in found}) == 1


def test_who_comes_second_takes_what_the_first_has_made() -> None:
    policy = CircuitBreaker()
    circuit: Any = policy._circuits.of("orders")
    first = TargetBreaker(circuit, policy._circuits)

    class TakenBefore:
        """A lock for which another thread was quicker."""

        def __enter__(self) -> None:
            circuit._pybreaker = first

        def __exit__(self, *_: object) -> None:
            """Free again."""

    circuit._lock = TakenBefore()
    assert policy.pybreaker("orders") is first


def test_a_reload_exchanges_the_policys_listeners_and_leaves_the_others() -> None:
    old, both, new, own = Log(), Log(), Log(), Log()
    first = CircuitBreaker(listeners=(old, both))
    breaker = first.pybreaker("orders")
    breaker.add_listener(own)
    breaker.remove_listener(old)
    breaker.add_listener(old)
    second = CircuitBreaker(listeners=(both, new))
    second.adopt(first)
    assert {id(listener) for listener in second.pybreaker("orders").listeners} == {id(own), id(both), id(new)}
    assert second.pybreaker("stock").listeners == (both, new)
    breaker.open()
    assert second.state("orders") is OPEN
    third = CircuitBreaker(listeners=())
    third.adopt(second)
    assert breaker.listeners == (own,)
    fourth = CircuitBreaker(listeners=(own,))
    fourth.adopt(third)
    assert breaker.listeners == (own,)
    fourth.pybreaker("orders").remove_listener(own)
    CircuitBreaker().adopt(fourth)
    assert not breaker.listeners
