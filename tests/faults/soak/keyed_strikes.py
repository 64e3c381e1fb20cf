"""Faults of servers, and of Redis with the link to it: what can cost a record of a keyed call."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.faults.soak.fleet import Fleet
from tests.faults.soak.schedule import Fault
from tests.faults.soak.strikes import Strikes, cut, down, frozen, pause
from tests.servers.handle import Broker, Server
from tests.servers.proxy import Proxy

AT_SERVERS = frozenset({"server-kill", "server-freeze", "server-outlive", "server-drain"})


class KeyedStrikes(Strikes):
    """Those of `make soak`."""

    def __init__(
        self,
        broker: Broker,
        client_way: Proxy,
        server_way: Proxy,
        *,
        fleet: Fleet,
        store: Server,
        redis_way: Proxy,
        lease: float,
    ) -> None:
        super().__init__(broker, client_way, server_way)
        self._fleet, self._store, self._redis_way, self._lease = fleet, store, redis_way, lease
        self.acts |= {
            "redis-kill": functools.partial(down, store),
            "redis-freeze": functools.partial(frozen, store),
            "redis-cut": lambda _: redis_way.reset(),
            "redis-hang": self._hang,
            "redis-lose": functools.partial(cut, redis_way, 0, "down"),
            "redis-flush": self._flush,
        }

    def strike(self, fault: Fault) -> None:
        """Of a server: with its pid."""
        if fault.kind in AT_SERVERS:
            self._strike_server(fault)
        else:
            super().strike(fault)

    def _strike_server(self, fault: Fault) -> None:
        fleet = self._fleet
        with fleet.lock:
            victim = fleet.pick(fault.draw)
            begin = time.monotonic()
            match fault.kind:
                case "server-kill":
                    fleet.kill(victim)
                    pause(fault.seconds)
                    fleet.replace(victim)
                case "server-drain":
                    fleet.drain(victim)
                    fleet.replace(victim)
                case _:
                    longer = self._lease if fault.kind == "server-outlive" else 0.0
                    stop(victim.pid, lambda: pause(longer + fault.seconds))
            self.note(fault.kind, begin, victim.pid)

    def _hang(self, fault: Fault) -> None:
        self._redis_way.freeze()
        pause(fault.seconds)
        self._redis_way.thaw()

    def _flush(self, _: Fault) -> None:
        with contextlib.suppress(RedisError), connected(self._store.url) as client:
            client.script_flush()


def stop(pid: int, meanwhile: Callable[[], object]) -> None:
    """SIGSTOP, and SIGCONT after `meanwhile`."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)  # it knows that a pid is still the same process
        process.suspend()
        try:
            meanwhile()
        finally:
            process.resume()


@contextlib.contextmanager
def connected(url: str) -> Iterator[Any]:
    """A plain client, without repeats of its own."""
    client: Any = redis.Redis.from_url(url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0), protocol=2)
    try:
        yield client
    finally:
        client.close()
