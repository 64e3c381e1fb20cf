"""Calls from end to end, over every transport: what holds in memory holds on RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from resilient_rpc import (
    ApplicationError,
    AsyncClient,
    Batching,
    Certainty,
    Client,
    Context,
    DeadlineExceeded,
    InvalidParams,
    Limits,
    MethodNotFound,
    RemoteError,
    Server,
    Unroutable,
)
from resilient_rpc.errors import MalformedMessage, TooLarge, UnsupportedContent
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import decode_headers, encode_headers, encode_properties
from tests.colours import Colour
from tests.contract.recorder import Recorder
from tests.contract.sides import Side
from tests.waiting import PATIENCE, turns, until


class OutOfStock(ApplicationError):
    type = "out_of_stock"


class World:
    """A server of a service of its own, where clients find it, and a way to send it what no client of ours would."""

    def __init__(self, side: Side) -> None:
        self.side, self.url, self.service = side, side.url, side.service
        self.ran: list[Any] = []
        self.gate = threading.Event()
        self.servers: list[Server] = []

    def serve(self, name: str = "one", **settings: Any) -> Server:
        settings.setdefault("limits", Limits(max_body=200_000))
        server = Server(self.url, service=self.service, name=name, **settings)
        for function in (self.note, self.block, self.wait, echo, add, fail, sold_out, unencodable, large, who(name)):
            server.method(function)
        self.servers.append(server)
        server.start()
        return server

    async def note(self, value: Any = None) -> Any:
        self.ran.append(value)
        return value

    def block(self, value: Any = None) -> Any:
        self.ran.append(value)
        self.gate.wait(PATIENCE)
        return value

    async def wait(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    def name(self, method: str) -> str:
        return f"{self.service}.{method}"

    def close(self) -> None:
        self.gate.set()
        for server in self.servers:
            server.stop()


async def echo(value: Any = None) -> Any:
    return value


def add(a: int, b: int) -> int:
    return a + b


async def fail(text: str = "failed") -> None:
    raise ValueError(text)


def sold_out() -> None:
    raise OutOfStock("none left", details={"sku": "A1"}, retry_after=1.5)


async def unencodable() -> object:
    return object()


async def large(size: int) -> str:
    return "x" * size


def who(server: str) -> Callable[..., Any]:
    async def who(ctx: Context) -> str:
        return server

    return who


@pytest.fixture
def world(each_broker: Side) -> Iterator[World]:
    made = World(each_broker)
    yield made
    made.close()


class Raw:
    """A client that sends bytes."""

    def __init__(self, world: World, publisher: Any, events: Recorder) -> None:
        self.world, self.publisher, self.events = world, publisher, events

    def send(self, body: Any, headers: dict[str, Any] | None = None, **properties: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        properties.setdefault("correlation_id", "c-1")
        properties.setdefault("reply_to", self.publisher.reply_to)
        encoded = encode_properties(headers=encode_headers(headers) if headers is not None else None, **properties)
        self.publisher.publish(self.world.side.queue, data, encoded, mandatory=True)

    async def replies(self, count: int) -> list[Delivery]:
        return await self.events.received(count)

    async def ask(self, body: Any, headers: dict[str, Any] | None = None, **properties: Any) -> Any:
        before = len(self.events.deliveries)
        self.send(body, headers, **properties)
        return json.loads((await self.replies(before + 1))[-1].body)


def raw(world: World, scenario: Callable[[Raw], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        events = Recorder()
        publisher = await world.side.transport().publisher(events, replies=True, timeout=PATIENCE)
        try:
            async with asyncio.timeout(30):
                await scenario(Raw(world, publisher, events))
        finally:
            await publisher.close()

    asyncio.run(main())


def request(method: str, params: Any = None, id_: Any = 1, **meta: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params or [], "id": id_, **({"meta": meta} if meta else {})}


class TestCalls:
    @pytest.mark.parametrize("codec", ["json", "msgpack"])
    def test_a_result_comes_back(self, world: World, colour: Colour, codec: str) -> None:
        world.serve()
        client = colour.client(world.url, codec=codec)
        for value in (None, 0, -1, 1.5, True, "", "é\u2028\x00", [], {}, {"a": [1, {"b": None}]}, "x" * 100_000):
            assert colour.call(client, world.name("echo"), [value]) == value
        assert colour.call(client, world.name("add"), {"a": 1, "b": 2}) == 3

    def test_messagepack_carries_bytes(self, world: World, colour: Colour) -> None:
        world.serve()
        client = colour.client(world.url, codec="msgpack")
        data = bytes(range(256)) * 200
        assert colour.call(client, world.name("echo"), [data]) == data

    def test_an_error_of_the_server_reaches_its_caller(self, world: World, colour: Colour) -> None:
        world.serve()
        client = colour.client(world.url, errors=[OutOfStock])
        with pytest.raises(ApplicationError, match="failed") as failed:
            colour.call(client, world.name("fail"))
        assert (failed.value.type, failed.value.certainty) == ("ValueError", Certainty.EXECUTED)
        with pytest.raises(OutOfStock) as sold:
            colour.call(client, world.name("sold_out"))
        assert (sold.value.details, sold.value.retry_after) == ({"sku": "A1"}, 1.5)

    def test_a_service_that_nobody_serves_is_unroutable_at_once(self, world: World, colour: Colour) -> None:
        client = colour.client(world.url)
        begin = time.monotonic()
        for _ in range(2):
            with pytest.raises(Unroutable) as caught:
                colour.call(client, world.name("echo"), timeout=PATIENCE)
            assert caught.value.certainty is Certainty.NOT_EXECUTED
        assert time.monotonic() - begin < 5

    def test_a_call_ends_by_its_deadline_and_its_late_reply_is_dropped(self, world: World, colour: Colour) -> None:
        world.serve()
        client = colour.client(world.url)
        colour.call(client, world.name("echo"))
        with pytest.raises(DeadlineExceeded) as caught:
            colour.call(client, world.name("wait"), [60], timeout=0.2)
        assert caught.value.certainty is Certainty.UNKNOWN
        assert colour.call(client, world.name("echo"), [1]) == 1

    def test_replies_come_in_the_order_in_which_calls_end(self, world: World) -> None:
        world.serve()

        async def main() -> None:
            async with AsyncClient(world.url) as client:
                await client.call(world.name("echo"))
                ended: list[float] = []

                async def one(seconds: float) -> None:
                    ended.append(await client.call(world.name("wait"), [seconds]))

                await asyncio.gather(*[one(seconds) for seconds in (0.3, 0.1, 0.2, 0.0)])
                assert ended == [0.0, 0.1, 0.2, 0.3]

        asyncio.run(main())

    def test_large_calls_travel(self, world: World, colour: Colour) -> None:
        world.serve(limits=Limits())
        client = colour.client(world.url)
        for size in (131_000, 131_100, 1_000_000, 3_900_000):
            assert len(colour.call(client, world.name("echo"), ["x" * size])) == size

    def test_map_and_submit(self, world: World) -> None:
        world.serve()
        with Client(world.url) as client:
            assert client.map(world.name("add"), [[n, 1] for n in range(2000)]) == list(range(1, 2001))
            futures = [client.submit(world.name("echo"), [n]) for n in range(100)]
            assert [future.result(PATIENCE) for future in futures] == list(range(100))


class TestBadInput:
    """An error reply where one can be sent, and the server keeps serving everybody else."""

    def test_calls_that_are_wrong_fail_alone(self, world: World, colour: Colour) -> None:
        world.serve()
        client = colour.client(world.url)
        wrong: list[tuple[str, Any, type[Exception], str]] = [
            ("nope", [], MethodNotFound, "nope"),
            ("add", [1], InvalidParams, "length"),
            ("add", {"a": 1, "b": "x"}, InvalidParams, r"\$\.b"),
            ("add", {"a": 1, "c": 1}, InvalidParams, "`c`"),
            ("echo", ["x" * 200_000], TooLarge, "over the limit"),
            ("large", [300_000], TooLarge, "over the limit"),
            ("unencodable", [], RemoteError, "cannot be encoded"),
            ("fail", ["\u0000"], ApplicationError, "\u0000"),
        ]
        for method, params, kind, text in wrong * 2:
            with pytest.raises(kind, match=text):
                colour.call(client, world.name(method), params)
            assert colour.call(client, world.name("echo"), [1]) == 1

    def test_messages_that_are_wrong_are_answered_where_they_can_be(self, world: World) -> None:
        server = world.serve()

        async def scenario(b: Raw) -> None:
            wrong: list[tuple[Any, dict[str, Any], int]] = [
                (b"garbage", {}, -32700),
                (b"\xff\x00", {}, -32700),
                (b"", {}, -32700),
                (b"[" * 50_000, {}, -32700),
                (b"[]", {}, -32600),
                (b"5", {}, -32600),
                ({"jsonrpc": "2.0", "id": 1}, {}, -32600),
                (request("echo"), {"content_type": "text/plain"}, -32007),
                (request("echo"), {"content_type": "application/x-python-serialize"}, -32007),
                (request("echo"), {"content_encoding": "gzip"}, -32007),
                (request("_private"), {}, -32601),
                (request("__class__"), {}, -32601),
                (request("echo.__call__"), {}, -32601),
                (request("x" * 10_000), {}, -32601),
                (request("add", ["a", "b"]), {}, -32602),
                (request("echo", ["x" * 200_000]), {}, -32006),
                (request("echo", json.loads("[" * 100 + "]" * 100)), {}, -32006),
                (request("note", [1], ttl=0), {}, -32002),
                (request("note", [1], key="k"), {}, -32008),
            ]
            for headers in (None, {"rpc-version": "1"}):
                for number, (body, properties, code) in enumerate(wrong):
                    correlation = f"c.{number}{headers is None}"
                    reply = await b.ask(body, headers, correlation_id=correlation, **properties)
                    assert reply["error"]["code"] == code, (body, reply)
                    assert reply["error"]["data"]["executed"] is False
                    assert b.events.deliveries[-1].properties["correlation_id"] == correlation
                    assert (await b.ask(request("echo", [1])))["result"] == 1
            count = len(b.events.deliveries)
            for body in (b"garbage", request("nope"), [1]):
                b.send(body, reply_to=None)
            b.send({"jsonrpc": "2.0", "method": "nope"})
            b.send(request("note", ["never"]), reply_to=f"rpc.{world.service}")
            b.send(request("note", ["never"]), reply_to="amq.rabbitmq.reply-to.junk.junk!")
            assert (await b.ask(request("echo", ["last"])))["result"] == "last"
            assert len(b.events.deliveries) == count + 1
            assert b.events.errors == []

        raw(world, scenario)
        assert world.ran == []
        until(lambda: server.health()["unacked"] == 0)

    def test_a_batch_has_an_answer_for_each_of_its_calls(self, world: World) -> None:
        world.serve()

        async def scenario(b: Raw) -> None:
            batch = [
                request("echo", [1], "a"),
                5,
                request("nope", [], 2.5),
                {"jsonrpc": "2.0", "method": "note"},
                request("add", [1, 2], None),
            ]
            found = await b.ask(batch)
            assert isinstance(found, list)
            outcomes = sorted((repr(item["id"]), item.get("result") or item["error"]["code"]) for item in found)
            assert outcomes == [("'a'", 1), ("2.5", -32601), ("None", -32600), ("None", 3)]
            many = await b.ask([request("echo", [n], n) for n in range(1000)])
            assert sorted(item["id"] for item in many) == list(range(1000))
            assert (await b.ask([request("echo", [n], n) for n in range(1001)]))["error"]["code"] == -32006

        raw(world, scenario)


class TestPlainSpeakers:
    def test_a_tutorial_client_has_one_reply_with_its_correlation_id(self, world: World) -> None:
        world.serve()

        async def scenario(b: Raw) -> None:
            b.send(request("add", [1, 2], 7), correlation_id="mine")
            [delivery] = await b.replies(1)
            assert json.loads(delivery.body) == {"jsonrpc": "2.0", "result": 3, "id": 7}
            assert delivery.properties["correlation_id"] == "mine"
            assert delivery.properties["content_type"] == "application/json"

        raw(world, scenario)

    def test_our_client_can_call_a_server_that_knows_nothing_of_us(self, world: World, colour: Colour) -> None:
        """It answers JSON-RPC by reply_to and correlation_id, refuses unknown members, and takes no batches."""
        stop = threading.Event()
        seen: list[dict[str, Any]] = []
        ready = threading.Event()

        async def serve() -> None:
            transport = world.side.transport()
            events = Recorder()
            publisher = await transport.publisher(events, replies=False, timeout=PATIENCE)

            class Plain:
                def delivered(self, delivery: Delivery) -> None:
                    message = json.loads(delivery.body)
                    seen.append(message)
                    assert set(message) <= {"jsonrpc", "method", "params", "id"}
                    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
                    if message["method"] == "add":
                        reply["result"] = sum(message["params"])
                    else:
                        reply["error"] = {"code": -32601, "message": "no such method", "data": ["anything"]}
                    properties = encode_properties(correlation_id=delivery.properties["correlation_id"])
                    publisher.publish(
                        delivery.properties["reply_to"], json.dumps(reply).encode(), properties, mandatory=False
                    )
                    consumer.ack(delivery.tag)

                def lost(self, error: BaseException) -> None: ...

            consumer = await transport.consumer(Plain(), world.side.spec(), prefetch=50, timeout=PATIENCE)
            ready.set()
            await turns(stop.is_set, 60)
            await consumer.close()
            await publisher.close()

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            client = colour.client(world.url)
            for number in range(5):
                assert colour.call(client, world.name("add"), [number, 1]) == number + 1
            results = colour.together(*[lambda n=n: colour.call(client, world.name("add"), [n, 1]) for n in range(20)])  # type: ignore[misc]
            assert results == list(range(1, 21))
            with pytest.raises(MethodNotFound) as caught:
                colour.call(client, world.name("nope"))
            assert caught.value.certainty is Certainty.NOT_EXECUTED
            assert caught.value.details == ["anything"]
            assert len(seen) == 26
        finally:
            stop.set()
            thread.join(PATIENCE)


class TestBatches:
    def test_concurrent_calls_travel_in_few_messages_once_the_server_is_known(self, world: World) -> None:
        world.serve()

        async def main() -> None:
            async with AsyncClient(world.url) as client:
                await client.call(world.name("echo"))
                link = client._caller.pool.links[0]  # type: ignore[union-attr]
                before = link.messages
                results = await asyncio.gather(*[client.call(world.name("echo"), [n]) for n in range(64)])
                assert results == list(range(64))
                assert link.messages - before <= 8

        asyncio.run(main())

    def test_from_threads_too(self, world: World) -> None:
        world.serve()
        with Client(world.url) as client, ThreadPoolExecutor(32) as pool:
            client.call(world.name("echo"))
            found = list(pool.map(lambda n: client.call(world.name("add"), [n, n]), range(1000)))
            assert found == [2 * n for n in range(1000)]

    def test_each_call_of_a_batch_has_its_own_error(self, world: World) -> None:
        world.serve()

        async def main() -> None:
            async with AsyncClient(world.url, batching=Batching(max_seconds=10)) as client:
                await client.call(world.name("echo"))
                methods = ["echo", "nope", "add", "fail", "unencodable", "large", "note"] * 8
                params: dict[str, Any] = {"add": ["x"], "large": [300_000]}
                outcomes = await asyncio.gather(
                    *[client.call(world.name(method), params.get(method)) for method in methods], return_exceptions=True
                )
                kinds = {
                    "echo": type(None), "note": type(None), "nope": MethodNotFound, "add": InvalidParams,
                    "fail": ApplicationError, "unencodable": RemoteError, "large": TooLarge,
                }  # fmt: skip
                assert [type(outcome) for outcome in outcomes] == [kinds[method] for method in methods]

        asyncio.run(main())

    def test_each_call_of_a_batch_has_its_own_deadline(self, world: World) -> None:
        world.serve()

        async def main() -> None:
            async with AsyncClient(world.url) as client:
                await client.map(world.name("wait"), [[0.0]] * 20)  # known to be quick
                outcomes = await asyncio.gather(
                    *[client.call(world.name("wait"), [0.5], timeout=0.15 if n % 2 else 10.0) for n in range(10)],
                    return_exceptions=True,
                )
                assert [type(outcome) for outcome in outcomes] == [float, DeadlineExceeded] * 5

        asyncio.run(main())


class TestStrayReplies:
    def test_late_unknown_and_forged_replies_are_dropped_and_counted(self, world: World) -> None:
        world.serve()
        addresses: list[tuple[str, str]] = []

        async def forge(b: Raw) -> None:
            address, correlation = addresses[0]
            token = correlation.partition(".")[0]
            answer = {"jsonrpc": "2.0", "id": 3, "result": "forged"}
            for guess, body in (
                ("x", answer), ("", answer), (token[:-1] + ".3", answer), (token + ".1", {**answer, "id": 999}),
                ("x.1", b"garbage"),
            ):  # fmt: skip
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                properties = encode_properties(correlation_id=guess, content_type="application/json")
                b.publisher.publish(address, data, properties, mandatory=False)
            await turns(lambda: client.stats().unknown_replies == 5)

        with Client(world.url) as client:
            client.call(world.name("echo"))
            spy = world.servers[0]._serving._intake  # type: ignore[union-attr]
            opened = spy.open

            def look(session: Any, delivery: Delivery) -> Any:
                addresses.append((delivery.properties["reply_to"], delivery.properties["correlation_id"]))
                return opened(session, delivery)

            spy.open = look  # type: ignore[method-assign]
            client.call(world.name("echo"))
            future = client.submit(world.name("block"), ["real"])
            until(lambda: world.ran == ["real"])
            raw(world, forge)
            world.gate.set()
            assert future.result(PATIENCE) == "real"
            assert client.stats().unknown_replies == 5


class TestServers:
    def test_several_share_one_queue_and_no_call_runs_twice(self, world: World) -> None:
        for number in range(3):
            world.serve(f"server-{number}", concurrency=2, prefetch=2)
        with Client(world.url, batching=None) as client, ThreadPoolExecutor(12) as pool:
            names = list(pool.map(lambda _: client.call(world.name("who")), range(120)))
            assert set(names) == {"server-0", "server-1", "server-2"}
            list(pool.map(lambda n: client.call(world.name("note"), [n]), range(120)))
        assert sorted(world.ran) == list(range(120))

    def test_one_that_stops_hands_its_work_to_the_others(self, world: World) -> None:
        first = world.serve("first", concurrency=1, prefetch=10)
        with Client(world.url, safety="idempotent", batching=None) as client:
            client.call(world.name("echo"))
            running = client.submit(world.name("block"), ["running"])
            until(lambda: world.ran == ["running"])
            waiting = [client.submit(world.name("note"), [n]) for n in range(5)]
            until(lambda: first.health()["waiting"] == 5)
            stopper = threading.Thread(target=first.stop)
            stopper.start()
            world.serve("second")
            assert [future.result(PATIENCE) for future in waiting] == list(range(5))
            world.gate.set()
            assert running.result(PATIENCE) == "running"
            stopper.join(PATIENCE)
            assert not stopper.is_alive()

    def test_a_lost_connection_is_made_anew_and_what_runs_is_not_run_again(self, world: World) -> None:
        server = world.serve()
        with Client(world.url) as client:
            client.call(world.name("echo"))
            future = client.submit(world.name("block"), [1])
            until(lambda: world.ran == [1])
            serving: Any = server._serving
            session = serving.session
            serving.loop.call_soon_threadsafe(cut, session)
            until(lambda: serving.session is not None and serving.session is not session)
            world.gate.set()
            assert future.result(PATIENCE) == 1
            until(lambda: server.health()["unacked"] == 0)
            assert client.call(world.name("echo"), [2]) == 2
        assert world.ran == [1]

    def test_an_answered_call_whose_ack_was_lost_is_not_run_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serving: Any = world.serve()._serving
        known, found = serving.known, []
        monkeypatch.setattr(serving, "known", lambda letter: found.append(known(letter)) or found[-1])
        with Client(world.url, safety="idempotent") as client:
            monkeypatch.setattr(serving.session, "ack", lambda _: None)
            assert client.call(world.name("note"), [1]) == 1
            until(lambda: serving.health()["unacked"] == 0)
            serving.loop.call_soon_threadsafe(cut, serving.session)
            until(lambda: found == [True])
            assert client.call(world.name("echo"), [2]) == 2
        assert world.ran == [1]


def cut(session: Any) -> None:
    """Break one session's connection."""
    if hasattr(session, "_connection"):
        session._connection.stream._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    else:
        with session._broker.turn:
            session.drop(ConnectionResetError("cut"))


class TestContent:
    def test_a_client_and_a_server_with_other_limits_tell_each_other(self, world: World, colour: Colour) -> None:
        world.serve()
        client = colour.client(world.url, limits=Limits(max_body=1_000))
        with pytest.raises(TooLarge) as mine:
            colour.call(client, world.name("echo"), ["x" * 1_000])
        assert mine.value.certainty is Certainty.NOT_EXECUTED
        with pytest.raises((TooLarge, MalformedMessage)) as theirs:
            colour.call(client, world.name("large"), [5_000])
        assert theirs.value.certainty is not Certainty.NOT_EXECUTED
        with pytest.raises(UnsupportedContent):
            colour.call(client, world.name("echo"), [object()])
        assert colour.call(client, world.name("echo"), [1]) == 1

    def test_an_operator_sees_what_a_message_is(self, world: World) -> None:
        server = world.serve()
        seen: list[Delivery] = []
        spy: Any = server._serving._intake  # type: ignore[union-attr]
        opened = spy.open
        spy.open = lambda session, delivery: seen.append(delivery) or opened(session, delivery)
        with Client(world.url, app_id="my-app") as client:
            client.call(world.name("echo"), [1], timeout=5)
            client.call(world.name("echo"), [1], safety="read_only", timeout=5)
        first, second = seen
        assert first.properties["type"] == "rpc.call"
        assert first.properties["app_id"] == "my-app"
        assert 4_000 < int(first.properties["expiration"]) <= 5_000
        assert decode_headers(first.properties["headers"]) == {
            "rpc-version": "1", "rpc-method": world.name("echo"), "rpc-calls": 1, "rpc-live": 10_000,
        }  # fmt: skip
        assert decode_headers(second.properties["headers"])["rpc-safety"] == "read_only"
        assert "meta" not in msgspec.json.decode(first.body), "nobody knows yet whether this server takes it"
        assert "meta" in msgspec.json.decode(second.body)
