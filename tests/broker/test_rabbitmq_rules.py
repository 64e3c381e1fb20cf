"""All that our settings make us declare, consume and publish is what RabbitMQ 4.3 takes: read off the wire's own calls.

The rules are those by which 4.0 to 4.3 differ from 3.x: a queue is durable or exclusive; no mirrors, queue modes or
queue versions; quorum queues have a limit of deliveries and no x-max-priority; prefetch is per consumer; no message is
larger than 16 MiB; what is mandatory never goes to a direct reply address; nothing of ours pretends to be the broker's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from pika.channel import Channel

from resilient_rpc import Classic, Client, Quorum, Server
from resilient_rpc.replies import Direct, Exclusive, Named, PerCall, Pool
from resilient_rpc.transport.amqp.lane import FastLane
from resilient_rpc.transport.properties import decode_headers, decode_properties
from resilient_rpc.transport.queues import OVERFLOWS
from resilient_rpc.transport.reply_queues import ReplyStrategy
from resilient_rpc.transport.topology import Binding, Exchange, Queue, topology
from resilient_rpc.wire.limits import MIB, Limits

CLASSIC = {
    "x-dead-letter-exchange": str,
    "x-expires": int,
    "x-max-length": int,
    "x-max-priority": int,
    "x-message-ttl": int,
    "x-overflow": str,
}
QUORUM = {name: CLASSIC[name] for name in CLASSIC if name != "x-max-priority"} | {
    "x-queue-type": str,
    "x-delivery-limit": int,
}
OUTCOMES = {"drop-head", "reject-publish"}
"""Of x-overflow, in both kinds of queue; classic ones know a third."""
REFUSED = {"x-queue-mode", "x-queue-version", "x-ha-policy", "x-queue-master-locator"}


def check_queue(*, durable: bool, exclusive: bool, auto_delete: bool, arguments: dict[str, Any]) -> None:
    """A declaration that RabbitMQ 4.3 takes, and that means there what it means in 3.x."""
    quorum = arguments.get("x-queue-type") == "quorum"
    assert durable or exclusive, "transient_nonexcl_queues"
    assert not (quorum and (exclusive or auto_delete or not durable))
    assert not REFUSED & arguments.keys()
    for name, value in arguments.items():
        assert type(value) is (QUORUM if quorum else CLASSIC)[name]
        assert not isinstance(value, int) or value > 0
    assert arguments.get("x-overflow", "drop-head") in OUTCOMES


def kinds() -> Iterator[Classic | Quorum]:
    """Every combination of what a queue can be configured with."""
    values: dict[str, tuple[Any, ...]] = {
        "delivery_limit": (None, 1, 5),
        "max_length": (None, 1, 10_000),
        "overflow": OVERFLOWS,
        "ttl": (None, 0.0001, 3_600.0),
        "max_priority": (None, 1, 255),
        "max_dead": (None, 1, 100_000),
    }
    for kind in (Classic, Quorum):
        for chosen in itertools.product(*values.values()):
            settings = dict(zip(values, chosen, strict=True))
            says_nothing = settings["overflow"] != "drop-head" and settings["max_length"] is None
            if not says_nothing and not (kind is Quorum and settings["max_priority"] is not None):
                yield kind(**settings)


def test_every_queue_that_a_server_can_be_configured_with_is_legal() -> None:
    count = 0
    for kind, (version, environment) in itertools.product(kinds(), [(None, None), ("v2", "prod")]):
        server = Server("memory://rules", service="shop", queue=kind, version=version, environment=environment)
        for step in topology(server._queue):
            if isinstance(step, Queue):
                check_queue(
                    durable=step.durable,
                    exclusive=step.exclusive,
                    auto_delete=False,
                    arguments=dict(step.arguments),
                )
                assert len(step.name) <= 255
            elif isinstance(step, Exchange):
                assert step.type in {"headers", "fanout", "direct", "topic"}
            else:
                assert isinstance(step, Binding)
                assert step.arguments["x-match"] == "all-with-x"
        count += 1
    assert count > 500


def test_no_message_is_larger_than_what_rabbitmq_4_takes_unless_somebody_asks_for_it() -> None:
    assert Limits().max_body <= 16 * MIB
    assert Limits().max_headers < 128 * 1024


class Spy:
    """What was said to the broker by all connections of this process."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.said: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.published: list[tuple[str, str, bytes, bytes, bool]] = []
        for name in ("queue_declare", "exchange_declare", "queue_bind", "basic_qos", "basic_consume"):
            patch.setattr(Channel, name, self._listening(name, getattr(Channel, name)))
        publish, announce = FastLane.publish, FastLane.announce

        def published(lane: Any, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
            self.published.append(("", target, body, properties, mandatory))
            return publish(lane, target, body, properties, mandatory=mandatory)

        def announced(lane: Any, exchange: str, body: bytes, properties: bytes, *, mandatory: bool = False) -> int:
            self.published.append((exchange, "", body, properties, mandatory))
            return announce(lane, exchange, body, properties, mandatory=mandatory)

        patch.setattr(FastLane, "publish", published)
        patch.setattr(FastLane, "announce", announced)

    def _listening(self, name: str, original: Any) -> Any:
        def listening(channel: Any, *args: Any, **kwargs: Any) -> Any:
            self.said.append((name, args, kwargs))
            return original(channel, *args, **kwargs)

        return listening

    def all(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        found = [(args, kwargs) for said, args, kwargs in self.said if said == name]
        assert found, f"nobody has called {name}"
        return found


@pytest.mark.timeout(120)
def test_all_that_is_said_to_a_broker_is_legal(amqp_url: str, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    for number, kind in enumerate((Classic(max_priority=5, max_length=100), Quorum(ttl=60.0))):
        name = f"{service}{number}"
        server = Server(amqp_url, service=name, queue=kind)
        server.method(name="echo", safety="read_only")(_echo)
        server.raw(f"rpc.raw.{name}")(lambda body: body)
        server.start()
        try:
            for strategy in (Direct(), Exclusive(), Named(app="rules"), Pool(), PerCall()):
                _speak(amqp_url, name, strategy)
        finally:
            server.stop()
    monkeypatch.undo()

    for _, how in spy.all("queue_declare"):
        if not how.get("passive"):
            check_queue(
                durable=how.get("durable", False),
                exclusive=how.get("exclusive", False),
                auto_delete=how.get("auto_delete", False),
                arguments=dict(how.get("arguments") or {}),
            )
    for args, how in spy.all("exchange_declare"):
        assert how["durable"]
        assert not (how.get("exchange") or args[0]).startswith("amq.")
    for _, how in spy.all("basic_qos"):
        assert not how.get("global_qos")
    for _, how in spy.all("basic_consume"):
        assert not how.get("exclusive"), "a quorum queue knows none"
        assert not (how.get("arguments") or {}).keys() - {"x-priority"}
    for message in spy.published:
        check_message(*message)
    assert {"", *(f"rpc.{service}{n}.all" for n in (0, 1))} <= {exchange for exchange, *_ in spy.published}


async def _echo(n: int) -> int:
    return n


def _speak(url: str, service: str, strategy: ReplyStrategy) -> None:
    with Client(url, replies=strategy, policies=[], app_id="rules", liveness=2.0) as client:
        assert client.call(f"{service}.echo", [1], priority=3) == 1
        assert client.map(f"{service}.echo", [[n] for n in range(20)]) == list(range(20))
        client.cast(f"{service}.echo", [2])
        assert [value for _, value in client.broadcast(f"{service}.echo", [3], timeout=5.0, expect=1)] == [3]
        assert client.call_raw(f"rpc.raw.{service}", b"x", timeout=5.0) == b"x"


def check_message(exchange: str, target: str, body: bytes, properties: bytes, mandatory: bool) -> None:
    """A message that RabbitMQ 4.3 takes, and sends where 3.x does."""
    assert not exchange.startswith("amq.")
    assert not (mandatory and target.startswith("amq.rabbitmq.reply-to"))
    assert len(body) <= 16 * MIB
    found = decode_properties(properties)
    assert found.get("delivery_mode", 1) in {1, 2}
    assert found.get("priority", 0) <= 255
    assert found.get("expiration", "1").isdecimal()
    headers = decode_headers(found["headers"]) if "headers" in found else {}
    assert not [name for name in headers if name.startswith("x-")], "4.0 and later do not read what clients write there"
    assert all(type(value) in {str, int, bool} for value in headers.values())
