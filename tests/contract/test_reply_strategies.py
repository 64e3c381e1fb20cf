"""Calls under every reply strategy and with every kind of correlation id, over every transport."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_rpc import ApplicationError, AsyncClient, Batching, Client, Server
from resilient_rpc.replies import Direct, Exclusive, Named, PerCall, Pool
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.transport.reply_queues import ReplyStrategy
from resilient_rpc.wire.filters import Message
from tests.colours import Colour
from tests.contract.recorder import Recorder, Worker
from tests.contract.sides import Side
from tests.waiting import PATIENCE, until

STRATEGIES = [Direct(), Exclusive(), Named(app="shop"), Pool(size=3), PerCall()]
ADDRESSES = {
    Direct: r"amq\.rabbitmq\.reply-to\..+",
    Exclusive: r"amq\.gen-.+",
    Named: r"rpc\.reply\.shop\.[0-9a-f]{32}",
    Pool: r"amq\.gen-.+",
    PerCall: r"amq\.gen-.+",
}
SUFFIXES = {
    "sequence": "",
    "uuid": r"\.[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "time": r"\.\d{19}-[0-9a-f]{8}",
    "thread": r"\.\d+-\d+",
}


class Watcher:
    """A filter that notes messages, and changes none."""

    def __init__(self) -> None:
        self.arrived: list[Message] = []
        self.left: list[Message] = []

    def incoming(self, message: Message) -> Message:
        self.arrived.append(message)
        return message

    def outgoing(self, message: Message) -> Message:
        self.left.append(message)
        return message


class Shop:
    """A server, and what it saw."""

    def __init__(self, side: Side) -> None:
        self.side, self.url, self.service, self.seen = side, side.url, side.service, Watcher()
        self.gate = threading.Event()
        self.server = Server(self.url, service=side.service, filters=[self.seen])
        for function in (echo, fail, self.hold):
            self.server.method(function)
        self.server.start()

    def hold(self, value: Any = None) -> Any:
        self.gate.wait(PATIENCE)
        return value

    def name(self, method: str) -> str:
        return f"{self.service}.{method}"

    def close(self) -> None:
        self.gate.set()
        self.server.stop()


async def echo(value: Any = None) -> Any:
    return value


async def fail() -> None:
    raise ValueError("failed")


@pytest.fixture
def shop(each_broker: Side) -> Iterator[Shop]:
    made = Shop(each_broker)
    yield made
    made.close()


EACH = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: type(strategy).__name__)


@EACH
def test_results_and_errors_come_back(shop: Shop, colour: Colour, strategy: ReplyStrategy) -> None:
    client = colour.client(shop.url, replies=strategy, policies=[])
    for value in (None, 5, "x" * 200_000):
        assert colour.call(client, shop.name("echo"), [value]) == value
    with pytest.raises(ApplicationError, match="failed"):
        colour.call(client, shop.name("fail"))
    addresses = {str(message.reply_to) for message in shop.seen.arrived}
    assert all(re.fullmatch(ADDRESSES[type(strategy)], address) for address in addresses)
    assert len(addresses) == {Direct: 1, Exclusive: 1, Named: 1, Pool: 3, PerCall: 4}[type(strategy)]
    assert client.stats().unknown_replies == 0


@EACH
def test_many_at_once_come_back_in_order(shop: Shop, strategy: ReplyStrategy) -> None:
    # So much time that how quick this machine is does not decide how many calls share a message.
    batching = Batching(max_seconds=3600.0)
    with Client(shop.url, replies=strategy, policies=[], batching=batching) as client:
        assert client.call(shop.name("echo"), [0]) == 0
        assert client.map(shop.name("echo"), [[n] for n in range(300)]) == list(range(300))
    calls = [message for message in shop.seen.arrived if message.headers.get("rpc-calls") == 1]
    assert len(calls) == 301 if isinstance(strategy, PerCall) else len(shop.seen.arrived) < 301, "batched, or not"
    if isinstance(strategy, Pool):
        counts = Counter(message.reply_to for message in shop.seen.arrived)
        assert max(counts.values()) - min(counts.values()) <= 1


@EACH
def test_a_reply_that_nobody_waits_for_is_counted_and_harms_no_call(shop: Shop, strategy: ReplyStrategy) -> None:
    async def forge(address: str, correlation: str) -> None:
        publisher = await shop.side.transport().publisher(events := Recorder(), replies=False, timeout=PATIENCE)
        number = correlation.rpartition(".")[2]
        for forged in (f"{'x' * 22}.{number}", number, ""):
            body = b'{"jsonrpc": "2.0", "id": 1, "result": "forged"}'
            properties = encode_properties(correlation_id=forged, content_type="application/json")
            await events.confirmation(publisher.publish(address, body, properties, mandatory=False))
        await publisher.close()

    with Client(shop.url, replies=strategy, policies=[]) as client:
        future = client.submit(shop.name("hold"), ["true"])
        until(lambda: shop.seen.arrived)
        (request,) = shop.seen.arrived
        asyncio.run(forge(str(request.reply_to), str(request.correlation_id)))
        until(lambda: client.stats().unknown_replies == 3)
        shop.gate.set()
        assert future.result(PATIENCE) == "true"


@EACH
def test_the_reply_to_a_client_that_is_gone_is_dropped_and_its_request_acked(
    shop: Shop, strategy: ReplyStrategy
) -> None:
    with Client(shop.url, replies=strategy, policies=[]) as client:
        future = client.submit(shop.name("hold"))
        until(lambda: shop.server.health()["running"] == 1)
    assert future.exception(PATIENCE) is not None
    shop.gate.set()
    until(lambda: shop.server.health()["unacked"] == 0 and shop.server.health()["running"] == 0)
    # Nobody says so of the direct reply address.
    assert shop.server.health()["replies_returned"] == (0 if isinstance(strategy, Direct) else 1)
    assert len(shop.seen.left) == 1, "not sent again and again"


@EACH
def test_a_filter_sees_where_a_reply_was_sent(shop: Shop, strategy: ReplyStrategy) -> None:
    seen = Watcher()
    with Client(shop.url, replies=strategy, policies=[], filters=[seen]) as client:
        for n in range(5):
            assert client.call(shop.name("echo"), [n]) == n
    asked = [message.reply_to for message in seen.left]
    assert [message.target for message in seen.arrived] == asked
    if not isinstance(strategy, Direct):  # of which the client knows the pseudonym only
        assert [message.target for message in shop.seen.left] == asked


@pytest.mark.parametrize("correlation", SUFFIXES)
def test_correlation_ids_have_a_secret_a_number_and_what_was_asked_for(
    shop: Shop, colour: Colour, correlation: str
) -> None:
    client = colour.client(shop.url, correlation=correlation, policies=[])
    for n in range(3):
        assert colour.call(client, shop.name("echo"), [n]) == n
    ids = [str(message.correlation_id) for message in shop.seen.arrived]
    pattern = r"([A-Za-z0-9_-]{22})\.(\d+)" + SUFFIXES[correlation]
    matches = [re.fullmatch(pattern, each) for each in ids]
    assert all(matches), ids
    assert len({match and match[1] for match in matches}) == 1
    assert [match and match[2] for match in matches] == ["1", "2", "3"]
    assert [message.message_id for message in shop.seen.arrived] == ids


def test_calls_of_several_threads_name_their_threads(shop: Shop) -> None:
    with Client(shop.url, correlation="thread", policies=[], batching=None) as client:
        threads: dict[int, int] = {}

        def work(value: int) -> None:
            threads[value] = threading.get_native_id()
            assert client.call(shop.name("echo"), [value]) == value

        workers = [threading.Thread(target=work, args=(value,)) for value in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(PATIENCE)
    named = Counter(str(message.correlation_id).split(".")[2].split("-")[0] for message in shop.seen.arrived)
    assert named == Counter(str(ident & (2**22 - 1)) for ident in threads.values())
    sequence = {int(str(message.correlation_id).split("-")[-1]) for message in shop.seen.arrived}
    assert sequence == set(range(1, 9))


def test_an_unreadable_reply_ends_the_call_that_it_answers_whatever_its_id_ends_with(side: Side) -> None:
    async def main() -> None:
        for correlation in SUFFIXES:
            worker, answers = Worker(acks=True), Recorder()
            consumer = await side.transport().consumer(worker, side.spec(), prefetch=1, timeout=PATIENCE)
            worker.consumer = consumer
            publisher = await side.transport().publisher(answers, replies=False, timeout=PATIENCE)
            async with AsyncClient(side.url, correlation=correlation, policies=[], batching=Batching()) as client:
                call = client.submit(f"{side.service}.m")
                (request,) = await worker.received(1)
                properties = request.properties
                reply = encode_properties(correlation_id=properties["correlation_id"], content_type="text/plain")
                publisher.publish(properties["reply_to"], b"?", reply, mandatory=False)
                with pytest.raises(Exception, match="text/plain"):
                    await call
            await publisher.close()
            await consumer.close()

    asyncio.run(main())
