"""Faults of links, channels, queues and messages: what plain calls have to survive."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import random
import time
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from resilient_rpc import Client, RpcError
from tests.broker.bombs import BOMBS
from tests.faults.soak.republish import TROUBLE, connection
from tests.faults.soak.schedule import Fault
from tests.faults.soak.strikes import Strikes, cut, pause, stuck
from tests.servers.handle import Broker, ServerError
from tests.servers.proxy import Proxy

ALARM = """
vm_memory_monitor:set_vm_memory_high_watermark({{absolute, "1MB"}}), timer:sleep({ms}),
vm_memory_monitor:set_vm_memory_high_watermark(0.4).
"""
FULL = """
rabbit_policy:set(<<"/">>, <<"full">>, <<"^rpc\\\\.{service}$">>,
                  [{{<<"max-length">>, 0}}, {{<<"overflow">>, <<"reject-publish">>}}], 9, <<"queues">>, <<"soak">>),
timer:sleep({ms}), rabbit_policy:delete(<<"/">>, <<"full">>, <<"soak">>).
"""
DOUBLE_ACK = "[rabbit_channel:do(C, {'basic.ack', 999999999, false}) || C <- rabbit_channel:list_local()]."
BODIES = (
    b"",
    b"\x00\xff\xfe",
    b"{" * 10_000,
    b"[" * 10_000,
    b'{"jsonrpc": "2.0", "id": 1, "method": "__class__", "params": []}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "no.such", "params": {"id": "x"}}',
    b'{"jsonrpc": "2.0", "id": {}, "method": 7}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "create", "params": {"id": {}}}',
    b"[]",
    b'[1, null, {"jsonrpc": "1.0"}]',
)
ADDRESSES = (
    "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM.junk",  # before 4.2, 541 for whoever publishes to it
    "amq.rabbitmq.reply-to.",
    "rpc.{service}",
    "rpc.{service}.dead",
    "x" * 255,
    "amq.gen-of-nobody",
    "exchange|queue",
)
FLOOD = 400
SLOW = 0.3
TTL_MS = 500
CLEARED_WITHIN = 60.0


class LinkStrikes(Strikes):
    """Those of `make soak-links`."""

    def __init__(self, broker: Broker, client_way: Proxy, server_way: Proxy, *, service: str, seed: int) -> None:
        super().__init__(broker, client_way, server_way)
        self._service, self._queue = service, f"rpc.{service}"
        self._draw = random.Random(f"{seed} messages")
        self._numbers = itertools.count(1)
        self.made: set[str] = set()
        """Ids of calls that no caller noted, which may take effect."""
        self.acts |= {
            "broker-stop": self._restart,
            "broker-alarm": lambda fault: self._eval(ALARM.format(ms=int(1000 * fault.seconds))),
            "broker-full": self._full,
            "channels-close": lambda _: self._eval(DOUBLE_ACK),
            "queue-delete": self._raw(lambda channel: channel.queue_delete(self._queue)),
            "replies-delete": self._delete_replies,
            "client-bytes": functools.partial(self._bytes, client_way),
            "client-handshake": functools.partial(self._handshake, client_way),
            "server-freeze-link": functools.partial(stuck, server_way, ()),
            "server-bytes": functools.partial(self._bytes, server_way),
            "server-handshake": functools.partial(self._handshake, server_way),
            "hostile-body": self._raw(self._bodies),
            "hostile-header": self._raw(self._headers),
            "hostile-address": self._raw(self._addresses),
            "hostile-reply": self._replies,
            "dead-caller": self._raw(self._dead_caller),
            "flood": self._raw(self._flood),
            "poison": self._raw(self._poison),
        }

    # --- the broker, by its operator ---

    def _restart(self, fault: Fault) -> None:
        self.broker.stop()
        pause(fault.seconds)
        self.broker.start()

    def _eval(self, expression: str) -> bool:
        """False if there was no broker to do it."""
        try:
            self.broker.ctl("eval", " ".join(expression.split()))
        except ServerError:
            return False
        return True

    def _full(self, fault: Fault) -> None:
        if self._eval(FULL.format(service=self._service, ms=int(1000 * fault.seconds))):
            return
        until = time.monotonic() + CLEARED_WITHIN  # the broker went away amid it: the policy has not
        while (trouble := self._clear()) and time.monotonic() < until:
            pause(0.2)
        assert not trouble, f"the queue still has limits after {CLEARED_WITHIN} s: {trouble}"

    def _clear(self) -> str:
        """What is in the way."""
        try:
            self.broker.ctl("clear_policy", "full")
        except ServerError as error:
            return "" if "does not exist" in str(error) else str(error)
        return ""

    def _delete_replies(self, _: Fault) -> None:
        with contextlib.suppress(ServerError):
            names = [name for name in self.broker.ctl("list_queues", "name").split() if name.startswith("rpc.reply.")]
            for name in names:
                self._raw(functools.partial(BlockingChannel.queue_delete, queue=name))(None)

    # --- links ---

    def _bytes(self, link: Proxy, fault: Fault) -> None:
        cut(link, int(20_000 * fault.draw), "up" if self._draw.random() < 0.5 else "down", fault)

    def _handshake(self, link: Proxy, fault: Fault) -> None:
        link.reset()
        cut(link, 8 + int(600 * fault.draw), "down", fault)

    # --- messages ---

    def _raw(self, act: Callable[[BlockingChannel], object]) -> Callable[[Fault | None], None]:
        """On a connection of its own; nothing if there is no broker."""

        def strike(_: Fault | None) -> None:
            with contextlib.suppress(*TROUBLE), connection(self.broker.url) as opened:
                act(opened.channel())

        return strike

    def _bodies(self, channel: BlockingChannel) -> None:
        address = channel.queue_declare("", exclusive=True).method.queue
        for body in BODIES:
            for content_type in ("application/json", "application/x-python-pickle", None):
                properties = pika.BasicProperties(content_type=content_type, reply_to=address, correlation_id="c")
                channel.basic_publish("", self._queue, body, properties)

    def _headers(self, channel: BlockingChannel) -> None:
        for bomb in BOMBS.values():
            channel.basic_publish("", self._queue, b"{}", Encoded(bomb))

    def _addresses(self, channel: BlockingChannel) -> None:
        for address in ADDRESSES:
            self._call(channel, "create", reply_to=address.format(service=self._service))

    def _replies(self, _: Fault) -> None:
        """To calls of a moment ago, which by now have their answers, or have ended without."""
        try:
            with Client(self.broker.url, policies=[], batching=None) as client:
                known = client.call(f"{self._service}.recent", timeout=1.0, safety="read_only")
        except RpcError:
            return
        pause(4.0 * SLOW)
        self._raw(functools.partial(self._answer, known))(None)

    def _answer(self, known: list[tuple[str, str]], channel: BlockingChannel) -> None:
        forged = b'{"jsonrpc": "2.0", "id": 1, "result": "forged"}'
        for address, correlation_id in known:
            for name, body in ((correlation_id, b"\xff"), ("of-nobody", forged), (f"{correlation_id}0", b"[]")):
                properties = pika.BasicProperties(content_type="application/json", correlation_id=name)
                channel.basic_publish("", address, body, properties)

    def _dead_caller(self, channel: BlockingChannel) -> None:
        address = channel.queue_declare("", exclusive=True).method.queue
        for _ in range(10):
            self._call(channel, "create", seconds=SLOW, reply_to=address)

    def _flood(self, channel: BlockingChannel) -> None:
        for _ in range(FLOOD):
            self._call(channel, "create", seconds=SLOW, expiration=str(TTL_MS))

    def _poison(self, channel: BlockingChannel) -> None:
        self._call(channel, "poison", delivery_mode=2)

    def _call(self, channel: BlockingChannel, method: str, *, seconds: float | None = None, **properties: Any) -> None:
        params: dict[str, Any] = {"id": f"stranger-{next(self._numbers)}"}
        self.made.add(params["id"])
        if seconds is not None:
            params["seconds"] = seconds
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        known = pika.BasicProperties(content_type="application/json", correlation_id=params["id"], **properties)
        channel.basic_publish("", self._queue, json.dumps(body).encode(), known)


class Encoded(pika.BasicProperties):
    """Properties that are there as bytes of the wire: an ordinary client does not write them."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def encode(self) -> list[bytes]:
        """What pika joins."""
        return [self._data]
