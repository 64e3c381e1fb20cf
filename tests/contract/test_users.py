"""Who calls, by the broker's word: refused if nobody knows, and keys of its own for each, over every transport."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import pytest

from resilient_rpc import Certainty, Client, Context, Server
from resilient_rpc.errors import ConfigurationError, MalformedMessage, Refused
from resilient_rpc.events import CallServed
from resilient_rpc.policies import Idempotency
from resilient_rpc.stores import MemoryStore, RedisStore, Store
from resilient_rpc.transport.base import Transport
from resilient_rpc.transport.open import open_transport
from resilient_rpc.transport.properties import encode_headers, encode_properties
from resilient_rpc.transport.topology import dead_queue
from resilient_rpc.transport.users import USER
from resilient_rpc.wire.filters import Message
from tests.colours import Colour
from tests.contract.recorder import PATIENCE, Recorder
from tests.contract.sessions import TIMEOUT, consuming
from tests.contract.sides import AmqpSide, MemorySide, Side
from tests.served import running
from tests.servers.handle import Broker
from tests.waiting import until

OURS = {"rpc-version": "1"}


class World:
    """A broker with the users joe, ann and shop, who runs the servers."""

    def __init__(self, side: Side, url: Callable[[str], str], store: Store | None = None) -> None:
        self.side, self.url = side, url
        self.store = store or MemoryStore()
        self.effects: list[tuple[str | None, Any]] = []
        self.served: list[CallServed] = []
        self.gate = threading.Event()

    @contextmanager
    def serving(self, **settings: Any) -> Iterator[Server]:
        settings = {"require_user_id": True, "policies": [Idempotency(self.store)], **settings}
        server = Server(self.url("shop"), service=self.side.service, **settings)
        server.on(CallServed, self.served.append)

        @server.method
        async def create(ctx: Context, sku: str) -> list[Any]:
            self.effects.append((ctx.principal, sku))
            return [ctx.principal, len(self.effects)]

        @server.method
        def block(ctx: Context) -> None:
            self.gate.wait(PATIENCE)
            self.effects.append((ctx.principal, "block"))

        with running(server):
            yield server

    def name(self, user: str) -> str:
        """As the broker knows it."""
        return open_transport(self.url(user)).user or ""

    def client(self, user: str, **settings: Any) -> AbstractContextManager[Client]:
        return closing(Client(self.url(user), **{"policies": [], "user_id": True, **settings}))

    def create(self, client: Client, sku: str = "A1", **how: Any) -> Any:
        return client.call(f"{self.side.service}.create", [sku], **how)

    def send(self, user: str, headers: dict[str, Any], body: Any = None, **properties: Any) -> None:
        """A raw message, confirmed; a notification, unless `body` is given."""
        item = body or {"jsonrpc": "2.0", "method": "create", "params": ["A1"]}

        async def scenario() -> None:
            events = Recorder()
            over: Transport = open_transport(self.url(user))
            session = await over.publisher(events, replies=False, timeout=TIMEOUT)
            encoded = encode_properties(headers=encode_headers(headers), correlation_id="t.1", **properties)
            tag = session.publish(self.side.queue, json.dumps(item).encode(), encoded, mandatory=True)
            assert await events.confirmation(tag)
            await session.close()

        asyncio.run(scenario())


@pytest.fixture(scope="module")
def users(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The URL of each of the three users: made once, for each word to `rabbitmqctl` takes a second."""
    broker: Broker = request.getfixturevalue("mistreated_broker")
    family = secrets.token_hex(4)
    for user in ("joe", "ann", "shop"):
        broker.ctl("add_user", f"{user}-{family}", "w0rd")
        broker.ctl("set_permissions", f"{user}-{family}", ".*", ".*", ".*")
    return lambda user: broker.url.replace("guest:guest", f"{user}-{family}:w0rd")


@pytest.fixture(params=["memory", pytest.param("amqp", marks=pytest.mark.broker)])
def world(request: pytest.FixtureRequest, service: str) -> Iterator[World]:
    if request.param == "memory":
        made = World(MemorySide(service), lambda user: f"memory://{user}@{service}")
        yield made
        made.side.clean()
        return
    made = World(
        AmqpSide(service, request.getfixturevalue("private_broker").url, lane=True),
        request.getfixturevalue("users"),
        RedisStore(request.getfixturevalue("redis_url"), namespace=service, timeout=2.0),
    )
    yield made
    made.side.clean()


@pytest.fixture(params=["memory", pytest.param("amqp", marks=pytest.mark.broker)])
def simple(request: pytest.FixtureRequest, service: str) -> Iterator[World]:
    """As `world`, where one user is enough: everybody is guest."""
    if request.param == "memory":
        made = World(MemorySide(service), lambda _: f"memory://{service}")
    else:
        url = request.getfixturevalue("amqp_url")
        made = World(AmqpSide(service, url, lane=True), lambda _: url)
    yield made
    made.side.clean()


def test_the_user_of_the_connection_is_the_principal(simple: World, colour: Colour) -> None:
    with simple.serving():
        client = colour.client(simple.url("joe"), user_id=True, safety="read_only")
        assert colour.call(client, f"{simple.side.service}.create", ["A1"]) == ["guest", 1]


def test_who_does_not_say_who_it_is_is_refused_before_anything_runs(simple: World) -> None:
    with simple.serving(), simple.client("joe", user_id=False) as client:
        with pytest.raises(Refused, match=r"Client\(user_id=True\)") as caught:
            simple.create(client, tags={"user_id": "guest", "tenant": "guest"})
        assert caught.value.certainty is Certainty.NOT_EXECUTED
        assert not caught.value.retryable
    assert simple.effects == []


def test_calls_of_one_batch_are_all_refused(simple: World) -> None:
    with simple.serving(require_user_id=False), simple.client("joe", user_id=False) as client:
        name = f"{simple.side.service}.create"
        client.map(name, [["A1"]] * 50)  # it has learned that the service takes batches
    ran = len(simple.effects)
    with simple.serving(), simple.client("joe", user_id=False) as client:
        found = client.map(name, [["A1"]] * 50, return_errors=True)
        assert {type(error) for error in found} == {Refused}
    assert len(simple.effects) == ran


def test_a_server_that_does_not_ask_serves_everybody_and_believes_nobody(simple: World) -> None:
    with simple.serving(require_user_id=False):
        for user_id in (True, False):
            with simple.client("joe", user_id=user_id) as client:
                assert simple.create(client)[0] is None


def test_the_broker_takes_no_message_under_another_name(simple: World) -> None:
    async def scenario() -> None:
        events = Recorder()
        session = await simple.side.transport().publisher(events, replies=False, timeout=TIMEOUT)
        session.publish(simple.side.queue, b"", encode_properties(user_id="mallory"), mandatory=True)
        error = await events.loss()
        assert type(error) is ConfigurationError
        assert "406 PRECONDITION_FAILED - user_id property set to 'mallory' but authenticated user was 'guest'" in str(
            error
        )
        await session.close()

    asyncio.run(scenario())


def test_the_same_key_of_two_users_is_two_keys_and_two_answers(world: World) -> None:
    with world.serving(), world.client("joe") as joe, world.client("ann") as ann:
        first = [world.create(client, idempotency_key="k") for client in (joe, ann)]
        again = [world.create(client, idempotency_key="k", tags={"tenant": "joe"}) for client in (joe, ann)]
        forged = world.create(ann, idempotency_key="k", tags={USER: world.name("joe")})
    assert first == again == [[world.name("joe"), 1], [world.name("ann"), 2]]
    assert forged == first[1]
    assert len(world.effects) == 2


def test_other_arguments_under_the_key_of_another_user_are_no_conflict(world: World) -> None:
    with world.serving(), world.client("joe") as joe, world.client("ann") as ann:
        world.create(joe, "A1", idempotency_key="k")
        world.create(ann, "B2", idempotency_key="k")
    assert world.effects == [(world.name("joe"), "A1"), (world.name("ann"), "B2")]


def test_without_the_requirement_two_users_share_their_keys(world: World) -> None:
    with world.serving(require_user_id=False), world.client("joe") as joe, world.client("ann") as ann:
        assert world.create(joe, idempotency_key="k") == world.create(ann, idempotency_key="k")
    assert len(world.effects) == 1


def test_nobody_speaks_for_another_but_a_server(world: World) -> None:
    with world.serving() as server:
        world.send("ann", {**OURS, USER: world.name("joe")}, user_id=world.name("ann"))
        until(lambda: server.health()["dead_lettered"] == 1 and server.health()["unacked"] == 0)
        assert world.effects == []
        world.send("shop", {**OURS, USER: world.name("joe")}, user_id=world.name("shop"))
        until(lambda: world.effects == [(world.name("joe"), "A1")])
    [found] = asyncio.run(world.side.read(world.side.dead, 1))
    assert found.headers["rpc-dead-reason"] == "refused"
    assert USER not in found.headers


def test_a_message_that_came_back_is_still_its_senders(world: World) -> None:
    meta = {"key": "k", "safety": "dedup"}
    body = {"jsonrpc": "2.0", "method": "create", "params": ["A1"], "meta": meta}
    with world.serving(), world.client("joe") as joe:
        assert world.create(joe, idempotency_key="k")[1] == 1

    async def die_with_it() -> None:
        async with consuming(world.side) as (_, worker):
            await asyncio.to_thread(world.send, "joe", OURS, body, user_id=world.name("joe"))
            await worker.received(1)

    asyncio.run(die_with_it())
    world.served.clear()
    with world.serving():
        until(lambda: world.served, PATIENCE)
    assert [(event.redelivered, event.replayed) for event in world.served] == [(True, True)]  # one key, all the time
    assert world.effects == [(world.name("joe"), "A1")]


def test_what_a_server_hands_back_when_it_stops_is_still_its_senders(world: World) -> None:
    """Casts that had not begun: an unsafe one goes back as if it had never been delivered."""
    with world.serving(concurrency=1, prefetch=10, policies=[], grace=0.2) as server:
        for _ in range(2):
            world.send("joe", OURS, {"jsonrpc": "2.0", "method": "block"}, user_id=world.name("joe"))
        until(lambda: server.health()["running"] == 1 and server.health()["waiting"] == 1)
    world.gate.set()
    with world.serving(policies=[]):
        until(lambda: (world.name("joe"), "block") in world.effects)


def test_a_dead_letter_says_who_sent_it(world: World) -> None:
    with world.serving() as server:
        world.send("joe", OURS, {"jsonrpc": "2.0", "method": "nothing"}, user_id=world.name("joe"))
        until(lambda: server.health()["dead_lettered"] == 1 and server.health()["unacked"] == 0)
    [found] = asyncio.run(world.side.read(dead_queue(world.side.queue), 1))
    assert found.headers[USER] == world.name("joe")


def test_casts_and_broadcasts_say_who_sends_them_too(simple: World) -> None:
    method = f"{simple.side.service}.create"
    with simple.serving() as server, simple.client("joe") as client, simple.client("joe", user_id=False) as stranger:
        client.cast(method, ["A1"])
        until(lambda: simple.effects == [("guest", "A1")])
        [(_, answer)] = client.broadcast(method, ["B2"], timeout=5.0, expect=1)
        assert answer == ["guest", 2]
        stranger.cast(method, ["C3"])
        until(lambda: server.health()["dead_lettered"] == 1 and server.health()["unacked"] == 0)
    assert simple.effects == [("guest", "A1"), ("guest", "B2")]
    [found] = asyncio.run(simple.side.read(simple.side.dead, 1))
    assert found.headers["rpc-dead-reason"] == "refused"


class Named:
    """A filter that has proof of its own of who sends."""

    def outgoing(self, message: Message) -> Message:
        if message.direction == "reply" and message.principal != "key-1":
            raise MalformedMessage(f"signed by {message.principal}")
        return message

    def incoming(self, message: Message) -> Message:
        return message.replace(principal="key-1")


def test_the_brokers_word_goes_before_a_filters_and_replies_are_still_signed_for_its_key(simple: World) -> None:
    with simple.serving(filters=[Named()]), simple.client("joe") as client:
        assert simple.create(client)[0] == "guest"


@pytest.mark.parametrize("value", [None, 1, "", ["guest"]])
def test_the_settings_are_flags(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="require_user_id="):
        Server("memory://x", service="shop", require_user_id=value)
    with pytest.raises(ConfigurationError, match="user_id="):
        Client("memory://x", user_id=value)


def test_a_user_that_fits_no_property_is_refused_when_the_client_is_made() -> None:
    with pytest.raises(ConfigurationError, match="user_id="):
        Client(f"memory://{'x' * 256}@bus", user_id=True)
