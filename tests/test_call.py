from __future__ import annotations

import pytest

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.events import Event, LateReply, PolicyEvent
from resilient_rpc.hub import Events
from resilient_rpc.testing import VirtualClock


def make(clock: VirtualClock) -> Call:
    return Call(method="orders.create", params={"sku": "A1"}, runtime=clock.blocking, deadline=clock.now() + 5, key="k")


def test_time_runs_out_on_the_clock_of_its_runtime(clock: VirtualClock) -> None:
    call = make(clock)
    assert call.remaining() == 5
    clock.advance(7)
    assert call.remaining() == -2


def test_a_copy_differs_in_what_was_asked(clock: VirtualClock) -> None:
    call = make(clock)
    copy = call.replace(attempt=2)
    assert (copy.attempt, call.attempt) == (2, 1)
    assert (copy.method, copy.params, copy.key, copy.deadline) == (call.method, call.params, call.key, call.deadline)
    other = VirtualClock()
    assert call.on(other.blocking).runtime is other.blocking
    assert call.runtime is clock.blocking


def test_cannot_be_changed(clock: VirtualClock) -> None:
    with pytest.raises(AttributeError):
        make(clock).deadline = 1.0  # type: ignore[misc]


def test_calls_are_themselves_even_when_alike(clock: VirtualClock) -> None:
    call = make(clock)
    assert call != call.replace()
    assert len({call, call.replace()}) == 2


def test_only_the_unsafe_may_not_be_repeated() -> None:
    assert [each for each in Safety if not each.repeatable] == [Safety.UNSAFE]
    assert Safety("dedup") is Safety.DEDUP


def test_a_reply_is_the_servers_first_answer_unless_it_says_otherwise() -> None:
    reply = Reply(result=1)
    assert (reply.replayed, reply.degraded, reply.server, reply.attempts) == (False, False, None, 1)


class Weighed(PolicyEvent, frozen=True, kw_only=True):
    kind: str


def test_what_a_policy_announces_says_which_call_it_was(clock: VirtualClock) -> None:
    hub, seen = Events(), list[Event]()
    hub.on(Weighed, seen.append)
    make(clock).replace(events=hub, attempt=3).announce(Weighed, "scales", kind="heavy")
    assert seen == [Weighed(policy="scales", method="orders.create", target="orders", attempt=3, kind="heavy")]


def test_what_nobody_listens_to_is_not_even_built(clock: VirtualClock) -> None:
    make(clock).announce(Weighed, "scales", no_such_field=1)
    hub = Events()
    hub.on(LateReply, print)
    make(clock).replace(events=hub).announce(Weighed, "scales", no_such_field=1)
