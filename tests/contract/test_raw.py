"""Queues of plain bytes, served and called, over every transport."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika
import pytest

from resilient_rpc import (
    AsyncClient,
    Call,
    Certainty,
    Client,
    Context,
    Handler,
    Limits,
    NotConnected,
    Quorum,
    Reply,
    Server,
    Unroutable,
)
from resilient_rpc.errors import ConfigurationError, ConnectionLost, DeadlineExceeded, TooLarge
from resilient_rpc.events import DeadLettered
from resilient_rpc.policies import Cache, CircuitBreaker, Fallback, Retry
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.transport.topology import DEAD_LETTER
from tests.colours import Colour
from tests.contract.sessions import consuming, publishing
from tests.contract.sides import AmqpSide, Side
from tests.served import running
from tests.waiting import turns, until


class Fib:
    """A service that has a queue of plain bytes, besides its own."""

    def __init__(self, side: Side) -> None:
        self.side, self.service = side, side.service
        self.queue = f"{side.service}_queue"
        self.ran: list[bytes] = []
        self.gate = threading.Event()
        self.dead: list[DeadLettered] = []

    @contextmanager
    def open(self, *, name: str = "one", **how: Any) -> Iterator[Server]:
        settings = {key: how.pop(key) for key in ("concurrency", "prefetch", "limits", "grace") if key in how}
        server = Server(self.side.url, service=self.service, name=name, **settings)
        server.on(DeadLettered, self.dead.append)
        server.raw(self.queue, **how)(self.answer)
        with running(server, gate=self.gate):
            yield server

    def answer(self, body: bytes) -> Any:
        self.ran.append(body)
        if body == b"fail":
            raise ValueError("on purpose")
        if body == b"wait":
            self.gate.wait(10)
        return {b"text": "text", b"large": b"x" * 5_000}.get(body, body[::-1])

    def clean(self) -> None:
        if isinstance(self.side, AmqpSide):
            with pika.BlockingConnection(pika.URLParameters(self.side.url)) as connection:
                connection.channel().queue_delete(self.queue)


@pytest.fixture
def fib(side: Side) -> Iterator[Fib]:
    made = Fib(side)
    yield made
    made.clean()


def test_bytes_go_there_and_back(fib: Fib, colour: Colour) -> None:
    with fib.open():
        client = colour.client(fib.side.url)
        for body in (b"30", b"", b"\x00\xff", b"x" * 100_000):
            assert colour.do(client, "call_raw", fib.queue, body, timeout=10.0) == body[::-1]
        assert client.stats().completed == 4


def test_many_at_once_each_get_their_own(fib: Fib, colour: Colour) -> None:
    with fib.open():
        client = colour.client(fib.side.url)
        bodies = [b"%d" % n for n in range(100)]
        calls: list[Callable[[], Any]] = [
            lambda body=body: colour.do(client, "call_raw", fib.queue, body, timeout=10.0) for body in bodies
        ]
        assert colour.together(*calls) == [body[::-1] for body in bodies]


def test_the_properties_of_the_question_are_the_callers_and_those_of_the_answer_as_in_the_question(side: Side) -> None:
    fib = Fib(side)

    async def scenario() -> None:
        async with publishing(side, replies=True) as (publisher, heard):
            properties = encode_properties(
                reply_to=publisher.reply_to, correlation_id="7", content_type="text/x-number"
            )
            publisher.publish(fib.queue, b"12", properties, mandatory=True)
            [answer] = await heard.received(1)
            assert answer.body == b"21"
            assert answer.properties == {"correlation_id": "7", "content_type": "text/x-number"}

    with fib.open():
        asyncio.run(scenario())
    fib.clean()


def test_what_a_question_looks_like(side: Side, colour: Colour) -> None:
    spec = QueueSpec(name=side.queue, service=side.service, arguments={DEAD_LETTER: None}, dead_letters=False)
    asked: dict[str, Any] = {}
    serving, stop = threading.Event(), threading.Event()

    async def answer() -> None:
        async with consuming(side, spec=spec) as (consumer, worker), publishing(side) as (publisher, _):
            serving.set()
            [request] = await worker.received(1)
            asked.update(request.properties, body=request.body)
            correct = encode_properties(correlation_id=request.properties["correlation_id"])
            for wrong in ("nobody", request.properties["correlation_id"] + "1"):
                forged = encode_properties(correlation_id=wrong)
                publisher.publish(request.properties["reply_to"], b"forged", forged, mandatory=False)
            for body in (b"first", b"second"):
                publisher.publish(request.properties["reply_to"], body, correct, mandatory=False)
            consumer.ack(request.tag)
            await turns(stop.is_set)

    thread = threading.Thread(target=lambda: asyncio.run(answer()))
    thread.start()
    serving.wait(10)
    client = colour.client(side.url)
    found = colour.do(client, "call_raw", side.queue, b"ask", timeout=10.0, content_type="text/plain", priority=3,
                      headers={"h": 1}, app_id="me", delivery_mode=2, type="t", message_id="m")  # fmt: skip
    assert found == b"first"
    stop.set()
    thread.join()
    assert asked["body"] == b"ask"
    assert {name: asked[name] for name in ("content_type", "priority", "app_id", "delivery_mode", "type")} == {
        "content_type": "text/plain", "priority": 3, "app_id": "me", "delivery_mode": 2, "type": "t",
    }  # fmt: skip
    assert asked["message_id"] == "m"
    assert asked["expiration"].isdigit()


def test_a_handler_that_fails_leaves_a_dead_letter_and_a_caller_without_answer(fib: Fib, colour: Colour) -> None:
    with fib.open():
        client = colour.client(fib.side.url, policies=[])
        assert colour.do(client, "call_raw", fib.queue, b"on", timeout=10.0) == b"no"  # it is connected
        for body in (b"fail", b"text"):
            with pytest.raises(DeadlineExceeded) as caught:
                colour.do(client, "call_raw", fib.queue, body, timeout=1.0)
            assert caught.value.certainty is Certainty.UNKNOWN
        until(lambda: len(fib.dead) == 2)
        assert [letter.reason for letter in fib.dead] == ["failed", "failed"]
        assert colour.do(client, "call_raw", fib.queue, b"on", timeout=10.0) == b"no"
    letters = asyncio.run(fib.side.read(fib.side.dead, 2))
    assert [(letter.body, letter.headers["rpc-dead-queue"]) for letter in letters] == [
        (b"fail", fib.queue),
        (b"text", fib.queue),
    ]


def test_too_much_is_refused_on_both_sides(fib: Fib, colour: Colour) -> None:
    with fib.open(limits=Limits(max_body=1_000)):
        client = colour.client(fib.side.url, policies=[], limits=Limits(max_body=10_000))
        with pytest.raises(TooLarge) as caught:
            colour.do(client, "call_raw", fib.queue, b"x" * 10_001, timeout=5.0)
        assert caught.value.certainty is Certainty.NOT_EXECUTED
        assert colour.do(client, "call_raw", fib.queue, b"on", timeout=10.0) == b"no"  # it is connected
        for body in (b"x" * 1_001, b"large"):
            with pytest.raises(DeadlineExceeded):
                colour.do(client, "call_raw", fib.queue, body, timeout=1.0)
        until(lambda: len(fib.dead) == 2)
        assert [letter.reason for letter in fib.dead] == ["malformed", "malformed"]
        assert fib.ran == [b"on", b"large"]
    with fib.open():
        client = colour.client(fib.side.url, policies=[], limits=Limits(max_body=1_000))
        with pytest.raises(TooLarge) as caught:
            colour.do(client, "call_raw", fib.queue, b"large", timeout=10.0)
        assert caught.value.certainty is Certainty.EXECUTED


def test_a_context_and_coroutines_and_no_reply_address(side: Side) -> None:
    server = Server(side.url, service=side.service)
    seen: list[Any] = []

    @server.raw(f"{side.service}_queue", safety="idempotent", timeout=5.0)
    async def answer(body: bytes, ctx: Context) -> bytes:
        await asyncio.sleep(0)
        seen.append((body, ctx.method, ctx.safety, 0 < ctx.remaining() <= 60))
        return body

    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            tag = publisher.publish(
                f"{side.service}_queue", b"told", encode_properties(expiration="60000"), mandatory=True
            )
            assert await sent.confirmation(tag)

    server.start()
    asyncio.run(scenario())
    until(lambda: seen)
    assert seen == [(b"told", f"{side.service}_queue", "idempotent", True)]
    until(lambda: server.health()["unacked"] == 0)
    assert server.health()["dead_lettered"] == 0
    server.stop()
    Fib(side).clean()


def test_it_shares_the_slots_of_the_server_and_ends_what_runs_when_it_drains(fib: Fib, colour: Colour) -> None:
    with fib.open(concurrency=2) as server:
        client = colour.client(fib.side.url)
        answers: list[Any] = []
        asking = [threading.Thread(target=lambda: answers.append(_ask(fib, b"wait")), daemon=True) for _ in range(3)]
        for thread in asking:
            thread.start()
        until(lambda: server.health()["running"] == 2 and server.health()["waiting"] == 1)
        assert server.health()["slots"] == 2
        fib.gate.set()
        for thread in asking:
            thread.join()
        assert answers == [b"tiaw"] * 3
        assert colour.do(client, "call_raw", fib.queue, b"on", timeout=10.0) == b"no"


def _ask(fib: Fib, body: bytes) -> bytes:

    with Client(fib.side.url) as client:
        return client.call_raw(fib.queue, body, timeout=10.0)


@pytest.mark.parametrize("safety", ["unsafe", "idempotent"])
def test_what_came_back_is_run_again_only_where_that_is_harmless(side: Side, safety: str) -> None:
    fib = Fib(side)

    async def leave() -> None:
        """A message that somebody took, and did not end."""
        spec = QueueSpec(name=fib.queue, service=side.service)
        async with publishing(side) as (publisher, sent), consuming(side, spec=spec) as (_, worker):
            properties = encode_properties(correlation_id="c", delivery_mode=2)
            assert await sent.confirmation(publisher.publish(fib.queue, b"again", properties, mandatory=True))
            await worker.received(1)

    with fib.open(safety=safety):
        pass
    asyncio.run(leave())
    with fib.open(safety=safety) as server:
        if safety == "unsafe":
            until(lambda: fib.dead)
            assert [letter.reason for letter in fib.dead] == ["interrupted"]
            assert fib.ran == []
        else:
            until(lambda: fib.ran)
            until(lambda: server.health()["unacked"] == 0)
            assert (fib.ran, fib.dead) == ([b"again"], [])
    fib.clean()


def test_nothing_is_run_for_an_address_that_nobody_may_publish_to_nor_too_late(side: Side) -> None:
    fib = Fib(side)

    async def scenario() -> None:
        async with publishing(side) as (publisher, sent):
            for properties in (
                {"reply_to": "rpc.billing", "correlation_id": "1"},
                {"reply_to": "amq.rabbitmq.reply-to.forged", "correlation_id": "2"},
            ):
                tag = publisher.publish(fib.queue, b"evil", encode_properties(**properties), mandatory=True)
            assert await sent.confirmation(tag)

    with fib.open() as server:
        asyncio.run(scenario())
        until(lambda: len(fib.dead) == 2)
        assert [letter.reason for letter in fib.dead] == ["refused", "refused"]
        until(lambda: server.health()["unacked"] == 0)
        assert fib.ran == []
    fib.clean()


def test_a_server_that_wants_to_know_its_callers_asks_here_too(side: Side, colour: Colour) -> None:
    server, who = Server(side.url, service=side.service, require_user_id=True), []

    @server.raw(f"{side.service}_queue")
    async def answer(body: bytes, ctx: Context) -> bytes:
        who.append(ctx.principal)
        return body

    server.start()
    client = colour.client(side.url, policies=[])
    user = side.transport().user
    assert user is not None
    assert colour.do(client, "call_raw", f"{side.service}_queue", b"friend", timeout=10.0, user_id=user) == b"friend"
    with pytest.raises(DeadlineExceeded):
        colour.do(client, "call_raw", f"{side.service}_queue", b"stranger", timeout=1.0)
    until(lambda: server.health()["dead_lettered"] == 1)
    assert who == [user]
    server.stop()
    Fib(side).clean()


def test_a_handler_may_be_given_back_while_it_waits_for_a_slot(side: Side) -> None:
    """A server that stops puts what it has not begun back as it was."""
    fib = Fib(side)
    with fib.open(concurrency=1, name="one") as server:
        threads = [threading.Thread(target=_ask, args=(fib, body), daemon=True) for body in (b"wait", b"later")]
        for thread in threads:
            thread.start()
            until(lambda: fib.ran)
        until(lambda: server.health()["waiting"] == 1)
        serving, stopping = server._serving, threading.Thread(target=server.stop)
        assert serving is not None
        stopping.start()
        until(lambda: serving.health()["waiting"] == 0)
        fib.gate.set()
        stopping.join()
    ran = list(fib.ran)
    with fib.open(name="two"):
        for thread in threads:
            thread.join(10)
        until(lambda: sorted(fib.ran) == [b"later", b"wait"])
    assert ran == [b"wait"]
    assert fib.dead == []
    fib.clean()


def test_a_queue_that_somebody_else_declares(side: Side, colour: Colour) -> None:
    fib = Fib(side)
    server = Server(side.url, service=side.service)
    server.raw(fib.queue, queue=None)(fib.answer)
    spec = QueueSpec(name=fib.queue, service="other", arguments={DEAD_LETTER: None}, dead_letters=False, durable=False)

    async def declare() -> None:
        async with consuming(side, spec=spec):
            pass

    if isinstance(side, AmqpSide):
        # The tutorial's own: no durable queue, no arguments. Not exclusive, so that it stays when its declarer goes.
        spec = QueueSpec(name=fib.queue, service="other", arguments={DEAD_LETTER: None}, dead_letters=False)
    asyncio.run(declare())
    server.start()
    client = colour.client(side.url)
    assert colour.do(client, "call_raw", fib.queue, b"on", timeout=10.0) == b"no"
    server.stop()
    fib.clean()


def test_a_queue_declared_otherwise_is_named_when_the_server_starts(side: Side) -> None:
    fib = Fib(side)
    with fib.open():
        pass
    server = Server(side.url, service=side.service)
    server.raw(fib.queue, queue=Quorum())(fib.answer)
    with pytest.raises(ConfigurationError, match=fib.queue):
        server.start()
    fib.clean()


def test_policies_apply_with_the_name_of_the_queue(fib: Fib, colour: Colour) -> None:
    seen: list[tuple[str, str, int]] = []

    async def watch(call: Call, proceed: Handler) -> Reply:
        seen.append((call.method, call.target, call.attempt))
        return await proceed(call)

    client = colour.client(
        fib.side.url,
        policies=[Fallback(value=b"instead"), Cache(ttl=60), Retry(attempts=2, base=0.001), CircuitBreaker(), watch],
        safety="read_only",
    )
    assert colour.do(client, "call_raw", fib.queue, b"on", timeout=10.0) == b"instead"
    assert seen == [(fib.queue, fib.queue, 1), (fib.queue, fib.queue, 2)]
    with fib.open():
        for _ in range(2):
            assert colour.do(client, "call_raw", fib.queue, b"on", timeout=10.0) == b"no"
        assert fib.ran == [b"on"]


def test_no_such_queue(side: Side, colour: Colour) -> None:
    client = colour.client(side.url, policies=[])
    with pytest.raises(Unroutable, match="no queue") as caught:
        colour.do(client, "call_raw", f"{side.service}_nobody", b"30", timeout=10.0)
    assert caught.value.certainty is Certainty.NOT_EXECUTED


def test_no_broker(colour: Colour) -> None:
    client = colour.client("amqp://127.0.0.1:1", policies=[])
    with pytest.raises(NotConnected):
        colour.do(client, "call_raw", "rpc_queue", b"30", timeout=0.2)


def test_a_client_that_is_closed_ends_what_waits(fib: Fib) -> None:

    async def scenario() -> None:
        client = AsyncClient(fib.side.url, policies=[])
        asking = asyncio.create_task(client.call_raw(fib.queue, b"wait", timeout=10.0))
        await turns(lambda: fib.ran)
        await client.close()
        with pytest.raises(ConnectionLost) as caught:
            await asking
        assert caught.value.certainty is Certainty.UNKNOWN

    with fib.open():
        asyncio.run(scenario())
        fib.gate.set()


@pytest.mark.parametrize(
    ("args", "how", "error", "says"),
    [
        (("", b""), {}, ConfigurationError, "queue=''"),
        (("q" * 256, b""), {}, ConfigurationError, "255 bytes"),
        ((7, b""), {}, ConfigurationError, "queue=7"),
        (("q", "text"), {}, ConfigurationError, "body of type str"),
        (("q", b""), {"correlation_id": "mine"}, TypeError, "'correlation_id'"),
        (("q", b""), {"content_type": "x" * 256}, TooLarge, "content_type"),
        (("q", b""), {"priority": "high"}, ConfigurationError, "priority"),
    ],
)
def test_what_cannot_be_asked(
    args: Any, how: dict[str, Any], error: type[Exception], says: str, colour: Colour
) -> None:
    client = colour.client("memory://raw-refused", policies=[])
    with pytest.raises(error, match=says):
        colour.do(client, "call_raw", *args, **how)


@pytest.mark.parametrize(
    ("register", "says"),
    [
        (lambda server: server.raw(""), "raw\\(''\\)"),
        (lambda server: server.raw("q", queue="classic"), "queue='classic'"),
        (lambda server: server.raw("rpc.shop"), "served already"),
        (lambda server: server.raw("taken"), "served already"),
        (lambda server: server.raw("q", timeout=0), "timeout=0"),
        (lambda server: server.raw("q", safety="maybe"), "safety='maybe'"),
    ],
)
def test_what_cannot_be_served(register: Callable[[Server], Any], says: str) -> None:
    server = Server("memory://raw-refused", service="shop")
    server.raw("taken")(lambda body: body)
    with pytest.raises(ConfigurationError, match=says):
        register(server)(lambda body: body)


@pytest.mark.parametrize("handler", [lambda: b"", lambda one, two: one, lambda *, body: body])
def test_a_handler_takes_the_body(handler: Any) -> None:
    server = Server("memory://raw-refused", service="shop")
    with pytest.raises(ConfigurationError, match="takes the body"):
        server.raw("q")(handler)
