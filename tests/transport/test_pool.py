from __future__ import annotations

import asyncio
from typing import Any

import pytest

from resilient_rpc.transport.pool import Pool


class FakeLink:
    def __init__(self) -> None:
        self.connected, self.pending = False, 0
        self.started = self.closed = 0

    def start(self) -> None:
        self.started += 1

    async def close(self) -> None:
        self.closed += 1


def pool(size: int) -> Any:
    return Pool(FakeLink, size)  # type: ignore[arg-type]


def test_the_connected_link_on_which_the_fewest_wait_takes_the_next_call() -> None:
    made = pool(3)
    first, second, third = made.links
    first.connected, first.pending = True, 5
    third.connected, third.pending = True, 3
    assert made.pick() is third
    third.pending = 6
    assert made.pick() is first
    first.connected = third.connected = False
    assert made.pick() is second, "none is connected: the emptiest"
    assert made.pending == 11


def test_a_single_link_takes_every_call() -> None:
    made = pool(1)
    assert made.pick() is made.links[0]


@pytest.mark.parametrize("size", [1, 4])
def test_all_links_are_started_and_closed(size: int) -> None:
    made = pool(size)
    made.start()
    asyncio.run(made.close())
    assert [(link.started, link.closed) for link in made.links] == [(1, 1)] * size
