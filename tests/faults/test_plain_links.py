"""Rows 1 to 9 of the fault matrix for calls without a key: the broker and the links to it fail (`README.md`).

What is refused at once, and what a missing queue costs, stands in `test_broker_faults.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc import (
    BrokerBlocked,
    Certainty,
    Client,
    ConnectionLost,
    DeadlineExceeded,
    NotConnected,
    RpcError,
)
from resilient_rpc.events import ConnectionStateChanged, DeadLettered
from tests.faults.group import MACHINE, PATIENT, Watch
from tests.faults.plain import Desk, account, answers
from tests.faults.tools import eventually, holdings
from tests.servers.handle import Broker
from tests.servers.proxy import WAYS, Proxy

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]
HEARTBEAT = 1


@pytest.fixture
def way(private_broker: Broker, proxy: Callable[[str], Proxy]) -> Proxy:
    return proxy(private_broker.url)


def heart(url: str) -> str:
    return url + ("&" if "?" in url else "?") + f"heartbeat={HEARTBEAT}"


def test_plain_row_1_a_killed_broker_loses_no_confirmed_cast_and_what_may_be_repeated_is_answered_after_it(
    private_broker: Broker, desk: Desk
) -> None:
    desk.serve(private_broker.url, concurrency=10, prefetch=10)
    with Client(private_broker.url, policies=PATIENT, safety={desk.name("look"): "read_only"}) as client:
        client.call(desk.name("look"), [0])
        held = {n: client.submit(desk.name("hold"), [n], timeout=30.0) for n in range(10)}
        desk.has_begun(10)
        for n in range(100, 150):  # they wait in the queue: the server has all that it takes
            client.cast(desk.name("echo"), [n])
            client.cast(desk.name("look"), [n])
        safe = [client.submit(desk.name("look"), [n], timeout=30.0) for n in range(50)]
        private_broker.kill()
        safe += [client.submit(desk.name("look"), [n], timeout=30.0) for n in range(50)]
        watch = Watch()
        assert account_errors(held) == {(ConnectionLost, Certainty.UNKNOWN)}
        assert watch.seconds < 1.0 + MACHINE
        desk.go.set()
        private_broker.start()
        watch = Watch()
        assert [future.result(timeout=30.0) for future in safe] == [*range(50), *range(50)]
        assert watch.seconds < 5.0 + MACHINE
        eventually(lambda: {*range(100, 150)} <= desk.looked, "every cast that may be repeated")
        # A queue that was not closed in order says of all that it holds that it may have been delivered. What is unsafe
        # then runs no more: an operator decides.
        dead = [event for event in desk.events if isinstance(event, DeadLettered)]
        ran = [n for n in range(100, 150) if desk.runs[n]]
        assert len(ran) + sum(event.reason == "interrupted" for event in dead) == 50
        assert all(desk.runs[n] == 1 for n in ran)
    account(desk, held, timeout=0.0)


def account_errors(futures: dict[int, Any]) -> set[tuple[type[BaseException], Certainty]]:
    """The errors of calls that end now."""
    errors = [future.exception(timeout=10.0) for future in futures.values()]
    return {(type(error), getattr(error, "certainty", Certainty.EXECUTED)) for error in errors}


@pytest.mark.parametrize("how", ["close_all_connections", "stop_app"])
def test_plain_row_2_an_operator_who_closes_connections_leaves_calls_unknown_and_the_next_ones_work(
    private_broker: Broker, desk: Desk, how: str
) -> None:
    desk.serve(private_broker.url)
    with Client(private_broker.url, policies=[]) as client:
        held = {n: client.submit(desk.name("hold"), [n], timeout=60.0) for n in range(10)}
        desk.has_begun(10)
        if how == "stop_app":
            private_broker.ctl("stop_app")
            private_broker.ctl("start_app")
        else:
            private_broker.ctl(how, "maintenance")
        watch = Watch()
        assert account_errors(held) == {(ConnectionLost, Certainty.UNKNOWN)}
        assert all("320" in str(future.exception()) for future in held.values())
        assert client.call(desk.name("look"), [1], timeout=10.0) == 1  # 320 is an outage and no mistake of ours
        assert watch.seconds < 5.0 + MACHINE
        desk.go.set()
        account(desk, held, timeout=0.0)


def test_plain_row_3_a_reset_link_ends_its_calls_at_once_and_is_replaced(
    private_broker: Broker, way: Proxy, desk: Desk
) -> None:
    desk.serve(private_broker.url)
    with Client(way.url, policies=[]) as client:
        held = {n: client.submit(desk.name("hold"), [n], timeout=30.0) for n in range(10)}
        desk.has_begun(10)
        before, watch = way.accepted, Watch()
        way.reset()
        assert account_errors(held) == {(ConnectionLost, Certainty.UNKNOWN)}
        assert watch.seconds < 1.0 + MACHINE
        assert client.call(desk.name("look"), [1], timeout=10.0) == 1
        assert watch.seconds < 2.0 + MACHINE
        assert way.accepted == before + 1
        desk.go.set()
        assert account(desk, held, timeout=0.0) == {"ConnectionLost unknown": 10}


@pytest.mark.parametrize("after", [8, 200, 600])
def test_plain_row_4_a_handshake_that_is_cut_costs_its_call_nothing(
    private_broker: Broker, way: Proxy, desk: Desk, after: int
) -> None:
    desk.serve(private_broker.url)
    way.cut(after)
    with Client(way.url, policies=[]) as client:
        assert client.call(desk.name("echo"), [1], timeout=10.0) == 1
    assert way.accepted == 2
    assert desk.runs == {1: 1}


def test_plain_row_4_wrong_credentials_end_a_call_at_once_and_are_not_tried_again_and_again(
    way: Proxy, service: str
) -> None:
    watch = Watch()
    with Client(way.url.replace("guest:guest", "guest:wrong"), policies=PATIENT) as client:
        with pytest.raises(RpcError) as caught:
            client.call(f"{service}.look", [1], timeout=30.0, safety="read_only")
        assert (caught.value.certainty, caught.value.retryable) == (Certainty.NOT_EXECUTED, False)
    assert watch.seconds < 5.0
    assert way.accepted <= 2


@pytest.mark.parametrize("side", ["client", "server"])
def test_plain_row_5_a_link_that_is_cut_after_ever_more_bytes_ends_every_call_and_mixes_up_none(
    private_broker: Broker, way: Proxy, desk: Desk, side: str
) -> None:
    urls = (way.url, private_broker.url) if side == "client" else (private_broker.url, way.url)
    desk.serve(urls[1])
    futures = {}
    with Client(urls[0], policies=[], timeout=20.0) as client:
        client.call(desk.name("look"), [0])
        for step in range(1, 6):
            before = way.accepted
            for direction in WAYS:
                way.cut(step * 1024, direction)
            while way.accepted == before:
                first = len(futures)
                batch = {
                    n: client.submit(desk.name("echo"), {"n": n, "padding": "x" * 100})
                    for n in range(first, first + 20)
                }
                futures |= batch
                for future in batch.values():
                    future.exception(timeout=21.0 + MACHINE)
        found = account(desk, futures, timeout=0.0)
        assert client.stats().pending == 0
    assert found.keys() <= {"answered", "ConnectionLost unknown", "Interrupted unknown"}


@pytest.mark.parametrize("direction", ["up", "down"], ids=["row 6, up", "row 7, down"])
def test_plain_rows_6_and_7_a_half_open_link_ends_its_call_by_the_deadline_and_is_given_up(
    private_broker: Broker, way: Proxy, desk: Desk, direction: Any
) -> None:
    desk.serve(private_broker.url)
    with Client(heart(way.url), policies=[]) as client, Client(private_broker.url, policies=[]) as other:
        assert client.call(desk.name("echo"), [1]) == 1
        lost: list[ConnectionStateChanged] = []
        client.on(ConnectionStateChanged, lost.append)
        way.freeze(direction)
        watch = Watch()
        call = client.submit(desk.name("echo"), [2], timeout=0.5)
        error = call.exception(timeout=5.0)
        assert 0.4 < watch.seconds < 0.5 + MACHINE
        assert isinstance(error, DeadlineExceeded)
        assert error.certainty is Certainty.UNKNOWN
        assert other.call(desk.name("echo"), [3], timeout=5.0) == 3
        # The client watches the broker, and the broker the client: whoever hears nothing gives up. What the broker
        # says then reaches the client once bytes flow its way.
        eventually(
            lambda: [each for each in lost if each.state == "lost"], "the end of the link", 2.0 * (HEARTBEAT + 5)
        )
        way.thaw()
        eventually(lambda: answers(client, desk), "an answer on a new link")
        account(desk, {2: call}, timeout=0.0)


def test_plain_row_8_a_frozen_broker_holds_no_call_past_its_deadline_and_no_thread_after_it(
    private_broker: Broker, desk: Desk
) -> None:
    desk.serve(private_broker.url)
    with Client(private_broker.url, policies=[]) as client:
        assert client.call(desk.name("echo"), [1]) == 1
        before = holdings()["threads"]
        private_broker.freeze()
        try:
            watch = Watch()
            sent = {n: client.submit(desk.name("echo"), [n], timeout=0.5) for n in range(2, 12)}
            with Client(private_broker.url, policies=[]) as fresh, pytest.raises(NotConnected) as unsent:
                fresh.call(desk.name("echo"), [20], timeout=0.5)
            assert account_errors(sent) == {(DeadlineExceeded, Certainty.UNKNOWN)}
            assert watch.seconds < 1.0 + MACHINE
        finally:
            private_broker.thaw()
        assert unsent.value.certainty is Certainty.NOT_EXECUTED
        eventually(lambda: answers(client, desk), "an answer after the thaw", 20.0)
        account(desk, sent, timeout=0.0)
        assert desk.runs[20] == 0
        eventually(lambda: holdings()["threads"] <= before, "the threads that there were")


def test_plain_row_9_an_alarm_refuses_calls_at_once_and_the_one_under_way_is_answered_when_it_is_over(
    private_broker: Broker, desk: Desk
) -> None:
    server = desk.serve(private_broker.url)
    with Client(private_broker.url, policies=[]) as client:
        assert client.call(desk.name("echo"), [1]) == 1
        under_way = {2: client.submit(desk.name("hold"), [2], timeout=60.0)}
        desk.has_begun()
        private_broker.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            eventually(lambda: isinstance(_refusal(client, desk), BrokerBlocked), "BrokerBlocked", 20.0)
            watch = Watch()
            error = _refusal(client, desk)
            assert watch.seconds < 0.5
            assert isinstance(error, BrokerBlocked)
            assert error.certainty is Certainty.NOT_EXECUTED
            runs = desk.runs[3]
            desk.go.set()
            eventually(lambda: not server.health()["running"], "the end of the handler")
            assert not under_way[2].done()
        finally:
            private_broker.ctl("set_vm_memory_high_watermark", "0.4")
        watch = Watch()
        assert account(desk, under_way, timeout=5.0) == {"answered": 1}
        assert watch.seconds < 1.0 + MACHINE
        assert desk.runs[3] == runs, "what was refused did not wait anywhere"
        assert answers(client, desk)


def _refusal(client: Client, desk: Desk) -> RpcError | None:
    try:
        client.call(desk.name("echo"), [3], timeout=1.0)
    except RpcError as error:
        return error
    return None
