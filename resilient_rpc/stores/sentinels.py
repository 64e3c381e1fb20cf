"""The master that sentinels name, followed through failovers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from resilient_rpc.stores.connect import Address, RedisUrl
from resilient_rpc.stores.errors import StoreError, StoreRefused
from resilient_rpc.stores.lookup import Lookup, answer_of, first_of
from resilient_rpc.stores.node import Node
from resilient_rpc.stores.nodes import fail, launch, node_at
from resilient_rpc.stores.steps import Step


class Sentinels:
    """The master of a service, followed through failovers."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._address: Address | None = None
        self._master = Lookup(self._find)

    def launch(self, steps: Sequence[Step], done: Callable[[bool], None]) -> Callable[[], None] | None:
        """As `Nodes`."""
        node = self._master.value
        return None if node is None else launch(node, steps, done)

    async def run(self, steps: Sequence[Step]) -> None:
        """As `Nodes`."""
        (node,) = await self.known()
        for group, _ in await node.run([steps]):
            fail(group, "CROSSSLOT")

    async def known(self) -> list[Node]:
        """As `Nodes`."""
        return [await self._master.get(lambda node: node.suspect)]

    async def aclose(self) -> None:
        """As `Nodes`."""
        if self._master.value is not None:
            await self._master.value.aclose()

    async def _find(self) -> Node:
        def ask(address: Address) -> Coroutine[Any, Any, Any]:
            return answer_of(
                self._url, address, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service, sentinel=True
            )

        answer = await first_of(ask(address) for address in self._url.addresses)
        match answer:
            case [bytes(host), bytes(port)] if port.isdigit():
                address = host.decode(), int(port)
            case None:
                raise StoreRefused(f"the sentinels know no {self._url.service!r}", reason="service", written=False)
            case _:
                raise StoreError(f"a sentinel answered {answer!r:.80}", written=False)
        before = self._master.value
        if before is not None:
            await before.aclose()
            if address == self._address:
                before.suspect = False
                return before
        self._address = address
        return node_at(self._url, address)
