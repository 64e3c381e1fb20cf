from __future__ import annotations

import asyncio

import pytest

from resilient_rpc.stores import StoreUnavailable
from resilient_rpc.stores.gate import FAILURES
from resilient_rpc.stores.lookup import Lookup, first_of


class Asked:
    """Answers with how often it was asked; fails, or hangs, when it is told to."""

    def __init__(self) -> None:
        self.times = 0
        self.fails = self.hangs = False

    async def __call__(self) -> int:
        self.times += 1
        await asyncio.sleep(60 if self.hangs else 0)
        if self.fails:
            raise StoreUnavailable("down", reason="down")
        return self.times


def always(_: int) -> bool:
    return True


def never(_: int) -> bool:
    return False


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_rpc.stores.lookup.REFRESH", 0.0)


def test_many_who_ask_at_once_ask_once() -> None:
    async def main() -> None:
        asked = Asked()
        lookup = Lookup(asked)
        assert await asyncio.gather(*[lookup.get(never) for _ in range(10)]) == [1] * 10
        assert await lookup.get(always) == 2

    asyncio.run(main())


def test_what_is_stale_is_asked_for_no_more_often_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_rpc.stores.lookup.REFRESH", 60.0)

    async def main() -> None:
        lookup = Lookup(Asked())
        assert [await lookup.get(always) for _ in range(3)] == [1, 1, 1]

    asyncio.run(main())


def test_without_an_answer_what_is_known_is_used_and_after_a_while_nobody_is_asked() -> None:
    async def main() -> None:
        asked = Asked()
        lookup = Lookup(asked)
        await lookup.get(never)
        asked.fails = True
        assert [await lookup.get(always) for _ in range(10)] == [1] * 10
        assert asked.times == 1 + FAILURES

    asyncio.run(main())


def test_a_question_that_was_cut_short_counts_as_not_answered() -> None:
    async def main() -> None:
        asked = Asked()
        asked.hangs = True
        lookup = Lookup(asked)
        for _ in range(FAILURES):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(lookup.get(never), 0.01)
        with pytest.raises(StoreUnavailable) as info:
            await lookup.get(never)
        assert info.value.reason == "open"

    asyncio.run(main())


def test_the_first_answer_is_taken_and_the_others_are_not_waited_for() -> None:
    async def said(answer: str | None, seconds: float) -> str | None:
        await asyncio.sleep(seconds)
        if answer == "fails":
            raise ConnectionError("no")
        return answer

    async def main() -> None:
        assert await first_of([said("slow", 60), said("fails", 0), said(None, 0), said("quick", 0.01)]) == "quick"
        assert await first_of([said("fails", 0), said(None, 0)]) is None
        with pytest.raises(StoreUnavailable):
            await first_of([said("fails", 0)])
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
