"""Rows 16 to 18, 20, 22 to 26, 28 and 29 of the fault matrix for calls without a key: odd and hostile messages."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc import Certainty, Client, DeadlineExceeded, RpcError, Server
from resilient_rpc.errors import Expired, TooLarge
from resilient_rpc.events import ConnectionStateChanged, ReplyRefused
from resilient_rpc.wire.limits import Limits
from tests.faults.group import MACHINE, Watch
from tests.faults.hostile import BODIES, BOMBED, FORGERIES, NOBODY, REFUSED, Hostile, sending
from tests.faults.plain import Desk, account, answers
from tests.faults.raw import Raw, call
from tests.faults.tools import eventually
from tests.servers.handle import Broker
from tests.servers.proxy import Proxy

pytestmark = [pytest.mark.broker, pytest.mark.fault, pytest.mark.timeout(120)]


def losses(desk: Desk) -> list[str]:
    """Why its servers lost the connections on which they consume."""
    return [each.reason for each in desk.events if isinstance(each, ConnectionStateChanged) and each.state == "lost"]


def test_plain_rows_24_and_28_whatever_the_body_is_its_sender_is_told_and_nothing_is_executed(
    amqp_url: str, desk: Desk
) -> None:
    server = desk.serve(amqp_url)
    codes: dict[str, Any] = {}

    async def scenario() -> None:
        async with sending(amqp_url, desk.service) as sender:
            for name, hostile in BODIES.items():
                reply = await sender.ask(hostile)
                codes[name] = reply.get("error", {}).get("code")

    asyncio.run(scenario())
    assert codes == {name: hostile.code for name, hostile in BODIES.items()}
    assert not desk.runs
    assert not losses(desk)
    assert server.health()["unacked"] == 0
    with Client(amqp_url, policies=[]) as client:
        assert answers(client, desk, within=10.0)


def _bombard(url: str, desk: Desk, messages: dict[str, Hostile], client: Client) -> None:
    """Send them, and wait until the servers of the desk are done with them."""

    async def scenario() -> None:
        async with sending(url, desk.service) as sender:
            for hostile in messages.values():
                await sender.send(hostile)

    asyncio.run(scenario())
    # A call goes after them: the broker has confirmed them, and need not have delivered them yet. RabbitMQ 4 encodes
    # headers anew for its consumer, and is at 20,000 nested arrays for a second or two.
    assert client.call(desk.name("look"), [4], timeout=20.0) == 4
    desk.settled()


def test_plain_row_25_header_bombs_neither_end_a_connection_nor_come_again(amqp_url: str, desk: Desk) -> None:
    desk.serve(amqp_url)
    with Client(amqp_url, policies=[]) as client:
        assert answers(client, desk, within=10.0)
        for _ in range(3):
            _bombard(amqp_url, desk, BOMBED, client)
        with Raw(amqp_url, desk.service) as raw:
            assert raw.channel.queue_declare(raw.queue, passive=True).method.message_count == 0
    assert not losses(desk)
    assert desk.runs.total() <= 3 * len(BOMBED)


def test_plain_row_26_a_forged_reply_address_is_refused_unexecuted_and_costs_no_connection(
    amqp_url: str, desk: Desk
) -> None:
    server = desk.serve(amqp_url)
    with Client(amqp_url, policies=[]) as client:
        assert answers(client, desk, within=10.0)
        published = server._current().outbox.session
        _bombard(amqp_url, desk, FORGERIES, client)
        assert server.health()["dead_lettered"] == len(FORGERIES)
        assert sum(isinstance(each, ReplyRefused) for each in desk.events) == len(FORGERIES)
        assert desk.runs[REFUSED] == 0
        assert server._current().outbox.session is published
        assert answers(client, desk)
    assert not losses(desk)


def test_plain_row_26_an_address_of_nobody_costs_no_other_caller_its_answer(amqp_url: str, desk: Desk) -> None:
    server = desk.serve(amqp_url)
    with Client(amqp_url, policies=[], timeout=20.0) as client:
        assert answers(client, desk, within=10.0)
        held = {n: client.submit(desk.name("hold"), [n]) for n in range(10)}
        desk.has_begun(10)
        for _ in range(5):
            _bombard_unsettled(amqp_url, desk)
            assert answers(client, desk)
        desk.go.set()
        assert account(desk, held, timeout=20.0) == {"answered": 10}
        eventually(lambda: not server.health()["unconfirmed_replies"], "nothing is left that was for nobody")
        session = server._current().outbox.session
        _bombard(amqp_url, desk, NOBODY, client)
        assert server._current().outbox.session is session, "it has learned"
    assert not losses(desk)


def _bombard_unsettled(url: str, desk: Desk) -> None:
    async def scenario() -> None:
        async with sending(url, desk.service) as sender:
            for hostile in NOBODY.values():
                await sender.send(hostile)

    asyncio.run(scenario())


@pytest.mark.parametrize("address", ["direct", "queue"])
def test_plain_row_17_the_answer_for_a_caller_that_died_is_acked_at_once(
    amqp_url: str, desk: Desk, proxy: Callable[[str], Proxy], address: str
) -> None:
    server, way = desk.serve(amqp_url), proxy(amqp_url)
    with Raw(way.url, desk.service) as caller, Client(amqp_url, policies=[]) as client:
        reply_to = None
        if address == "direct":
            reply_to = "amq.rabbitmq.reply-to"
            caller.channel.basic_consume(reply_to, lambda *_: None, auto_ack=True)
        caller.send(call("hold", [1]), reply_to=reply_to)
        desk.has_begun()
        way.reset()
        desk.go.set()
        watch = Watch()
        eventually(lambda: not server.health()["unacked"], "the ack", 5.0)
        assert watch.seconds < 1.0 + MACHINE
        assert answers(client, desk, within=10.0)
    assert desk.runs == {1: 1}


def test_plain_row_18_a_call_that_expired_in_the_queue_is_not_executed(amqp_url: str, desk: Desk) -> None:
    desk.serve(amqp_url, concurrency=1, prefetch=1)
    with Client(amqp_url, policies=[], batching=None) as client:
        for _ in range(2):  # by how much the clocks differ is known from earlier calls
            client.call(desk.name("look"), [0])
        held = {1: client.submit(desk.name("hold"), [1], timeout=20.0)}
        desk.has_begun()
        watch = Watch()
        late = {n: client.submit(desk.name("echo"), [n], timeout=0.3) for n in range(2, 12)}
        errors = [future.exception(timeout=5.0) for future in late.values()]
        assert watch.seconds < 0.3 + MACHINE
        assert all(isinstance(error, DeadlineExceeded | Expired) for error in errors)
        desk.go.set()
        assert account(desk, held, timeout=10.0) == {"answered": 1}
        client.call(desk.name("look"), [0])
        account(desk, late, timeout=0.0)
        assert not any(desk.runs[n] for n in late)
        assert client.stats().pending == 0


def test_plain_row_20_a_queue_that_is_deleted_under_its_server_is_declared_again_and_not_silently(
    private_broker: Broker, desk: Desk
) -> None:
    desk.serve(private_broker.url)
    with Client(private_broker.url, policies=[]) as client:
        assert client.call(desk.name("echo"), [1]) == 1
        private_broker.ctl("delete_queue", f"rpc.{desk.service}")
        watch = Watch()
        eventually(lambda: answers(client, desk), "an answer after the deletion")
        assert watch.seconds < 2.0 + MACHINE
    assert any(f"rpc.{desk.service}" in reason for reason in losses(desk))


def test_plain_row_22_a_consumer_that_the_broker_gives_up_as_too_slow_goes_on_and_runs_nothing_twice(
    private_broker: Broker, desk: Desk
) -> None:
    settings = (
        "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, {})."
    )
    private_broker.ctl("eval", settings.format(1_500, 500))
    try:
        server = desk.serve(private_broker.url)
        with Client(private_broker.url, policies=[]) as client:
            held = {n: client.submit(desk.name("hold"), [n], timeout=30.0) for n in range(5)}
            desk.has_begun(5)
            eventually(lambda: losses(desk), "the end of the channel", 20.0)
            watch = Watch()
            eventually(lambda: server.health()["consuming"], "a new channel")
            assert watch.seconds < 1.0 + MACHINE
            assert answers(client, desk)
            desk.go.set()
            assert account(desk, held, timeout=10.0) == {"answered": 5}
    finally:
        private_broker.ctl("eval", settings.format(1_800_000, 60_000))
    assert "406" in losses(desk)[0]


def test_plain_row_23_a_confirm_that_never_comes_leaves_the_call_unknown_at_its_deadline(
    amqp_url: str, desk: Desk, proxy: Callable[[str], Proxy]
) -> None:
    desk.serve(amqp_url)
    way = proxy(amqp_url)
    with Client(way.url, policies=[]) as client:
        assert answers(client, desk, within=10.0)
        way.freeze("down")
        watch = Watch()
        calls = {n: client.submit(desk.name("echo"), [n], timeout=0.5) for n in range(1, 6)}
        cast = {"n": 6}
        with pytest.raises(DeadlineExceeded) as caught:
            client.cast(desk.name("echo"), cast, timeout=0.5)
        found = account(desk, calls, timeout=0.5)
        assert watch.seconds < 0.5 + 2 * MACHINE
        assert (caught.value.stage, caught.value.certainty) == ("publish", Certainty.UNKNOWN)
        assert found == {"DeadlineExceeded unknown": 5}
        assert {getattr(future.exception(), "stage", "") for future in calls.values()} == {"publish"}
        way.thaw()
        eventually(lambda: answers(client, desk), "an answer")


def test_plain_row_28_what_is_too_large_is_refused_where_it_begins_and_no_connection_ends(
    amqp_url: str, service: str, proxy: Callable[[str], Proxy]
) -> None:
    way = proxy(amqp_url)
    limits = Limits(max_body=100_000)
    server = Server(amqp_url, service=service, limits=limits)

    @server.method
    async def repeat(text: str, times: int = 1) -> str:
        return text * times

    server.start()
    try:
        with Client(way.url, policies=[], limits=limits) as client, Client(amqp_url, policies=[]) as careless:
            assert client.call(f"{service}.repeat", ["x" * 90_000]) == "x" * 90_000
            sent = way.bytes_up
            with pytest.raises(TooLarge) as unsent:
                client.call(f"{service}.repeat", ["x" * 100_000])
            assert (unsent.value.certainty, way.bytes_up) == (Certainty.NOT_EXECUTED, sent)
            with pytest.raises(TooLarge) as refused:
                careless.call(f"{service}.repeat", ["x" * 100_000])
            assert refused.value.certainty is Certainty.NOT_EXECUTED
            with pytest.raises(TooLarge) as executed:
                client.call(f"{service}.repeat", ["x" * 1_000, 101])
            assert executed.value.certainty is Certainty.EXECUTED
            many = client.map(f"{service}.repeat", [["x" * 9_000]] * 50, return_errors=True)
            assert many == ["x" * 9_000] * 50, "a batch is cut before it is too large"
            assert way.accepted == 1
    finally:
        server.stop()


@pytest.mark.serial
def test_plain_row_29_ten_thousand_calls_for_a_slow_server_end_by_their_deadline_and_nothing_piles_up(
    amqp_url: str, service: str
) -> None:
    slow = Server(amqp_url + "?heartbeat=1", service=service, concurrency=4, prefetch=16, admission=None)
    ran, lost = [], []

    @slow.method
    def work(n: int) -> int:
        ran.append(n)
        time.sleep(0.02)  # what makes it slow
        return n

    slow.on(ConnectionStateChanged, lambda event: lost.append(event.reason) if event.state == "lost" else None)
    slow.start()
    try:
        with Client(amqp_url + "?heartbeat=1", policies=[], batching=None, timeout=3.0) as client:
            assert client.call(f"{service}.work", [-1]) == -1
            watch = Watch()
            futures = [client.submit(f"{service}.work", [n]) for n in range(10_000)]
            most = 0
            while not all(future.done() for future in futures[-1:]):
                most = max(most, slow.health()["unacked"])
                time.sleep(0.05)
            errors = [future.exception(timeout=5.0) for future in futures]
            assert watch.seconds < 3.0 + 2.0 + 2 * MACHINE
            assert {type(error) for error in errors} <= {type(None), DeadlineExceeded, Expired}
            assert 0 < sum(error is None for error in errors) < 10_000
            assert most <= 16, "no more than it asked for"
            asked = itertools.count(-2, -1)
            eventually(lambda: _served(client, service, next(asked)), "the next call", 30.0)  # a machine may be busy
            assert client.stats().pending == 0
        assert len(ran) == len(set(ran)) < 2_000, "those whose time was up are not begun"
        assert not lost
    finally:
        slow.stop()


def _served(client: Client, service: str, number: int) -> bool:
    try:
        return bool(client.call(f"{service}.work", [number], timeout=1.0) == number)
    except RpcError:
        return False
