"""Where steps go; the simplest case: there is one Redis."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Protocol

from resilient_rpc.stores.connect import Address, RedisUrl
from resilient_rpc.stores.faults import fault_of
from resilient_rpc.stores.node import Group, Node
from resilient_rpc.stores.steps import Step


class Nodes(Protocol):
    """Belongs to one loop."""

    def launch(self, steps: Sequence[Step], done: Callable[[bool], None]) -> Callable[[], None] | None:
        """As `Node.launch`, where it is known at once to which; returned is what gives it up."""

    async def run(self, steps: Sequence[Step]) -> None:
        """Settle each step, or raise what keeps all of them from being carried out."""

    async def known(self) -> list[Node]:
        """Those that steps may go to."""

    async def aclose(self) -> None:
        """Close what is open."""


class Single:
    """One Redis."""

    def __init__(self, url: RedisUrl) -> None:
        self._node = node_at(url, url.addresses[0])

    def launch(self, steps: Sequence[Step], done: Callable[[bool], None]) -> Callable[[], None] | None:
        """As `Nodes`."""
        return launch(self._node, steps, done)

    async def run(self, steps: Sequence[Step]) -> None:
        """As `Nodes`."""
        for group, _ in await self._node.run([steps]):
            fail(group, "CROSSSLOT")
        if self._node.suspect:  # behind its name there may be another one by now
            self._node.suspect = False
            await self._node.aclose()

    async def known(self) -> list[Node]:
        """As `Nodes`."""
        return [self._node]

    async def aclose(self) -> None:
        """As `Nodes`."""
        await self._node.aclose()


def launch(node: Node, steps: Sequence[Step], done: Callable[[bool], None]) -> Callable[[], None] | None:
    """To a node that is known to be the one, unless it is in doubt."""
    stream = None if node.suspect else node.launch(steps, done)
    return None if stream is None else functools.partial(node.abandon, stream)


def node_at(url: RedisUrl, address: Address, *, sentinel: bool = False) -> Node:
    """One of those that the URL leads to."""
    host, port = address
    return Node(lambda: url.open(address, sentinel=sentinel), f"{host}:{port}" if port else host)


def fail(group: Group, code: str) -> None:
    """Nobody follows these any further; `code` is what Redis would say."""
    for step in group:
        step.fail(fault_of(code))
