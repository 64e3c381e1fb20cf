"""The broker of a run: named by the user, or one that is started as the tests start theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pika
import psutil

from tests.servers import choose
from tests.servers.handle import Broker, RemoteBroker
from tests.servers.rabbitmq import LocalBroker


@contextlib.contextmanager
def broker_url(url: str | None) -> Iterator[str]:
    """The URL of a running RabbitMQ."""
    with opened(url) as (found, _):
        yield found


@contextlib.contextmanager
def opened(url: str | None) -> Iterator[tuple[str, Broker | None]]:
    """The URL of a running RabbitMQ, and the broker itself if it is ours to kill."""
    if url:
        yield url, None
        return
    chosen = choose.broker()
    if isinstance(chosen, LocalBroker):  # the tests give theirs one scheduler
        chosen._env.pop("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", None)
    with chosen as started:
        yield started.url, None if isinstance(started, RemoteBroker) else started


def version(url: str) -> str:
    """What the broker says of itself."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        said: dict[str, Any] = connection._impl.server_properties
        return str(said.get("version", "unknown"))
    finally:
        connection.close()


def process(url: str) -> psutil.Process | None:
    """The broker's process, if it runs on this machine where we may look.

    The eldest of those that have its port: what it starts has it, too, for a moment or longer, and may be seen first.
    """
    port = urlsplit(url).port
    with contextlib.suppress(psutil.Error):
        entries = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN and each.pid]
        found = [psutil.Process(each.pid) for each in entries if each.laddr.port == port]
        return min(found, key=psutil.Process.create_time, default=None)
    return None


def declare(url: str, queue: str) -> None:
    """A queue as a server would declare it, for calls that nobody shall answer."""
    with _channel(url) as channel:
        channel.queue_declare(queue=queue, durable=True)


def forget(url: str, queue: str) -> None:
    """Delete a queue, if it is there."""
    with _channel(url) as channel:
        channel.queue_delete(queue=queue)


@contextlib.contextmanager
def _channel(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        connection.close()
