"""The masters of a cluster, each with its slots."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, ResponseError

from resilient_rpc.stores.connect import Address, RedisUrl
from resilient_rpc.stores.errors import StoreError
from resilient_rpc.stores.lookup import Lookup, answer_of, first_of
from resilient_rpc.stores.node import Group, Node
from resilient_rpc.stores.nodes import fail, node_at
from resilient_rpc.stores.steps import Step

T = TypeVar("T")
Slots = list[Address | None]
"""For each slot where it is."""

ASKED = 5
"""Nodes that are asked for the slots at once, at most."""
REDIRECTS = 5
"""How often steps follow a slot that is being moved."""


class Cluster:
    """The masters of a cluster, each with its slots."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._nodes: dict[Address, Node] = {}
        self._moved = False
        self._slots = Lookup(self._load)

    def launch(self, _: Sequence[Step], __: Callable[[bool], None]) -> None:
        """As `Nodes`; here steps are sorted by slots first."""

    async def run(self, steps: Sequence[Step]) -> None:
        """As `Nodes`."""
        for step in steps:
            step.slot = key_slot(step.key)
        slots = await self._slots.get(self._is_stale)
        groups: dict[int, list[Step]] = defaultdict(list)
        for step in steps:
            groups[step.slot].append(step)
        left: list[tuple[Group, ResponseError | None]] = [(group, None) for group in groups.values()]
        for _ in range(REDIRECTS):
            if not left:
                return
            left = await self._send(left, slots)
        for group, _ in left:
            fail(group, "MOVED")

    async def known(self) -> list[Node]:
        """As `Nodes`."""
        slots = await self._slots.get(self._is_stale)
        return [self._at(address) for address in {address for address in slots if address is not None}]

    async def aclose(self) -> None:
        """As `Nodes`."""
        for node in self._nodes.values():
            await node.aclose()

    async def _send(
        self, groups: Iterable[tuple[Group, ResponseError | None]], slots: Slots
    ) -> list[tuple[Group, ResponseError | None]]:
        """Each group to where it belongs, or was pointed to: at once, one message a node."""
        plan: dict[tuple[Address, bool], list[Group]] = defaultdict(list)
        for group, error in groups:
            if isinstance(error, MovedError):  # first, for it is an AskError too
                slots[error.slot_id] = (error.host, error.port)
                self._moved = True
            elif isinstance(error, AskError):
                plan[(error.host, error.port), True].append(group)
                continue
            address = slots[group[0].slot]
            if address is None:
                fail(group, "CLUSTERDOWN")
                self._moved = True
                continue
            plan[address, False].append(group)
        runs = [self._at(address).run(found, asking=asking) for (address, asking), found in plan.items()]
        returned = [await runs[0]] if len(runs) == 1 else await asyncio.gather(*runs)
        # One by one from now on: while a slot is moved, its keys may be in two places.
        return [([step], error) for found in returned for group, error in found for step in group]

    def _at(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = node_at(self._url, address)
        return node

    def _is_stale(self, _: Slots) -> bool:
        return self._moved or any(node.suspect for node in self._nodes.values())

    async def _load(self) -> Slots:
        addresses = dict.fromkeys([*self._nodes, *self._url.addresses])
        asks = [answer_of(self._url, address, "CLUSTER", "SLOTS") for address in list(addresses)[:ASKED]]
        ranges, asked = await first_of(_with(address, ask) for address, ask in zip(addresses, asks, strict=False))
        slots: Slots = [None] * REDIS_CLUSTER_HASH_SLOTS
        try:
            for first, last, (host, port, *_), *_replicas in ranges:
                address = (host.decode() if host else asked[0], int(port))
                slots[first : last + 1] = [address] * (last + 1 - first)
        except (TypeError, ValueError, AttributeError):
            raise StoreError(f"a node answered {ranges!r:.80} where its slots were asked for", written=False) from None
        self._moved = False
        masters = set(slots)
        for address in [*self._nodes]:
            self._nodes[address].suspect = False
            if address not in masters:
                await self._nodes.pop(address).aclose()
        return slots


async def _with(address: Address, ask: Coroutine[Any, Any, T]) -> tuple[T, Address]:
    return await ask, address
