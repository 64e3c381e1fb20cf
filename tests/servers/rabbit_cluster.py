"""A RabbitMQ cluster of three nodes, from local binaries."""

from __future__ import annotations

import contextlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from tests.servers import epmd
from tests.servers.handle import ServerError
from tests.servers.ports import HOST
from tests.servers.rabbitmq import LocalBroker, find

SIZE = 3


class RabbitCluster:
    """Every node can be killed and started again; two of the three go on without the third."""

    def __init__(self) -> None:
        binaries = find()
        if binaries is None:
            raise ServerError("a cluster of RabbitMQ needs local binaries (as root on Debian: make servers)")
        cookie = secrets.token_hex(10)
        self.nodes = [LocalBroker(binaries, cookie=cookie) for _ in range(SIZE)]
        self._opened = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """Of all nodes."""
        return self.url_of(*self.nodes)

    @staticmethod
    def url_of(*nodes: LocalBroker) -> str:
        """Of these nodes, in this order."""
        return f"amqp://guest:guest@{','.join(f'{HOST}:{node.port}' for node in nodes)}/"

    def leader_of(self, queue: str) -> LocalBroker:
        """The node on which a quorum queue has its leader."""
        lines = self._alive().ctl("list_queues", "--no-table-headers", "name", "leader").splitlines()
        leader = dict(line.split("\t") for line in lines)[queue]
        return next(node for node in self.nodes if node.node == leader)

    def __enter__(self) -> Self:
        try:
            epmd.port()  # once, for all of them
            for node in self.nodes:
                self._opened.callback(node.dispose)
            with ThreadPoolExecutor(SIZE) as pool:
                list(pool.map(LocalBroker.start, self.nodes))
                list(pool.map(self._join, self.nodes[1:]))
        except BaseException:
            self._opened.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def _join(self, node: LocalBroker) -> None:
        node.ctl("stop_app")
        node.ctl("reset")
        node.ctl("join_cluster", self.nodes[0].node)
        node.ctl("start_app")

    def _alive(self) -> LocalBroker:
        return next(node for node in self.nodes if node.alive)
