"""Several Redis that belong together: a cluster of three masters, and a master with a replica and three sentinels."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from tests.servers.guard import GUARD
from tests.servers.handle import ServerError
from tests.servers.ports import HOST, free_port, speaks_redis, wait_until
from tests.servers.process import Process
from tests.servers.redis import BOOT_SECONDS, LocalRedis, find

SLOTS = 16384
MASTER = "records"
"""What the sentinels call the master."""


def ask(port: int, *words: str | int) -> Any:
    """One command, on a connection of its own."""
    with contextlib.closing(redis.Redis(host=HOST, port=port, socket_timeout=5)) as client:
        return client.execute_command(*words)


def binary() -> Path:
    """A local `redis-server`, or an error that says what to do."""
    found = find()
    if found is None:
        raise ServerError("a group of Redis needs a local redis-server (as root on Debian: make servers)")
    return found


class _Group:
    """Starts its parts, and ends them all."""

    def __init__(self) -> None:
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._opened.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def _begin(self) -> None:
        raise NotImplementedError

    def _start(self, **options: str) -> LocalRedis:
        names = {name.replace("_", "-"): value for name, value in options.items()}
        return self._opened.enter_context(LocalRedis(binary(), names))


class RedisCluster(_Group):
    """Three masters. One that is down takes only its own slots with it."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[LocalRedis] = []

    @property
    def url(self) -> str:
        """Of two of the three."""
        return f"redis+cluster://{HOST}:{self.nodes[0].port},{HOST}:{self.nodes[1].port}"

    def node_of(self, slot: int) -> LocalRedis:
        """Where the slot is, as long as no test moves it."""
        return self.nodes[slot * 3 // SLOTS]

    def id_of(self, node: LocalRedis) -> str:
        """What the others call it."""
        found: Any = ask(node.port, "CLUSTER", "MYID")
        return str(found.decode())

    def wait_until_well(self) -> None:
        """All know all."""
        wait_until(lambda: all(map(self._is_well, self.nodes)), seconds=20, what="cluster")

    def _begin(self) -> None:
        first_bus = bus = free_port()
        for number in range(3):
            node = self._start(
                cluster_enabled="yes",
                cluster_port=str(bus),
                cluster_node_timeout="1500",
                cluster_require_full_coverage="no",
            )
            self.nodes.append(node)
            first, last = (-(-SLOTS * each // 3) for each in (number, number + 1))
            ask(node.port, "CLUSTER", "ADDSLOTS", *range(first, last))
            ask(node.port, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            bus = free_port()
            if number:
                ask(node.port, "CLUSTER", "MEET", HOST, self.nodes[0].port, first_bus)
        self.wait_until_well()

    @staticmethod
    def _is_well(node: LocalRedis) -> bool:
        try:
            state = _pairs(ask(node.port, "CLUSTER", "INFO"))
        except redis.RedisError:
            return False
        return state >= {("cluster_state", "ok"), ("cluster_size", "3"), ("cluster_slots_ok", str(SLOTS))}


class Sentinel:
    """One sentinel."""

    def __init__(self, master: LocalRedis) -> None:
        self.port = free_port()
        self._home = Path(tempfile.mkdtemp(prefix="rpc-test-sentinel-"))
        GUARD.remove(str(self._home))
        configuration = self._home / "sentinel.conf"
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {self._home}",
            f"sentinel monitor {MASTER} {HOST} {master.port} 2",
            f"sentinel down-after-milliseconds {MASTER} 1500",
            f"sentinel failover-timeout {MASTER} 3000",
        ]
        configuration.write_text("\n".join(lines))
        command = [str(binary()), str(configuration), "--sentinel"]
        self.process = Process(command, port=self.port, env=os.environ, log=self._home / "console.log")
        self.process.wait_ready(lambda: speaks_redis(self.port), seconds=BOOT_SECONDS, what="sentinel")

    def dispose(self) -> None:
        """End it."""
        self.process.signal(signal.SIGCONT)
        self.process.kill()
        shutil.rmtree(self._home, ignore_errors=True)


class Sentinels(_Group):
    """A master, its replica, and three sentinels that agree on which is which."""

    def __init__(self) -> None:
        super().__init__()
        self.redis: list[LocalRedis] = []
        """First the master, as long as there was no failover."""
        self.sentinels: list[Sentinel] = []

    @property
    def url(self) -> str:
        """With all sentinels."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}/0"

    def _begin(self) -> None:
        master = self._start()
        replica = self._start(replicaof=f"{HOST} {master.port}", repl_diskless_sync_delay="0")
        self.redis = [master, replica]
        self._until(
            lambda: ("master_link_status", "up") in _pairs(ask(replica.port, "INFO", "replication")), "replica in sync"
        )
        for _ in range(3):
            sentinel = Sentinel(master)
            self._opened.callback(sentinel.dispose)
            self.sentinels.append(sentinel)
        self._until(self._agreed, "sentinels that know each other")

    def _agreed(self) -> bool:
        return all(
            _pairs(ask(sentinel.port, "SENTINEL", "MASTER", MASTER))
            >= {("num-other-sentinels", "2"), ("num-slaves", "1"), ("flags", "master")}
            for sentinel in self.sentinels
        )

    @staticmethod
    def _until(condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, seconds=20, what=what)


def _pairs(answer: Any) -> set[tuple[str, str]]:
    """Names and values, in whichever form redis-py hands them out."""
    if isinstance(answer, bytes | str):
        answer = dict(line.split(":", 1) for line in _text(answer).split() if ":" in line)
    if isinstance(answer, list):
        answer = dict(zip(answer[::2], answer[1::2], strict=True))
    return {(_text(name), _text(value)) for name, value in answer.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
