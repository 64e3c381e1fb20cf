"""Calls with a key from end to end, over every transport and store: one effect, one answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_rpc import ApplicationError, Certainty, Client, Context, Server
from resilient_rpc.errors import ConnectionLost, DeadlineExceeded, InProgress, KeyReused, Refused, TooLarge
from resilient_rpc.events import CallServed
from resilient_rpc.policies import AttemptTimeout, Chaos, Idempotency, Retry, RetryBudget, for_
from resilient_rpc.stores import MemoryStore, Record, RecordKey, RedisStore
from tests.colours import Colour
from tests.contract.sides import AmqpSide, MemorySide, Side
from tests.waiting import PATIENCE, until


class OutOfStock(ApplicationError):
    type = "out_of_stock"


class World:
    def __init__(self, side: Side, url: str, store: Any) -> None:
        self.side, self.url, self.store = side, url, store
        self.effects: list[Any] = []
        self.gate = threading.Event()
        self.servers: list[Server] = []
        self.served: list[CallServed] = []

    def serve(self, *policies: Any, **settings: Any) -> Server:
        policies = policies or (Idempotency(self.store),)
        server = Server(self.url, service=self.side.service, policies=policies, **settings)
        server.on(CallServed, self.served.append)
        for function in (self.create, self.create_in_thread, self.fail, self.block, self.token):
            server.method(function)
        server.method(name="keyed", safety="dedup")(self.create)
        server.method(name="hasty", timeout=0.1)(self.block)
        self.servers.append(server)
        server.start()
        return server

    async def create(self, sku: str, qty: int = 1) -> dict[str, Any]:
        self.effects.append(sku)
        return {"sku": sku, "number": len(self.effects)}

    def create_in_thread(self, sku: str) -> dict[str, Any]:
        self.effects.append(sku)
        return {"sku": sku, "number": len(self.effects)}

    def fail(self, kind: str) -> None:
        self.effects.append(kind)
        if kind == "stock":
            raise OutOfStock("none left", details={"left": 0})
        raise ValueError(kind)

    def block(self) -> int:
        self.effects.append("block")
        self.gate.wait(PATIENCE)
        return len(self.effects)

    async def token(self, ctx: Context) -> Any:
        return [ctx.key, type(ctx.fencing_token).__name__, ctx.lost_ownership]

    def name(self, method: str) -> str:
        return f"{self.side.service}.{method}"

    def close(self) -> None:
        self.gate.set()
        for server in self.servers:
            server.stop()
        self.side.clean()


@pytest.fixture(params=["memory", pytest.param("rabbitmq+redis", marks=pytest.mark.broker)])
def world(request: pytest.FixtureRequest, service: str) -> Iterator[World]:
    if request.param == "memory":
        made = World(MemorySide(service), f"memory://{service}", MemoryStore())
    else:
        amqp, redis = request.getfixturevalue("amqp_url"), request.getfixturevalue("redis_url")
        made = World(AmqpSide(service, amqp, lane=True), amqp, RedisStore(redis, namespace=service, timeout=2.0))
    yield made
    made.close()


def lossy(*, error: str = "connection", attempts: int = 1) -> list[Any]:
    """The policies of a client that loses the replies of its first attempts."""
    return [
        Retry(attempts=4, base=0.001, budget=RetryBudget(floor=100)),
        AttemptTimeout(limit=1.0),
        Chaos(rate=1.0, drop_reply=error, enabled=True, when=lambda call: call.attempt <= attempts),
    ]


@pytest.mark.parametrize("method", ["create", "create_in_thread"])
def test_a_repeat_gets_the_first_answer(world: World, colour: Colour, method: str) -> None:
    world.serve()
    client = colour.client(world.url, policies=[])
    first = colour.do(client, "request", world.name(method), ["A1"], idempotency_key="order-42")
    again = colour.do(client, "request", world.name(method), {"sku": "A1"}, idempotency_key="order-42")
    assert first.result == again.result == {"sku": "A1", "number": 1}
    assert (first.replayed, again.replayed) == (False, True)
    assert world.effects == ["A1"]
    assert [event.replayed for event in world.served] == [False, True]


@pytest.mark.parametrize("how", [{"idempotency_key": "order-42"}, {"safety": "dedup"}])
def test_a_retry_after_a_lost_reply_has_one_effect_and_gets_the_first_answer(
    world: World, colour: Colour, how: dict[str, Any]
) -> None:
    world.serve()
    client = colour.client(world.url, policies=lossy(attempts=2))
    reply = colour.do(client, "request", world.name("create"), ["A1"], **how)
    assert (reply.result, reply.replayed, reply.attempts) == ({"sku": "A1", "number": 1}, True, 3)
    assert world.effects == ["A1"]


def test_each_call_that_is_dedup_without_a_key_has_one_of_its_own(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, policies=[])
    for _ in range(2):
        colour.call(client, world.name("create"), ["A1"], safety="dedup")
    assert world.effects == ["A1", "A1"]


def test_without_a_key_a_lost_reply_is_not_retried(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, policies=lossy())
    with pytest.raises(ConnectionLost):
        colour.call(client, world.name("create"), ["A1"])
    assert world.effects == ["A1"]


def test_an_error_is_replayed_as_it_was(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, policies=[], errors=[OutOfStock])
    told = []
    for _ in range(2):
        with pytest.raises(OutOfStock) as error:
            colour.call(client, world.name("fail"), ["stock"], idempotency_key="k")
        told.append((error.value.message, error.value.details, error.value.certainty))
    assert told == [("none left", {"left": 0}, Certainty.EXECUTED)] * 2
    for _ in range(2):
        with pytest.raises(ApplicationError, match="broken") as other:
            colour.call(client, world.name("fail"), ["broken"], idempotency_key="l")
        assert other.value.type == "ValueError"
    assert world.effects == ["stock", "broken"]
    assert [event.replayed for event in world.served] == [False, True, False, True]


def test_a_key_with_other_arguments_is_refused(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, policies=[])
    colour.call(client, world.name("create"), ["A1"], idempotency_key="k")
    with pytest.raises(KeyReused) as reused:
        colour.call(client, world.name("create"), ["A2"], idempotency_key="k")
    assert reused.value.certainty is Certainty.NOT_EXECUTED
    with pytest.raises(KeyReused):
        colour.call(client, world.name("create"), {"sku": "A1", "qty": 1}, idempotency_key="k")
    assert world.effects == ["A1"]


def test_repeats_at_once_have_one_effect_without_taking_slots(world: World, colour: Colour) -> None:
    world.serve(concurrency=2, prefetch=20)
    client = colour.client(world.url, policies=[], timeout=PATIENCE)

    def repeat() -> Any:
        return colour.call(client, world.name("block"), idempotency_key="k")

    def another() -> Any:
        return colour.call(client, world.name("create"), ["A1"], idempotency_key="l")

    def release() -> Any:
        threading.Thread(target=_release, args=(world,)).start()
        return another()

    results = colour.together(repeat, repeat, repeat, repeat, repeat, release)
    assert results[:5] == [2] * 5
    assert sorted(world.effects) == ["A1", "block"], "the other call found a slot while they waited"


def _release(world: World) -> None:
    until(lambda: sorted(world.effects) == ["A1", "block"])
    world.gate.set()


def test_repeats_at_two_servers_have_one_effect(world: World, colour: Colour) -> None:
    for _ in range(2):
        world.serve(Idempotency(world.store))
    client = colour.client(world.url, policies=[], timeout=PATIENCE, batching=None)

    def repeat() -> Any:
        return colour.call(client, world.name("create_in_thread"), ["A1"], idempotency_key="k")

    assert colour.together(*[repeat] * 8) == [{"sku": "A1", "number": 1}] * 8
    assert world.effects == ["A1"]


def test_a_handler_that_is_too_slow_goes_on_and_its_answer_is_for_the_repeat(world: World, colour: Colour) -> None:
    world.serve(Idempotency(world.store, wait=0.2))
    client = colour.client(world.url, policies=[], timeout=PATIENCE)
    for _ in range(2):
        with pytest.raises(InProgress) as busy:
            colour.call(client, world.name("hasty"), idempotency_key="k")
        assert busy.value.retryable
    assert world.effects == ["block"]
    world.gate.set()
    until(lambda: _replayed(world))


def _replayed(world: World) -> bool:
    with Client(world.url, policies=[]) as client:
        try:
            return client.request(world.name("hasty"), idempotency_key="k").replayed
        except InProgress:
            return False


def test_the_handler_outlives_its_caller(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, policies=[])
    colour.call(client, world.name("rpc.ping"))  # it is connected
    with pytest.raises((DeadlineExceeded, InProgress)):
        colour.call(client, world.name("block"), idempotency_key="k", timeout=1.0)
    world.gate.set()
    assert colour.call(client, world.name("block"), idempotency_key="k") == 1
    assert world.effects == ["block"]


def test_the_handler_has_its_token(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, policies=[])
    assert colour.call(client, world.name("token"), idempotency_key="k") == ["k", "int", False]
    assert colour.call(client, world.name("token")) == [None, "NoneType", False]


def test_a_method_that_needs_a_key_says_so(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, policies=[])
    with pytest.raises(Refused, match="key") as refused:
        colour.call(client, world.name("keyed"), ["A1"])
    assert refused.value.certainty is Certainty.NOT_EXECUTED
    assert colour.call(client, world.name("keyed"), ["A1"], idempotency_key="k")["number"] == 1


def test_where_no_records_are_kept_keys_are_refused_method_by_method(world: World, colour: Colour) -> None:
    world.serve(for_(world.name("create"), Idempotency(world.store)))
    client = colour.client(world.url, policies=[])
    assert colour.call(client, world.name("create"), ["A1"], idempotency_key="k")["number"] == 1
    with pytest.raises(Refused, match="no record of keys"):
        colour.call(client, world.name("create_in_thread"), ["A1"], idempotency_key="k")
    with pytest.raises(Refused, match="no record of keys"):
        colour.call(client, world.name("keyed"), ["A1"])
    assert world.effects == ["A1"]


def test_repeats_that_wait_leave_room_for_other_calls(world: World, colour: Colour) -> None:
    world.serve(concurrency=2)
    client = colour.client(world.url, policies=[], timeout=PATIENCE, batching=None)

    def repeat() -> Any:
        return colour.call(client, world.name("block"), idempotency_key="k")

    def release() -> Any:
        threading.Thread(target=_release, args=(world,)).start()
        return colour.call(client, world.name("create"), ["A1"], idempotency_key="l")

    results = colour.together(*[repeat] * 8, release)
    assert {type(result) for result in results} == {int, InProgress, dict}
    assert sorted(world.effects) == ["A1", "block"]


def test_a_handler_that_blocks_the_loop_of_its_server_keeps_its_record(world: World, colour: Colour) -> None:
    server = Server(world.url, service=world.side.service, policies=[Idempotency(world.store, lease=0.3, ttl=60)])
    world.servers.append(server)

    @server.method
    async def hold_the_loop() -> str:
        world.effects.append("block")
        world.gate.wait(PATIENCE)
        return "done"

    server.start()
    record = RecordKey("default", world.side.service, "hold_the_loop", "k")
    with Client(world.url, policies=[]) as alone:
        future = alone.submit(world.name("hold_the_loop"), timeout=PATIENCE, idempotency_key="k")
        until(lambda: world.effects)
        begin = time.monotonic()
        until(lambda: time.monotonic() > begin + 1)
        held = asyncio.run(_look(world.store, record))
        assert held is not None
        assert (held.progress, held.lease_left > 0) == ("running", True)
        world.gate.set()
        assert future.result(PATIENCE) == "done"
    assert colour.do(
        colour.client(world.url, policies=[]), "request", world.name("hold_the_loop"), idempotency_key="k"
    ).replayed


async def _look(store: Any, key: RecordKey) -> Record | None:
    try:
        found: Record | None = await store.get(key)
        return found
    finally:
        await store.close()


def test_a_server_that_stops_tells_its_callers_that_it_goes_on(world: World, colour: Colour) -> None:
    server = world.serve(Idempotency(world.store, lease=0.6), grace=0.1)
    with Client(world.url, policies=[]) as alone:
        future = alone.submit(world.name("block"), timeout=PATIENCE, idempotency_key="k")
        repeat = alone.submit(world.name("block"), timeout=PATIENCE, idempotency_key="k")
        until(lambda: world.effects)
        server.stop()
        for told in (future, repeat):
            with pytest.raises(InProgress):
                told.result(PATIENCE)
    world.serve(Idempotency(world.store, wait=0))
    client = colour.client(world.url, policies=[])
    begin = time.monotonic()
    until(lambda: time.monotonic() > begin + 1)
    with pytest.raises(InProgress):
        colour.call(client, world.name("block"), idempotency_key="k")
    assert world.effects == ["block"], "its thread still runs in this process, and holds the record"
    world.gate.set()
    until(lambda: _done(client, colour, world))
    assert world.effects == ["block", "block"]


def _done(client: Any, colour: Colour, world: World) -> bool:
    try:
        colour.call(client, world.name("block"), idempotency_key="k")
    except InProgress:
        return False
    return True


def test_tenants_do_not_see_each_others_answers(world: World, colour: Colour) -> None:
    world.serve(tenant="acme").stop()
    client = colour.client(world.url, policies=[], timeout=PATIENCE)
    for number, tenant in enumerate(["acme", "globex"], 1):
        server = world.serve(tenant=tenant)
        assert colour.call(client, world.name("create"), ["A1"], idempotency_key="k")["number"] == number
        server.stop()


def test_a_batch_is_keyed_call_by_call(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, policies=[], safety="dedup")
    arguments = [[f"A{number}"] for number in range(50)]
    results = colour.do(client, "map", world.name("create"), arguments)
    assert [result["sku"] for result in results] == [f"A{number}" for number in range(50)]
    assert sorted(world.effects) == sorted(sku for [sku] in arguments)


def test_a_replay_costs_no_time_of_the_handler(world: World, colour: Colour) -> None:
    world.serve()
    client = colour.client(world.url, policies=[])
    threading.Timer(0.3, world.gate.set).start()
    colour.call(client, world.name("block"), idempotency_key="k")
    begin = time.monotonic()
    colour.call(client, world.name("block"), idempotency_key="k")
    assert time.monotonic() - begin < 0.25


def test_a_result_too_large_to_be_kept_is_said_to_have_been_executed(world: World, colour: Colour) -> None:
    world.serve(Idempotency(world.store, max_result_bytes=20))
    client = colour.client(world.url, policies=[])
    colour.call(client, world.name("create"), ["A" * 30], idempotency_key="k")
    with pytest.raises(TooLarge, match="too large to be kept") as error:
        colour.call(client, world.name("create"), ["A" * 30], idempotency_key="k")
    assert error.value.certainty is Certainty.EXECUTED
    assert len(world.effects) == 1
