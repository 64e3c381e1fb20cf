from __future__ import annotations

import asyncio
import threading

import pytest

from resilient_rpc.coalescer import Coalescer
from tests.waiting import PATIENCE, turns


def test_what_a_tick_brought_is_flushed_at_once() -> None:
    async def main() -> None:
        flushes: list[list[int]] = []

        def flush() -> None:
            flushes.append(list(coalescer.inbox))
            coalescer.inbox.clear()

        coalescer: Coalescer[int] = Coalescer(asyncio.get_running_loop(), flush)
        for burst in range(3):
            for number in range(5):
                coalescer.add(burst * 5 + number)
            await turns(lambda burst=burst: len(flushes) == burst + 1)  # type: ignore[misc]
        assert flushes == [list(range(5)), list(range(5, 10)), list(range(10, 15))]

    asyncio.run(main())


def test_a_lone_item_leaves_in_the_next_turn() -> None:
    async def main() -> None:
        seen: list[int] = []
        coalescer: Coalescer[int] = Coalescer(
            asyncio.get_running_loop(), lambda: seen.append(coalescer.inbox.popleft())
        )
        coalescer.add(1)
        assert seen == []
        await turns(lambda: seen == [1])
        coalescer.add(2)  # from here on the loop's own thread is known
        await asyncio.sleep(0)
        assert seen == [1, 2]

    asyncio.run(main())


def test_what_flush_leaves_stays_until_it_is_woken_again() -> None:
    async def main() -> None:
        seen: list[int] = []
        coalescer: Coalescer[int] = Coalescer(
            asyncio.get_running_loop(), lambda: seen.append(coalescer.inbox.popleft())
        )
        coalescer.add(1)
        coalescer.add(2)
        await turns(lambda: seen == [1])
        await asyncio.sleep(0.002)
        assert (seen, list(coalescer.inbox)) == ([1], [2])
        coalescer.wake()
        await turns(lambda: seen == [1, 2])

    asyncio.run(main())


def test_what_flush_itself_adds_is_flushed_too() -> None:
    async def main() -> None:
        seen: list[int] = []

        def flush() -> None:
            while coalescer.inbox:
                seen.append(coalescer.inbox.popleft())
            if len(seen) < 3:
                coalescer.add(len(seen))

        coalescer: Coalescer[int] = Coalescer(asyncio.get_running_loop(), flush)
        coalescer.add(0)
        await turns(lambda: seen == [0, 1, 2])

    asyncio.run(main())


def test_nothing_that_any_thread_adds_is_lost_and_each_threads_order_is_kept() -> None:
    async def main() -> None:
        seen: list[tuple[int, int]] = []
        flushes = 0

        def flush() -> None:
            nonlocal flushes
            flushes += 1
            while coalescer.inbox:
                seen.append(coalescer.inbox.popleft())

        coalescer: Coalescer[tuple[int, int]] = Coalescer(asyncio.get_running_loop(), flush)

        def add(thread: int) -> None:
            for number in range(2000):
                coalescer.add((thread, number))

        threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        await turns(lambda: len(seen) == 12_000)
        for thread in threads:
            thread.join(PATIENCE)
        for thread in range(6):
            assert [number for owner, number in seen if owner == thread] == list(range(2000))
        assert flushes < 12_000

    asyncio.run(main())


def test_a_closed_loop_is_told_and_told_again() -> None:
    loop = asyncio.new_event_loop()
    coalescer: Coalescer[int] = Coalescer(loop, lambda: None)
    loop.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            coalescer.add(1)


def test_a_flush_that_fails_does_not_stop_the_next_one() -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        seen: list[int] = []

        def flush() -> None:
            seen.append(coalescer.inbox.popleft())
            if seen == [1]:
                raise ValueError

        coalescer: Coalescer[int] = Coalescer(asyncio.get_running_loop(), flush)
        coalescer.add(1)
        await turns(lambda: seen == [1])
        coalescer.add(2)
        await turns(lambda: seen == [1, 2])

    asyncio.run(main())
