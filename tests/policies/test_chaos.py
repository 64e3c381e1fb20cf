from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.chain import Chain, compose
from resilient_rpc.errors import (
    NOT_EXECUTED,
    UNKNOWN,
    ApplicationError,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    NotConnected,
    Overloaded,
    RpcError,
)
from resilient_rpc.events import PolicyBypassed, PolicyEvent
from resilient_rpc.hub import Events
from resilient_rpc.policies import AttemptTimeout, Chaos
from resilient_rpc.policies.chaos import ChaosInjected
from tests.runtimes import Bench


class Server:
    """Counts what reaches it."""

    def __init__(self, *errors: Exception | None) -> None:
        self.calls: list[Call] = []
        self._errors = list(errors)

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        return Reply(result=len(self.calls))


def always(**settings: Any) -> Chaos:
    return Chaos(rate=1, enabled=True, **settings)


def disturbed(chaos: Chaos, runtime: Bench, calls: int) -> str:
    """Which of so many calls fail."""
    chain = compose([chaos], Server())

    async def one_after_the_other() -> str:
        seen = ""
        for _ in range(calls):
            try:
                await chain(runtime.make())
            except NotConnected:
                seen += "x"
            else:
                seen += "."
        return seen

    return runtime.run(one_after_the_other)


def test_is_off_unless_it_is_switched_on(runtime: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESILIENT_RPC_CHAOS", raising=False)
    assert disturbed(Chaos(rate=1, fault=NotConnected), runtime, 5) == "....."
    assert disturbed(Chaos(rate=1, fault=NotConnected, enabled=False), runtime, 5) == "....."


@pytest.mark.parametrize(("value", "expected"), [("1", "x"), ("0", "."), ("true", "."), ("", ".")])
def test_is_switched_on_by_the_environment(
    runtime: Bench, monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("RESILIENT_RPC_CHAOS", value)
    assert disturbed(Chaos(rate=1, fault=NotConnected), runtime, 1) == expected


def test_the_word_of_the_program_goes_before_that_of_the_environment(
    runtime: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESILIENT_RPC_CHAOS", "1")
    assert disturbed(Chaos(rate=1, fault=NotConnected, enabled=False), runtime, 1) == "."


def test_a_function_switches_it_while_it_runs(runtime: Bench) -> None:
    switch = [True, False, False, True]
    assert disturbed(Chaos(rate=1, fault=NotConnected, enabled=lambda: switch.pop(0)), runtime, 4) == "x..x"


def test_a_share_of_the_attempts_is_disturbed(runtime: Bench) -> None:
    seen = disturbed(Chaos(rate=0.2, fault=NotConnected, seed=1, enabled=True), runtime, 500)
    assert 60 < seen.count("x") < 140
    assert disturbed(Chaos(rate=0, fault=NotConnected, seed=1, enabled=True), runtime, 100) == "." * 100


def test_a_seed_repeats_the_draws(runtime: Bench) -> None:
    def draws(seed: int | None) -> str:
        return disturbed(Chaos(rate=0.5, fault=NotConnected, seed=seed, enabled=True), runtime, 64)

    assert draws(7) == draws(7)
    assert len({draws(7), draws(8), draws(None), draws(None)}) == 4


def test_each_of_the_given_ways_has_its_turn(runtime: Bench) -> None:
    kinds: list[str] = []
    events = Events()
    events.on(ChaosInjected, lambda event: kinds.append(event.kind))
    chaos = always(fault=NotConnected, latency=0.1, drop_reply="connection", duplicate=True, seed=3)
    chain = compose([chaos], Server())

    async def many() -> None:
        for _ in range(400):
            try:
                await chain(runtime.make(safety=Safety.READ_ONLY, events=events))
            except (NotConnected, ConnectionLost):
                continue

    runtime.run(many)
    counts = {kind: kinds.count(kind) for kind in ("fault", "latency", "drop_reply", "duplicate")}
    assert sum(counts.values()) == 400
    assert min(counts.values()) > 60


def test_only_the_attempts_that_it_may_disturb(runtime: Bench) -> None:
    chain = compose([always(fault=NotConnected, when=lambda call: call.attempt == 2)], Server())
    assert runtime.call(chain).result == 1
    with pytest.raises(NotConnected):
        runtime.call(chain, attempt=2)


@pytest.mark.parametrize("broken", ["enabled", "when"])
def test_a_switch_that_fails_is_off(runtime: Bench, caplog: pytest.LogCaptureFixture, broken: str) -> None:
    seen: list[Any] = []
    events = Events()
    events.on(PolicyEvent, seen.append)

    def fails(*_: Any) -> bool:
        raise KeyError("switches")

    settings: dict[str, Any] = {"enabled": True, broken: fails}
    reply = runtime.call(compose([Chaos(rate=1, fault=NotConnected, **settings)], Server()), events=events)
    assert reply.result == 1
    assert [(type(event), event.reason) for event in seen] == [(PolicyBypassed, "failed")]
    (record,) = caplog.records
    assert record.getMessage() == "Chaos leaves the call alone: `enabled` or `when` failed"
    assert record.exc_info is not None
    assert "switches" in caplog.text


def test_an_event_tells_the_attempt_and_the_kind(runtime: Bench) -> None:
    seen: list[Any] = []
    events = Events()
    events.on(PolicyEvent, seen.append)
    with pytest.raises(NotConnected):
        runtime.call(compose([always(fault=NotConnected, name="net")], Server()), attempt=2, events=events)
    assert seen == [ChaosInjected(policy="net", method="orders.create", target="orders", attempt=2, kind="fault")]


def test_a_fault_sends_nothing(runtime: Bench) -> None:
    server = Server()
    with pytest.raises(ConnectionLost, match="Chaos"):
        runtime.call(compose([always(fault=ConnectionLost)], server))
    assert server.calls == []


def test_a_fault_given_as_an_error_is_a_new_one_each_time(runtime: Bench) -> None:
    error = Overloaded("busy", retry_after=3)
    chain = compose([always(fault=error)], Server())
    found = []
    for _ in range(2):
        with pytest.raises(Overloaded, match="busy") as info:
            runtime.call(chain)
        found.append(info.value)
        assert info.value.retry_after == 3
    assert error not in found
    assert found[0] is not found[1]


def test_a_fault_can_depend_on_the_call(runtime: Bench) -> None:
    def fault(call: Call) -> RpcError:
        return ApplicationError(call.method)

    with pytest.raises(ApplicationError, match=r"orders\.create"):
        runtime.call(compose([always(fault=fault)], Server()))


def test_a_fault_that_is_no_error_is_named(runtime: Bench) -> None:
    with pytest.raises(ConfigurationError, match=r"Chaos\.fault.*'no'"):
        runtime.call(compose([always(fault=lambda call: "no")], Server()))


def test_latency_comes_before_the_attempt(runtime: Bench) -> None:
    server = Server()
    assert runtime.call(compose([always(latency=2)], server), timeout=5).result == 1
    assert runtime.passed == 2
    assert server.calls[0].deadline == runtime.clock.now() + 3


def test_latency_ends_by_the_deadline_and_sends_nothing(runtime: Bench) -> None:
    server = Server()
    with pytest.raises(DeadlineExceeded, match=r"^orders\.create: time was up in a delay of 20 s") as info:
        runtime.call(compose([always(latency=20)], server), timeout=5)
    assert runtime.passed == 5
    assert (info.value.certainty, info.value.stage, server.calls) == (NOT_EXECUTED, "publish", [])


def test_latency_of_a_call_whose_time_is_up_takes_none(runtime: Bench) -> None:
    with pytest.raises(DeadlineExceeded):
        runtime.call(compose([always(latency=20)], Server()), timeout=-1)
    assert runtime.passed == 0


def test_latency_can_be_a_range(runtime: Bench) -> None:
    chain = compose([always(latency=(1, 3), seed=5)], Server())
    took = []
    for _ in range(50):
        begin = runtime.passed
        runtime.call(chain)
        took.append(runtime.passed - begin)
    assert 1 <= min(took) < 1.5
    assert 2.5 < max(took) <= 3


@pytest.mark.parametrize("error", [None, Overloaded("busy")])
def test_a_dropped_reply_is_missed_until_the_deadline(runtime: Bench, error: Exception | None) -> None:
    server = Server(error)
    with pytest.raises(DeadlineExceeded, match=r"^orders\.create: .*dropped by Chaos") as info:
        runtime.call(compose([always(drop_reply="timeout")], server), timeout=5)
    assert runtime.passed == 5
    assert (info.value.certainty, info.value.stage) == (UNKNOWN, "reply")
    assert [call.method for call in server.calls] == ["orders.create"]


def test_a_reply_that_is_dropped_after_the_deadline_takes_no_time(runtime: Bench) -> None:
    with pytest.raises(DeadlineExceeded):
        runtime.call(compose([always(drop_reply="timeout")], Server()), timeout=-1)
    assert runtime.passed == 0


def test_an_attempt_whose_reply_is_dropped_can_be_followed_by_another(runtime: Bench) -> None:
    chain = Chain([AttemptTimeout(limit=1), always(drop_reply="timeout")], Server())
    with pytest.raises(DeadlineExceeded) as info:
        runtime.call(chain.handler, timeout=5)
    assert runtime.passed == 1
    assert info.value.retryable


def test_a_reply_can_be_lost_with_its_connection(runtime: Bench) -> None:
    server = Server()
    with pytest.raises(ConnectionLost, match=r"^orders\.create: the reply was lost") as info:
        runtime.call(compose([always(drop_reply="connection")], server))
    assert (info.value.certainty, len(server.calls), runtime.passed) == (UNKNOWN, 1, 0)


@pytest.mark.parametrize("settings", [{"drop_reply": "timeout"}, {"duplicate": True}])
def test_what_never_reached_the_server_fails_as_it_does(runtime: Bench, settings: dict[str, Any]) -> None:
    server = Server(NotConnected("away"))
    with pytest.raises(NotConnected):
        runtime.call(compose([always(**settings)], server), safety=Safety.READ_ONLY)
    assert len(server.calls) == 1


@pytest.mark.parametrize("first", [None, ApplicationError("no")])
def test_a_duplicate_has_the_same_key_and_its_caller_gets_the_second_answer(
    runtime: Bench, first: Exception | None
) -> None:
    server = Server(first)
    assert runtime.call(compose([always(duplicate=True)], server), key="k", safety=Safety.DEDUP).result == 2
    assert [(call.key, call.attempt) for call in server.calls] == [("k", 1), ("k", 1)]


def test_what_must_not_be_repeated_is_not_duplicated(runtime: Bench) -> None:
    server, events = Server(), Events()
    seen: list[Any] = []
    events.on(PolicyEvent, seen.append)
    runtime.call(compose([always(duplicate=True)], server), safety=Safety.UNSAFE, events=events)
    assert [call.method for call in server.calls] == ["orders.create"]
    assert [(type(event), event.policy, event.reason) for event in seen] == [(PolicyBypassed, "Chaos", "unsafe")]


@pytest.mark.parametrize("settings", [{"drop_reply": "timeout"}, {"duplicate": True}, {"latency": 1}])
def test_cancellation_comes_out(runtime: Bench, settings: dict[str, Any]) -> None:
    async def cancelled(call: Call) -> Reply:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        runtime.call(compose([always(**settings)], cancelled), safety=Safety.READ_ONLY)


def test_stands_inside_of_everything() -> None:
    with pytest.raises(ConfigurationError, match="network and the server"):
        Chain([always(latency=1), AttemptTimeout()], Server())
    Chain([AttemptTimeout(), always(latency=1, name="slow"), always(fault=NotConnected, name="cut")], Server())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "give at least one of fault"),
        ({"duplicate": False}, "give at least one"),
        ({"duplicate": 1}, "duplicate"),
        ({"latency": 1, "rate": 1.5}, "rate"),
        ({"latency": 1, "rate": "all"}, "rate"),
        ({"latency": 1, "seed": "x"}, "seed"),
        ({"latency": 1, "seed": -1}, "seed"),
        ({"latency": 1, "enabled": "yes"}, "enabled"),
        ({"latency": 1, "when": "orders"}, "when"),
        ({"latency": -1}, "latency"),
        ({"latency": math.inf}, "latency"),
        ({"latency": (2, 1)}, "latency"),
        ({"latency": (1, 2, 3)}, "latency"),
        ({"latency": (1, math.nan)}, "latency"),
        ({"fault": ValueError}, "fault"),
        ({"fault": ValueError("x")}, "fault"),
        ({"fault": 5}, "fault"),
        ({"drop_reply": True}, "drop_reply"),
    ],
    ids=repr,
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^Chaos[.:] ?{named}"):
        Chaos(**settings)


@given(rate=st.floats(0, 1), low=st.floats(0, 10), span=st.floats(0, 10))
def test_every_value_within_the_range_is_accepted(rate: float, low: float, span: float) -> None:
    chaos = Chaos(rate=rate, latency=(low, low + span))
    assert (chaos.rate, chaos.latency) == (rate, (low, low + span))
