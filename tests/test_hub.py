from __future__ import annotations

import threading
from typing import Any

import pytest

from resilient_rpc import events
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.events import CallEnded, ConnectionStateChanged, Event, LateReply, MalformedDropped
from resilient_rpc.hub import Events


def test_a_hook_sees_the_events_of_its_type_and_of_subtypes() -> None:
    class LateBatch(LateReply, frozen=True, kw_only=True):
        pass

    hub = Events()
    late: list[Event] = []
    everything: list[Event] = []
    hub.on(LateReply, late.append)
    hub.on(Event, everything.append)
    told = [LateReply(count=2), LateBatch(), MalformedDropped(reason="no JSON")]
    for event in told:
        hub.emit(event)
    assert late == told[:2]
    assert everything == told


def test_hooks_are_called_in_the_order_of_subscription() -> None:
    hub = Events()
    seen: list[int] = []
    hub.on(Event, lambda _: seen.append(1))
    hub.on(LateReply, lambda _: seen.append(2))
    hub.on(Event, lambda _: seen.append(3))
    hub.emit(LateReply())
    assert seen == [1, 2, 3]


def test_whether_anybody_wants_it() -> None:
    hub = Events()
    assert not hub.wants(LateReply)
    end = hub.on(LateReply, lambda _: None)
    assert hub.wants(LateReply)
    assert not hub.wants(CallEnded)
    end()
    end()
    assert not hub.wants(LateReply)
    hub.on(Event, lambda _: None)
    assert hub.wants(CallEnded)


def test_a_hook_subscribed_twice_is_called_twice_and_each_ends_alone() -> None:
    hub = Events()
    seen: list[Event] = []
    ends = [hub.on(LateReply, seen.append) for _ in range(2)]
    hub.emit(LateReply())
    assert len(seen) == 2
    ends[0]()
    hub.emit(LateReply())
    assert len(seen) == 3


def test_a_failing_hook_breaks_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    hub = Events()
    seen: list[Event] = []

    def boom(_: Event) -> None:
        raise OSError("disk full")

    hub.on(LateReply, boom)
    hub.on(LateReply, seen.append)
    for _ in range(3):
        hub.emit(LateReply())
    assert len(seen) == 3
    (record,) = caplog.records
    assert record.name == "resilient_rpc.events"
    assert "boom" in record.getMessage()
    assert record.exc_info is not None
    hub.on(LateReply, boom)
    hub.emit(LateReply())
    assert len(caplog.records) == 2


def test_a_hook_may_subscribe_unsubscribe_and_emit() -> None:
    hub = Events()
    seen: list[str] = []

    def first(_: LateReply) -> None:
        seen.append("first")
        end()
        hub.on(LateReply, lambda _: seen.append("second"))
        hub.emit(MalformedDropped(reason="x"))

    end = hub.on(LateReply, first)
    hub.on(MalformedDropped, lambda event: seen.append(event.reason))
    hub.emit(LateReply())
    hub.emit(LateReply())
    assert seen == ["first", "x", "second"]


def test_a_hook_runs_under_no_lock() -> None:
    hub = Events()

    def elsewhere(_: Event) -> None:
        thread = threading.Thread(target=hub.on, args=(LateReply, lambda _: None))
        thread.start()
        thread.join(20)
        assert not thread.is_alive()

    hub.on(LateReply, elsewhere)
    hub.emit(LateReply())


def test_subscriptions_of_many_threads_are_all_kept() -> None:
    hub = Events()
    seen: list[Event] = []

    def subscribe() -> None:
        for _ in range(50):
            hub.on(LateReply, seen.append)
            hub.wants(LateReply)
            hub.on(LateReply, seen.append)()

    threads = [threading.Thread(target=subscribe) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hub.emit(LateReply())
    assert len(seen) == 400


async def coroutine_function(_: Event) -> None:
    pass


@pytest.mark.parametrize(
    ("event_type", "hook", "message"),
    [
        (LateReply, coroutine_function, "nobody would await"),
        (LateReply, 7, "not 7"),
        (int, print, "not a type of event: <class 'int'>"),
        (LateReply(), print, "not a type of event"),
    ],
)
def test_what_cannot_work_is_refused(event_type: Any, hook: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Events().on(event_type, hook)


@pytest.mark.parametrize(
    "kind", [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Event)]
)
def test_an_event_cannot_be_changed_and_says_what_it_is_for(kind: type[Event]) -> None:
    assert kind.__doc__
    assert kind.__struct_config__.frozen


def test_what_a_connection_says() -> None:
    event = ConnectionStateChanged(state="lost", reason="reset")
    assert (event.state, event.reason) == ("lost", "reset")
    with pytest.raises(AttributeError):
        event.reason = "other"  # type: ignore[misc]
