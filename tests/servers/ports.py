"""Ports that nobody uses, and waiting for one to answer."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable

from tests.servers.handle import ServerError

HOST = "127.0.0.1"

# Below the range that the kernel takes ports of outgoing connections from. A client that reconnects to a killed server
# on a port inside that range sooner or later connects to itself, and then holds the port the server wants back.
FIRST, LAST = 20_000, 32_000


def free_port() -> int:
    """A port of loopback that can be bound now; the caller still has to be ready to lose the race for it."""
    while True:
        port = random.randrange(FIRST, LAST)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether a server could bind this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Poll until the condition holds; `ServerError` names what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def answers(port: int, say: bytes, expect: bytes, host: str = HOST) -> bool:
    """Whether what listens there answers these bytes with an answer that begins so (`expect` may be empty: any)."""
    try:
        with socket.create_connection((host, port), timeout=1.0) as connection:
            connection.sendall(say)
            answer = connection.recv(64)
    except OSError:
        return False
    return bool(answer) and answer.startswith(expect)


def speaks_amqp(port: int, host: str = HOST) -> bool:
    """Whether a RabbitMQ there is ready: it opens its listeners last, and greets with Connection.Start."""
    return answers(port, b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00", host)


def speaks_redis(port: int, host: str = HOST) -> bool:
    """Whether a Redis there is ready (one that still loads its data answers -LOADING)."""
    return answers(port, b"PING\r\n", b"+PONG", host)
