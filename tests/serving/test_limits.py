"""The limits of a client, around the handlers of a server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from resilient_rpc.policies import AdaptiveLimit, Bulkhead, RateLimit, for_
from tests.serving.bench import bench, call
from tests.waiting import turns


@pytest.mark.parametrize(
    ("policy", "at_once"),
    [
        (Bulkhead(limit=2), 2),
        (AdaptiveLimit(initial=2, min=2, max=2), 2),
        (RateLimit(rate=0.01, burst=2), 2),
        (for_("shop.wait", Bulkhead(limit=1)), 1),
        (for_("shop.wait", AdaptiveLimit(initial=3, max=3)), 3),
        (for_("shop.wait", RateLimit(rate=0.01, burst=4)), 4),
        (for_("shop", Bulkhead(limit=2)), 2),
    ],
    ids=repr,
)
def test_what_is_over_the_limit_is_refused_and_gives_its_slot_back(policy: Any, at_once: int) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), bench() as made:
            serving = await made.serve(concurrency=20, prefetch=40, policies=(policy,))
            for number in range(6):
                made.send(call("wait", [number], number))
            refused = [json.loads(reply.body) for reply in await made.received(6 - at_once)]
            assert {reply["error"]["code"] for reply in refused} == {-32001}
            assert {reply["error"]["data"]["executed"] for reply in refused} == {False}
            await turns(lambda: serving.health()["running"] == at_once)
            assert sorted(made.ran) == list(range(at_once))
            assert len(await made.received(6 - at_once)) == 6 - at_once
            made.gate.set()
            await made.settled()

    asyncio.run(main())


def test_the_limit_of_one_method_is_not_that_of_another() -> None:
    async def main() -> None:
        async with asyncio.timeout(30), bench() as made:
            await made.serve(concurrency=20, policies=(for_("shop.wait", Bulkhead(limit=1)),))
            made.send(call("wait", [1], 1))
            await turns(lambda: made.ran == [1])
            for number in range(5):
                assert (await made.ask_beside(call("note", [number], number)))["result"] == number

    asyncio.run(main())


def test_the_rate_says_when_to_come_again() -> None:
    async def main() -> None:
        async with asyncio.timeout(30), bench() as made:
            await made.serve(policies=(RateLimit(rate=0.5, burst=1),))
            assert (await made.ask(call("note", [1])))["result"] == 1
            told = await made.ask(call("note", [2]))
            assert told["error"]["data"]["retry_after"] == pytest.approx(2.0, abs=0.5)

    asyncio.run(main())
