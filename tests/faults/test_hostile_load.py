"""What one hostile caller among a hundred costs the others, with messages of every kind (rows 24 to 28).

Measured is the server's processor time for a hundred calls of others, which a busy machine changes little: in short
blocks, in turns without anybody else, and with one more caller. That one sends one message to every hundred calls of
the others: as often as each of them calls. (Valid calls at a higher rate are no attack in this sense: a fair share is
promised to nobody.) One over the limit of size costs its bytes, 4 MiB, and is left out here.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from resilient_rpc import AsyncClient
from resilient_rpc.serving.deadletters import LABELLED
from tests.faults.hostile import BODIES, BOMBED, FORGERIES, NOBODY, Hostile, Sender, sending
from tests.faults.tools import server_process, wait_for_servers

BLOCKS, TURNS, CALLERS = 25, 10, 100
SETTLED = 0.03
"""Seconds after which the broker has confirmed what a block left, as a rule."""
MOST = 1.10
ANSWERED = {name: each for name, each in BODIES.items() if name != "a body over the limit"}
BURIED = BOMBED | FORGERIES
"""Those whose sender cannot be told: they become dead letters."""


class Crowd:
    """A hundred callers, and perhaps one more."""

    def __init__(self, client: AsyncClient, service: str, sender: Sender, pid: int) -> None:
        self.client, self.service, self.sender = client, service, sender
        self._clock = ((~pid) << 3) | 2  # Linux's clock for the processor time of a process

    async def block(self, messages: Iterator[Hostile] | None) -> float:
        """Seconds of the server's processor."""
        begin = time.clock_gettime(self._clock)
        for _ in range(TURNS):
            good = [self.client.call(f"{self.service}.whoami") for _ in range(CALLERS)]
            bad = [self.sender.send(next(messages))] if messages is not None else []
            await asyncio.gather(*good, *bad)
        await asyncio.sleep(SETTLED)
        return time.clock_gettime(self._clock) - begin

    async def measure(self, kinds: Mapping[str, Hostile]) -> float:
        """By what the time of the others is multiplied."""
        messages, quiet, disturbed = itertools.cycle(kinds.values()), [], []
        for _ in range(BLOCKS):
            quiet.append(await self.block(None))
            disturbed.append(await self.block(messages))
        ratio = statistics.median(disturbed) / statistics.median(quiet)
        each = 1e6 * (statistics.median(disturbed) - statistics.median(quiet)) / TURNS
        print(
            f"{1e6 * statistics.median(quiet) / TURNS / CALLERS:.0f} us a call, {each:.0f} us a hostile message, ",
            end="",
        )
        print(f"{100 * (ratio - 1):+.1f} % with a hostile caller")
        return ratio


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "kinds", [ANSWERED | BURIED | NOBODY, ANSWERED, BURIED], ids=["all", "those answered", "those buried"]
)
def test_one_hostile_caller_costs_the_others_less_than_a_tenth(
    amqp_url: str, service: str, tmp_path: Path, kinds: dict[str, Hostile]
) -> None:
    async def measure(pid: int) -> bool:
        async with (
            AsyncClient(amqp_url, policies=[], batching=None, timeout=20.0) as client,
            sending(amqp_url, service) as sender,
        ):
            crowd = Crowd(client, service, sender, pid)
            first = itertools.cycle(kinds.values())
            for _ in range(
                max(len(kinds), LABELLED) // TURNS + 1
            ):  # what is done once: caches, labels, lost connections
                await crowd.block(first)
            for _ in range(3):  # another load on the machine only ever adds to it: once below is below
                if await crowd.measure(kinds) < MOST:
                    return True
        return False

    with server_process(amqp_url, service, tmp_path) as server:
        wait_for_servers(amqp_url, service, 1)
        assert asyncio.run(measure(server.pid))
