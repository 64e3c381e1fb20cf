"""A broker that forgets to mark what it delivers again: RabbitMQ 3.10, once it was stopped with messages in a queue."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pika
import pytest

from resilient_rpc import Client, Quorum, Server
from tests.faults.raw import Raw, call
from tests.faults.tools import eventually
from tests.servers.handle import Broker
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.timeout(180)
LOGGER = "resilient_rpc.serving.marks"


class Counting:
    """A server whose unsafe handler waits until it is let go, and writes down its runs."""

    def __init__(self, url: str, service: str, **settings: object) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.runs: list[int] = []
        self.server = Server(url, service=service, **settings)  # type: ignore[arg-type]
        self.server.method(self.hold)

    def hold(self, n: int) -> int:
        self.runs.append(n)
        self.begun.release()
        self.go.wait(60.0)
        return n


def stop_with_messages(broker: Broker, service: str) -> None:
    """Leave transient messages in the queue of a service, and stop the broker in good order."""
    first = Counting(broker.url, service).server
    first.start()
    first.stop()
    with Raw(broker.url, service) as raw:
        for n in range(3):
            raw.send(call("hold", [n]))
        raw.channel.queue_declare(raw.queue, passive=True)  # they are there
    broker.stop()
    broker.start()


def marks(broker: Broker, queue: str) -> bool:
    """Whether a message of the queue that was given back says so."""
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    try:
        channel = connection.channel()
        channel.queue_purge(queue)
        channel.confirm_delivery()
        channel.basic_publish("", queue, b"{}", mandatory=True)
        channel.basic_nack(channel.basic_get(queue)[0].delivery_tag, requeue=True)
        return bool(channel.basic_get(queue, auto_ack=True)[0].redelivered)
    finally:
        connection.close()


@pytest.mark.slow
def test_a_server_that_lost_its_connections_knows_what_it_runs_though_nothing_is_marked(
    private_broker: Broker, proxy: Callable[[str], Proxy], service: str, caplog: pytest.LogCaptureFixture
) -> None:
    stop_with_messages(private_broker, service)
    version = private_broker.ctl("version").strip()
    assert not (version.startswith("3.10.") and marks(private_broker, f"rpc.{service}")), "the broker that is meant"
    caplog.clear()
    way = proxy(private_broker.url)
    counting = Counting(way.url, service)
    with caplog.at_level(logging.WARNING, LOGGER):
        counting.server.start()
    warned = [record.message for record in caplog.records if record.name == LOGGER]
    major, minor = version.split(".")[:2]
    assert len(warned) == ((3, 10) <= (int(major), int(minor)) < (4, 3))
    assert all(f"RabbitMQ {version}" in message and "(hold)" in message for message in warned)
    try:
        with Client(private_broker.url, policies=[]) as client, Raw(private_broker.url, service) as plain:
            future = client.submit(f"{service}.hold", [7], timeout=60.0)
            plain.send(call("hold", [8]))
            for _ in range(2):
                assert counting.begun.acquire(timeout=10.0)
            before = way.accepted
            way.reset()
            eventually(lambda: way.accepted >= before + 2 and counting.server.health()["consuming"], "it is back")
            counting.go.set()
            assert future.result(timeout=10.0) == 7
            assert plain.reply()["result"] == 8
            assert client.call(f"{service}.hold", [9]) == 9
            eventually(lambda: not counting.server.health()["unacked"], "the acks")
        assert sorted(counting.runs) == [7, 8, 9]
    finally:
        counting.go.set()
        counting.server.stop()


def test_a_quorum_queue_is_not_warned_of(amqp_url: str, service: str, caplog: pytest.LogCaptureFixture) -> None:
    server = Counting(amqp_url, service, queue=Quorum()).server
    with caplog.at_level(logging.WARNING, LOGGER):
        server.start()
        server.stop()
    assert not [record for record in caplog.records if record.name == LOGGER]
