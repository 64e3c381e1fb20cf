"""A publisher that knows nothing of this library, and sends what others have called: the same message, twice."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

from tests.faults.soak.callers import Order, Said
from tests.faults.soak.server import SOLD_OUT

PATIENCE = 2.0
TTL_MS = 2000
TROUBLE = (AMQPError, AMQPConnectorException, OSError)


class Republisher:
    """A thread. `made`: the calls there are; it takes some of the latest."""

    def __init__(self, url: str, service: str, made: list[Order], seed: int) -> None:
        self._url, self._service, self._made = url, service, made
        self._draw = random.Random(f"{seed} republish")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak-republish")
        self.said: list[Said] = []
        self.sent: set[str] = set()
        """Keys: these may take effect although their caller was told that they did not."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(*TROUBLE), connection(self._url) as opened:
                self._session(opened)
            self._stop.wait(0.2)

    def _session(self, opened: pika.BlockingConnection) -> None:
        channel = opened.channel()
        address = channel.queue_declare("", exclusive=True).method.queue
        while not self._stop.is_set():
            recent = self._made[-20:]
            if recent:
                order = self._draw.choice(recent)
                self.sent.add(order.key)
                self.said += twice(opened, channel, address, self._service, order, PATIENCE)
            opened.sleep(self._draw.uniform(0.02, 0.2))


@contextlib.contextmanager
def connection(url: str) -> Iterator[pika.BlockingConnection]:
    """One that notices soon when nobody is there."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat, parameters.socket_timeout, parameters.stack_timeout = 2, 2.0, 3.0
    parameters.blocked_connection_timeout = 2.0
    opened = pika.BlockingConnection(parameters)
    try:
        yield opened
    finally:
        if opened.is_open:
            with contextlib.suppress(*TROUBLE):
                opened.close()


def twice(
    opened: pika.BlockingConnection,
    channel: BlockingChannel,
    address: str,
    service: str,
    order: Order,
    seconds: float,
) -> list[Said]:
    """Publish the call two times with one correlation id; the answers that come within so many seconds."""
    begin = time.monotonic()
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "deliver",
        "params": order.params,
        "meta": {"key": order.key, "ttl": TTL_MS},
    }
    properties = pika.BasicProperties(
        content_type="application/json", reply_to=address, correlation_id=order.key, expiration=str(TTL_MS)
    )
    for _ in range(2):
        channel.basic_publish("", f"rpc.{service}", json.dumps(request).encode(), properties)
    said: list[Said] = []
    while len(said) < 2 and time.monotonic() < begin + seconds:
        opened.process_data_events(0.05)
        method, answered, body = channel.basic_get(address, auto_ack=True)
        if method is not None and answered.correlation_id == order.key:
            said.append(read_reply(order.key, begin, json.loads(body)))
    return said


def read_reply(key: str, begin: float, reply: dict[str, Any]) -> Said:
    """What it says, as callers note it."""
    error = reply.get("error")
    common: dict[str, Any] = {"key": key, "begin": begin, "end": time.monotonic(), "timeout": PATIENCE}
    if error is None:
        return Said(answer=reply["result"], **common)
    data = error.get("data") or {}
    if data.get("type") == SOLD_OUT:
        return Said(answer=error["message"], **common)
    return Said(error=f"{error['code']}: {error['message']}"[:200], **common)
