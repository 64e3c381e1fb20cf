"""The links of a client, and which of them takes the next call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from resilient_rpc.transport.link import Link


class Pool:
    """A fixed number of links on one loop. A call goes to the connected link on which the fewest wait."""

    def __init__(self, make: Callable[[], Link], size: int) -> None:
        self.links = [make() for _ in range(size)]
        self._only = self.links[0] if size == 1 else None

    def pick(self) -> Link:
        """The link for the next call; from any thread."""
        if self._only is not None:
            return self._only
        return min(self.links, key=_load)

    @property
    def pending(self) -> int:
        """Calls that wait on all links."""
        return sum(link.pending for link in self.links)

    def start(self) -> None:
        """Begin to connect; on the links' loop."""
        for link in self.links:
            link.start()

    async def close(self) -> None:
        """Close all links."""
        await asyncio.gather(*[link.close() for link in self.links])


def _load(link: Link) -> tuple[bool, int]:
    return not link.connected, link.pending
