"""Events for many services, over every transport."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Classic, Client, Compression, Context, Quorum, Server
from resilient_rpc.errors import ConfigurationError, ConnectionLost, DeadlineExceeded, UsageError
from resilient_rpc.events import CallServed, DeadLettered, NoSubscribers
from resilient_rpc.policies import Cache, Fallback, Idempotency, Retry, RetryBudget, for_
from resilient_rpc.stores import MemoryStore, RedisStore
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.memory import Bus
from resilient_rpc.transport.properties import encode_headers, encode_properties
from resilient_rpc.transport.topology import DEAD_LETTER
from resilient_rpc_signing import Signing
from tests.colours import Colour
from tests.contract.sessions import consuming, publishing
from tests.contract.sides import AmqpSide, MemorySide, Side
from tests.served import running
from tests.waiting import PATIENCE, turns, until


class Town:
    """Services that subscribe, and what they note. Names of events begin with that of the test's service."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.heard: list[tuple[str, str, Any]] = []
        self.dead: list[DeadLettered] = []
        self.served: list[CallServed] = []
        self.gate = threading.Event()
        self.others: set[str] = set()

    def event(self, name: str = "created") -> str:
        return f"{self.side.service}.{name}"

    def service(self, suffix: str) -> str:
        self.others.add(suffix)
        return self.side.service + suffix

    def server(self, suffix: str = "", *topics: str, name: str = "one", how: Any = None, **settings: Any) -> Server:
        """Notes every event of these names: the service, the server, and the argument."""
        server = Server(self.side.url, service=self.service(suffix), name=name, **settings)
        server.on(DeadLettered, self.dead.append)
        server.on(CallServed, self.served.append)

        async def note(ctx: Context, n: int) -> None:
            self.heard.append((suffix, name, n))

        for topic in topics:
            server.on(self.event(topic), **(how or {}))(note)
        return server

    @contextmanager
    def running(self, *servers: Server) -> Iterator[None]:
        with running(*servers, gate=self.gate):
            yield

    async def take_and_die(self, count: int) -> None:
        """Take events as a server would that does not live to ack them."""
        spec = QueueSpec(name=f"{self.side.queue}.events", service=self.side.service, declared=False)
        async with consuming(self.side, spec=spec) as (_, worker):
            await worker.received(count)

    def clean(self) -> None:
        for suffix in self.others:
            base = f"rpc.{self.side.service}{suffix}"
            for queue in (f"{base}.events", base, f"{base}.dead", f"{base}.expired"):
                if isinstance(self.side, AmqpSide):
                    asyncio.run(self.side.delete(queue))


@pytest.fixture
def town(side: Side) -> Iterator[Town]:
    made = Town(side)
    yield made
    made.clean()


def numbers(town: Town, suffix: str) -> list[int]:
    return sorted(n for where, _, n in town.heard if where == suffix)


def letters(town: Town, count: int) -> list[Any]:
    return asyncio.run(town.side.read(town.side.dead, count))


# -- to whom


def test_each_service_gets_an_event_once_by_one_of_its_servers(town: Town, colour: Colour) -> None:
    servers = [town.server(suffix, "created", name=name) for suffix in ("", "b") for name in ("one", "two")]
    with town.running(*servers, town.server("c", "shipped")):
        client = colour.client(town.side.url)
        for n in range(20):
            assert colour.do(client, "publish", town.event(), {"n": n}) is True
        until(lambda: len(town.heard) == 40)
    assert numbers(town, "") == numbers(town, "b") == list(range(20))
    shares = Counter((service, server) for service, server, _ in town.heard)
    assert set(shares) == {("", "one"), ("", "two"), ("b", "one"), ("b", "two")}
    assert town.dead == []
    stats = client.stats()
    assert (stats.completed, dict(stats.errors)) == (20, {})


def test_an_event_without_subscribers_is_no_error_and_can_be_counted(town: Town, colour: Colour) -> None:
    unheard: list[NoSubscribers] = []
    client = colour.client(town.side.url, environment=f"e{town.side.service[-8:]}")
    client.on(NoSubscribers, unheard.append)
    assert colour.do(client, "publish", town.event(), {"n": 1}) is False, "there is not even an exchange"
    with town.running(town.server("", "shipped", environment=f"e{town.side.service[-8:]}")):
        assert colour.do(client, "publish", town.event(), {"n": 1}) is False
        assert colour.do(client, "publish", town.event("shipped"), {"n": 1}) is True
    assert unheard == [NoSubscribers(event=town.event())] * 2
    if isinstance(town.side, AmqpSide):
        for name in ("", ".events", ".dead", ".expired"):
            asyncio.run(town.side.delete(f"{town.side.queue}.e{town.side.service[-8:]}{name}"))


def test_environments_do_not_hear_each_other_and_versions_do(town: Town, colour: Colour) -> None:
    here = f"e{town.side.service[-8:]}"
    servers = [town.server("v", "created", environment=here, version=v, name=v) for v in ("v1", "v2")]
    with town.running(*servers, town.server("", "created")):
        client = colour.client(town.side.url, environment=here, version="v7")
        assert colour.do(client, "publish", town.event(), [1]) is True
        until(lambda: len(town.heard) == 2)
        assert colour.do(colour.client(town.side.url), "publish", town.event(), [2]) is True
        until(lambda: len(town.heard) == 3)
    assert sorted(town.heard) == [("", "one", 2), ("v", "v1", 1), ("v", "v2", 1)]
    if isinstance(town.side, AmqpSide):
        for version in ("v1", "v2"):
            for name in ("", ".events", ".dead", ".expired"):
                asyncio.run(town.side.delete(f"{town.side.queue}v.{version}.{here}{name}"))


def test_of_several_patterns_the_most_definite_is_taken_and_the_event_is_handled_once(
    town: Town, colour: Colour
) -> None:
    seen: list[tuple[str, str]] = []
    server = town.server()

    def subscribe(topic: str) -> None:
        @server.on(town.event(topic))
        def handle(ctx: Context) -> None:
            seen.append((topic, ctx.method.removeprefix(town.event(""))))

    for topic in ("#", "order.*", "order.created", "*.created"):
        subscribe(topic)
    names = ["order.created", "order.paid", "user.created", "user.paid", "order.line.added"]
    with town.running(server):
        client = colour.client(town.side.url)
        for name in names:
            assert colour.do(client, "publish", town.event(name))
        until(lambda: len(seen) == 5)
    assert sorted(seen) == sorted(zip(["order.created", "order.*", "*.created", "#", "#"], names, strict=True))


def test_a_server_that_subscribes_to_nothing_has_no_queue_for_it(town: Town) -> None:
    server = town.server()
    server.method(name="ping")(lambda: None)

    async def depth() -> Any:
        async with publishing(town.side) as (publisher, _):
            return await publisher.inspect(f"{town.side.queue}.events")

    with town.running(server):
        assert asyncio.run(depth()) is None


# -- what is sent


def test_an_event_waits_persistent_until_its_service_is_there_again(town: Town, colour: Colour) -> None:
    with town.running(town.server("", "created")):
        pass
    client = colour.client(town.side.url)
    assert colour.do(client, "publish", town.event(), {"n": 1}, tags={"a": "b"}, priority=3) is True
    assert colour.do(client, "publish", town.event(), {"n": 2}, idempotency_key="order-7", ttl=60.0) is True

    async def read() -> None:
        spec = QueueSpec(name=f"{town.side.queue}.events", service=town.side.service, declared=False)
        async with consuming(town.side, spec=spec) as (_, worker):
            first, second = await worker.received(2)
            properties, body = first.properties, json.loads(first.body)
            assert {name: value for name, value in body.items() if name != "meta"} == {
                "jsonrpc": "2.0", "method": town.event(), "params": {"n": 1},
            }  # fmt: skip
            assert body["meta"].keys() == {"key", "at", "tags"}
            assert body["meta"]["key"] == properties["message_id"]
            assert (properties["delivery_mode"], properties["type"], properties["priority"]) == (2, "rpc.event", 3)
            assert first.routing_key == town.event()
            assert not {"expiration", "reply_to"} & properties.keys()
            assert (second.properties["expiration"], second.properties["message_id"]) == ("60000", "order-7")
            assert json.loads(second.body)["meta"].keys() == {"key", "at", "ttl"}

    asyncio.run(read())
    with town.running(town.server("", "created")):
        until(lambda: numbers(town, "") == [1, 2])


def test_a_handler_knows_the_event_and_what_it_publishes_inherits_from_it(town: Town, colour: Colour) -> None:
    seen: list[Any] = []
    server = town.server("b")
    with Client(town.side.url) as inner:

        @server.on(town.event())
        def first(ctx: Context) -> None:
            seen.append((ctx.method, ctx.event_id, ctx.key, dict(ctx.tags), ctx.remaining()))
            assert inner.publish(town.event("next"), tags={"c": "d"})

        @server.on(town.event("next"))
        async def second(ctx: Context) -> None:
            seen.append((ctx.method, len(ctx.event_id or ""), ctx.key, dict(ctx.tags), ctx.remaining()))

        with town.running(server):
            client = colour.client(town.side.url)
            assert colour.do(client, "publish", town.event(), idempotency_key="order-7", tags={"a": "b"})
            until(lambda: len(seen) == 2)
    forever = float("inf")
    assert seen == [
        (town.event(), "order-7", None, {"a": "b"}, forever),
        (town.event("next"), 32, None, {"a": "b", "c": "d"}, forever),
    ]


def test_an_event_is_not_handled_when_its_ttl_has_passed(town: Town, colour: Colour) -> None:
    with town.running(town.server("", "created")):
        pass
    client = colour.client(town.side.url)
    colour.do(client, "publish", town.event(), {"n": 1}, ttl=0.05)
    time.sleep(0.06)
    with town.running(town.server("", "created")):
        [letter] = asyncio.run(town.side.read(town.side.expired, 1))
        assert json.loads(letter.body)["params"] == {"n": 1}
        colour.do(client, "publish", town.event(), {"n": 2}, ttl=60.0)
        until(lambda: town.heard)
    assert numbers(town, "") == [2]


def test_filters_apply_to_events(town: Town, colour: Colour) -> None:
    compression = Compression(min_size=100)
    server = town.server(filters=[compression])
    seen: list[int] = []

    @server.on(town.event())
    def measure(text: str) -> None:
        seen.append(len(text))

    with town.running(server):
        client = colour.client(town.side.url, filters=[compression])
        assert colour.do(client, "publish", town.event(), {"text": "a" * 10_000})
        until(lambda: seen)
    assert seen == [10_000]


def test_signed_events_have_a_sender_and_unsigned_ones_are_refused(town: Town, colour: Colour) -> None:
    key, seen = b"k" * 32, []
    server = town.server(filters=[Signing({"shop": key})])

    @server.on(town.event())
    def note(ctx: Context) -> None:
        seen.append(ctx.principal)

    with town.running(server):
        assert colour.do(colour.client(town.side.url, filters=[Signing({"shop": key})]), "publish", town.event())
        assert colour.do(colour.client(town.side.url), "publish", town.event())
        until(lambda: seen and town.dead)
    assert seen == ["shop"]
    assert [each.reason for each in town.dead] == ["refused"]


def test_only_the_policies_apply_that_do_not_stand_in_for_a_server(town: Town, colour: Colour) -> None:
    seen: list[tuple[str, str, str | None]] = []

    async def watch(call: Any, proceed: Any) -> Any:
        seen.append((type(call).__name__, call.target, call.key))
        return await proceed(call)

    with town.running(town.server("", "created")):
        client = colour.client(town.side.url, policies=[Fallback(value="x"), Cache(ttl=60), watch], safety="read_only")
        for _ in range(2):
            assert colour.do(client, "publish", town.event(), [1], idempotency_key="k") is True
        until(lambda: numbers(town, "") == [1, 1])
    assert seen == [("Publication", "rpc.events", "k")] * 2, "no breaker of the service that the name begins with"


# -- failures


def test_what_cannot_be_handled_becomes_a_dead_letter_and_never_loops(town: Town, colour: Colour) -> None:
    server = town.server("", "created")

    @server.on(town.event("failing"))
    def fail(n: int) -> None:
        raise ValueError(str(n))

    async def hostile() -> None:
        bodies = [
            b"not json", b"[]", b'{"jsonrpc": "2.0"}', b"", json.dumps({"jsonrpc": "2.0", "method": "a..#"}).encode(),
            json.dumps([{"jsonrpc": "2.0", "method": town.event("unknown")}] * 2).encode(),
        ]  # fmt: skip
        async with publishing(town.side) as (publisher, _):
            for number, body in enumerate(bodies):
                properties = encode_properties(correlation_id=f"hostile{number}", reply_to=f"rpc.reply.x{number}")
                assert await publisher.emit("rpc.events", town.event(), body, properties, sent=lambda: None)

    with town.running(server):
        client = colour.client(town.side.url)
        colour.do(client, "publish", town.event("failing"), [1])
        colour.do(client, "publish", town.event(), {"unknown": 1})
        asyncio.run(hostile())
        until(lambda: len(town.dead) == 8)
        found = letters(town, 8)
    assert Counter(each.reason for each in town.dead) == {"failed": 1, "refused": 3, "malformed": 4}
    assert {letter.headers["rpc-dead-queue"] for letter in found} == {f"{town.side.queue}.events"}
    assert town.heard == []


def test_nobody_is_answered_whatever_an_event_asks_for(town: Town) -> None:
    async def ask() -> None:
        body = json.dumps({"jsonrpc": "2.0", "method": town.event(), "params": [1], "id": 1}).encode()
        async with publishing(town.side, replies=True) as (publisher, recorder):
            properties = encode_properties(correlation_id="c", reply_to=publisher.reply_to)
            publisher.publish(f"{town.side.queue}.events", body, properties, mandatory=True)
            await turns(lambda: town.served)
            assert recorder.deliveries == []

    with town.running(town.server("", "created")):
        asyncio.run(ask())
    assert numbers(town, "") == [1]


def test_who_may_not_publish_is_refused(town: Town, colour: Colour) -> None:
    server = town.server("", "created", how={"allow": lambda ctx: ctx.tags.get("from") == "orders"})
    with town.running(server):
        client = colour.client(town.side.url)
        colour.do(client, "publish", town.event(), [1])
        colour.do(client, "publish", town.event(), [2], tags={"from": "orders"})
        until(lambda: town.dead and town.heard)
    assert numbers(town, "") == [2]
    assert [each.reason for each in town.dead] == ["refused"]


def test_who_published_is_known_where_that_is_required(town: Town, colour: Colour) -> None:
    seen: list[Any] = []
    server = town.server(require_user_id=True)

    @server.on(town.event())
    def note(ctx: Context) -> None:
        seen.append(ctx.principal)

    with town.running(server):
        colour.do(colour.client(town.side.url), "publish", town.event())
        colour.do(colour.client(town.side.url, user_id=True), "publish", town.event())
        until(lambda: town.dead and seen)
    assert len(seen) == 1
    assert seen[0] is not None


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_an_event_whose_server_died_is_handled_again_until_the_limit_unless_it_is_unsafe(
    town: Town, colour: Colour, kind: str
) -> None:
    """The connection of a server is cut while it handles: its handler runs on, and the event comes to another one."""
    settings: dict[str, Any] = {"queue": Quorum(delivery_limit=2)} if kind == "quorum" else {}
    seen: list[tuple[str, bool]] = []

    def subscribe(server: Server) -> Server:
        @server.on(town.event("safe"))
        async def safe(ctx: Context) -> None:
            seen.append(("safe", ctx.redelivered))

        @server.on(town.event("unsafe"), safety="unsafe")
        async def unsafe(ctx: Context) -> None:
            seen.append(("unsafe", ctx.redelivered))

        return server

    with town.running(subscribe(town.server(**settings))):
        pass

    client = colour.client(town.side.url)
    for name in ("safe", "unsafe"):
        assert colour.do(client, "publish", town.event(name))
    asyncio.run(town.take_and_die(2))
    with town.running(subscribe(town.server(**settings))):
        until(lambda: seen and town.dead)
    assert seen == [("safe", True)]
    assert [each.reason for each in town.dead] == ["interrupted"]


@pytest.mark.parametrize(("before", "runs"), [(1, True), (2, False)])
def test_what_comes_back_too_often_is_a_dead_letter(town: Town, before: int, runs: bool) -> None:
    async def come_back() -> None:
        """As after a server that has died with it."""
        body = json.dumps({"jsonrpc": "2.0", "method": town.event(), "params": [1]}).encode()
        headers = encode_headers({"rpc-version": "1", "x-rpc-deliveries": before})
        properties = encode_properties(correlation_id="t.1", headers=headers)
        async with publishing(town.side) as (publisher, _):
            assert await publisher.emit("rpc.events", town.event(), body, properties, sent=lambda: None)
        await town.take_and_die(1)

    with town.running(town.server("", "created")):
        pass
    asyncio.run(come_back())
    with town.running(town.server("", "created", queue=Classic(delivery_limit=2))):
        until(lambda: town.heard if runs else town.dead)
    assert [each.reason for each in town.dead] == ([] if runs else ["delivery_limit"])
    assert numbers(town, "") == ([1] if runs else [])


def test_a_server_that_stops_gives_back_what_it_has_not_begun(town: Town, colour: Colour) -> None:
    first, second = (town.server(name=name, concurrency=1, prefetch=10) for name in ("one", "two"))
    begun = threading.Event()

    @first.on(town.event())
    def slow(n: int) -> None:
        begun.set()
        town.gate.wait(PATIENCE)
        town.heard.append(("", "one", n))

    @second.on(town.event())
    def quick(n: int) -> None:
        town.heard.append(("", "two", n))

    with town.running(second), town.running(first):
        client = colour.client(town.side.url)
        second.stop()
        for n in range(5):
            colour.do(client, "publish", town.event(), [n])
        assert begun.wait(PATIENCE)
        until(lambda: first.health()["waiting"] == 4)
        second.start()
        stopping = threading.Thread(target=first.stop)
        stopping.start()
        until(lambda: len(town.heard) == 4)
        town.gate.set()
        stopping.join()
        until(lambda: len(town.heard) == 5)
    assert numbers(town, "") == [0, 1, 2, 3, 4]
    assert Counter(server for _, server, _ in town.heard) == {"two": 4, "one": 1}
    assert town.dead == []


# -- versions of a service, side by side


def test_what_an_old_server_does_not_know_is_left_to_a_new_one(town: Town, colour: Colour) -> None:
    with town.running(town.server("", "created", name="old"), town.server("", "created", "paid", name="new")):
        client = colour.client(town.side.url)
        for n in range(10):
            colour.do(client, "publish", town.event("paid"), {"n": n})
        until(lambda: len(town.heard) == 10)
    assert numbers(town, "") == list(range(10))
    assert {server for _, server, _ in town.heard} == {"new"}
    assert town.dead == []


def test_what_no_server_knows_any_more_is_a_dead_letter_and_after_off_it_does_not_come(
    town: Town, colour: Colour
) -> None:
    with town.running(town.server("", "created", "legacy.one", "legacy.*")):
        pass
    client = colour.client(town.side.url)
    with town.running(town.server("", "created")):
        assert colour.do(client, "publish", town.event("legacy.one"), {"n": 1})
        until(lambda: town.dead)
        assert [each.reason for each in town.dead] == ["refused"]
        [letter] = letters(town, 1)
        assert letter.headers["x-rpc-passed"] == 10
    colour.do(client, "publish", town.event("legacy.one"), {"n": 2})
    server = town.server("", "created")
    server.off(town.event("legacy.one"), town.event("legacy.*"))
    with town.running(server):
        assert colour.do(client, "publish", town.event("legacy.one"), {"n": 3}) is False
        assert colour.do(client, "publish", town.event(), {"n": 4}) is True
        until(lambda: town.heard)
        until(lambda: server.health()["unacked"] == 0)
    assert numbers(town, "") == [4]
    assert len(town.dead) == 1


# -- once


class Once(Town):
    def __init__(self, side: Side, store: Any) -> None:
        super().__init__(side)
        self.store = store


@pytest.fixture(params=["memory", pytest.param("rabbitmq+redis", marks=pytest.mark.broker)])
def once(request: pytest.FixtureRequest, service: str) -> Iterator[Once]:
    side: Side
    if request.param == "memory":
        side, store = MemorySide(service), MemoryStore()
    else:
        amqp, redis = request.getfixturevalue("amqp_url"), request.getfixturevalue("redis_url")
        side, store = AmqpSide(service, amqp, lane=True), RedisStore(redis, namespace=service, timeout=2.0)  # type: ignore[assignment]
    made = Once(side, store)
    yield made
    made.clean()
    side.clean()


def test_a_repeat_of_an_event_takes_effect_once_in_each_service(once: Once, colour: Colour) -> None:
    keeper = Idempotency(once.store)
    servers = [once.server(suffix, "created", policies=[keeper], name=name) for suffix in "ab" for name in ("1", "2")]
    with once.running(*servers):
        client = colour.client(once.side.url)
        for _ in range(3):
            assert colour.do(client, "publish", once.event(), {"n": 1}, idempotency_key="order-1")
        assert colour.do(client, "publish", once.event(), {"n": 1})
        until(lambda: len(once.served) == 8)
    assert numbers(once, "a") == numbers(once, "b") == [1, 1]
    assert sum(event.replayed for event in once.served) == 4
    assert once.dead == []


def test_an_event_that_is_delivered_again_takes_effect_once(once: Once, colour: Colour) -> None:
    """Its server is cut off between the effect and the ack, and another one gets it."""
    entered = threading.Event()
    effects: list[Any] = []

    def server(name: str) -> Server:
        made = once.server(name=name, policies=[Idempotency(once.store, lease=1.0)])

        @made.on(once.event(), safety="unsafe")
        def handle(ctx: Context) -> None:
            effects.append((name, ctx.event_id == ctx.key, ctx.fencing_token is not None))
            entered.set()
            once.gate.wait(PATIENCE)

        return made

    first, second = server("one"), server("two")
    with once.running(first):
        client = colour.client(once.side.url)
        assert colour.do(client, "publish", once.event())
        assert entered.wait(PATIENCE)
        with once.running(second):
            serving: Any = first._serving
            inlet = serving._inlets[-1]

            async def leave() -> None:
                session = inlet.session
                await inlet.sessions.close()
                await session.close()

            asyncio.run_coroutine_threadsafe(leave(), serving.loop).result(PATIENCE)
            until(lambda: second.health()["unacked"] == 1)
            once.gate.set()
            until(lambda: len(once.served) == 2)
    assert effects == [("one", True, True)]
    assert sorted(event.replayed for event in once.served) == [False, True]
    assert once.dead == []


def test_the_policys_own_key_goes_before_the_id_of_the_event(once: Once, colour: Colour) -> None:
    def key(call: Any) -> str:
        return f"n{call.params['n'] % 2}"

    with once.running(once.server("", "created", policies=[Idempotency(once.store, key=key)])):
        client = colour.client(once.side.url)
        for n in (1, 1, 2):
            assert colour.do(client, "publish", once.event(), {"n": n})
        until(lambda: len(once.served) == 3)
    assert numbers(once, "") == [1, 2]


def test_an_event_that_a_pattern_is_for_has_the_policies_of_its_own_name(once: Once, colour: Colour) -> None:
    for_created = for_(f"{once.service('')}.{once.event('created')}", Idempotency(once.store))
    with once.running(once.server("", "*", policies=[for_created])):
        client = colour.client(once.side.url)
        for event in ("created", "paid"):
            for _ in range(2):
                assert colour.do(client, "publish", once.event(event), {"n": len(event)}, idempotency_key="order-1")
        until(lambda: len(once.served) == 4)
    assert sorted(numbers(once, "")) == [4, 4, 7]
    assert once.dead == []


# -- publishing under faults


def test_a_broker_that_is_away_is_waited_for_until_the_deadline() -> None:
    with Client("amqp://127.0.0.1:1", policies=[]) as client, pytest.raises(Exception, match="no connection") as caught:
        client.publish("orders.created", timeout=0.2)
    assert caught.value.certainty == "not_executed"  # type: ignore[attr-defined]


def test_an_event_that_is_not_confirmed_is_unknown_and_sent_again_under_its_id(service: str) -> None:
    bus = Bus.named(service)
    ids: list[Any] = []

    async def scenario() -> None:
        server = Server(f"memory://{service}", service="billing")

        @server.on("orders.created")
        async def note(ctx: Context) -> None:
            ids.append(ctx.event_id)

        async with server, AsyncClient(f"memory://{service}", policies=[]) as once:
            assert await once.publish("orders.created")
            with pytest.raises(ConnectionLost) as caught:
                await (await unconfirmed(once))
            assert caught.value.certainty == "unknown"
            retry = Retry(attempts=3, base=0.001, budget=RetryBudget(floor=100))
            async with AsyncClient(f"memory://{service}", policies=[retry]) as client:
                assert await client.publish("orders.created")
                assert await (await unconfirmed(client, idempotency_key="a"))
                await turns(lambda: len(ids) == 3)
        assert ids[-1] == "a"

    async def unconfirmed(client: AsyncClient, **how: Any) -> asyncio.Task[bool]:
        """An event that is lost on the way with its connection."""
        bus.freeze()
        task = asyncio.create_task(client.publish("orders.created", **how))
        await turns(lambda: any(session._held for session in bus.broker.sessions))
        bus.drop_connections()
        bus.thaw()
        return task

    asyncio.run(scenario())


def test_a_broker_that_says_nothing_ends_it_by_its_deadline_as_unknown(service: str, colour: Colour) -> None:
    bus = Bus.named(service)
    client = colour.client(f"memory://{service}", policies=[])
    assert colour.do(client, "publish", "orders.created") is False
    bus.freeze()
    with pytest.raises(DeadlineExceeded) as caught:
        colour.do(client, "publish", "orders.created", timeout=0.2)
    assert (caught.value.certainty, caught.value.stage) == ("unknown", "publish")
    bus.thaw()


@pytest.mark.parametrize(
    ("event", "how", "error", "says"),
    [
        ("orders.created", {"ttl": 0}, ConfigurationError, "ttl=0"),
        ("orders.created", {"safety": "unsafe"}, TypeError, "'safety'"),
        ("orders.created", {"returns": int}, TypeError, "'returns'"),
        ("orders.*", {}, ConfigurationError, r"event name 'orders\.\*'"),
        ("", {}, ConfigurationError, "event name ''"),
        ("_private", {}, ConfigurationError, "event name"),
    ],
)
def test_what_cannot_be_published(
    event: str, how: dict[str, Any], error: type[Exception], says: str, colour: Colour
) -> None:
    client = colour.client("memory://events-refused")
    with pytest.raises(error, match=says):
        colour.do(client, "publish", event, **how)


def test_what_cannot_be_subscribed_to() -> None:
    server = Server("memory://events-refused", service="billing")
    server.on("orders.created")(lambda: None)
    server.off("orders.legacy")
    for act, says in [
        (lambda: server.on("orders.created")(lambda: None), "has a handler already"),
        (lambda: server.on("orders.legacy")(lambda: None), "give it up"),
        (lambda: server.off("orders.created"), "give it up"),
        (lambda: server.on("orders.c*")(lambda: None), "'orders.c[*]'"),
        (lambda: server.on("")(lambda: None), "event ''"),
        (lambda: server.on("a.b", print), "decorator"),  # type: ignore[call-overload]
        (lambda: server.on("a.b", concurrency=0)(lambda: None), "concurrency"),
        (lambda: server.on("a.b", timeout=-1)(lambda: None), "timeout"),
        (lambda: server.on("a.b", safety="sometimes")(lambda: None), "safety"),
        (lambda: server.on("a.b", allow=1)(lambda: None), "allow"),  # type: ignore[call-overload]
    ]:
        with pytest.raises(ConfigurationError, match=says):
            act()


def test_a_server_that_runs_cannot_subscribe_any_more(service: str) -> None:
    server = Server(f"memory://{service}", service="billing")
    server.on("orders.created")(lambda: None)
    server.start()
    try:
        for act in (lambda: server.on("orders.paid")(lambda: None), lambda: server.off("orders.legacy")):
            with pytest.raises(UsageError, match="before it starts"):
                act()
    finally:
        server.stop()


def test_the_queue_of_events_of_somebody_elses_making_is_a_configuration_error(town: Town) -> None:
    async def scenario() -> None:
        spec = QueueSpec(
            name=f"{town.side.queue}.events",
            service=town.side.service,
            arguments={DEAD_LETTER: None},
            dead_letters=False,
        )
        async with consuming(town.side, spec=spec):
            with pytest.raises(ConfigurationError, match=r"\.events"):
                async with town.server("", "created"):
                    pass

    asyncio.run(scenario())
