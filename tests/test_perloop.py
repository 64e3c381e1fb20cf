from __future__ import annotations

import asyncio
import os
import threading

import pytest

from resilient_rpc.perloop import PerLoop
from tests.test_forking import in_child

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


class Thing:
    """Stands for a connection."""


def test_each_loop_has_one_of_its_own_and_gets_it_again() -> None:
    things: PerLoop[Thing] = PerLoop()

    async def twice() -> tuple[Thing, Thing]:
        return things.get(Thing), things.get(Thing)

    def elsewhere() -> None:
        seen.append(asyncio.run(twice()))

    seen: list[tuple[Thing, Thing]] = []

    async def main() -> None:
        seen.append(await twice())
        await asyncio.to_thread(elsewhere)
        assert len(things) == 2

    asyncio.run(main())
    (first, again), (other, once_more) = seen
    assert first is again
    assert other is once_more
    assert other is not first


def test_what_belonged_to_a_closed_loop_is_ended_once_another_loop_asks() -> None:
    ended: list[Thing] = []
    things: PerLoop[Thing] = PerLoop(ended.append)

    async def ask() -> Thing:
        return things.get(Thing)

    first = asyncio.run(ask())
    assert ended == []
    asyncio.run(ask())
    assert ended == [first]
    assert len(things) == 1


def test_without_an_end_it_just_goes() -> None:
    things: PerLoop[Thing] = PerLoop()

    async def ask() -> None:
        things.get(Thing)

    for _ in range(3):
        asyncio.run(ask())
        assert len(things) == 1


def test_what_is_taken_back_is_no_longer_there() -> None:
    things: PerLoop[Thing] = PerLoop()

    async def work() -> None:
        made = things.get(Thing)
        assert things.pop() is made
        assert things.pop() is None
        assert things.get(Thing) is not made

    asyncio.run(work())


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_process_has_none_of_its_parents_even_while_a_thread_holds_the_lock() -> None:
    things: PerLoop[Thing] = PerLoop()

    async def ask() -> Thing:
        return things.get(Thing)

    async def work() -> None:
        parents, held, release = things.get(Thing), threading.Event(), threading.Event()

        def hold() -> None:
            with things._lock:
                held.set()
                release.wait(10.0)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(10.0)
        try:
            in_child(lambda: len(things) == 0 and asyncio.run(ask()) is not parents)
        finally:
            release.set()
            holder.join()
        assert things.get(Thing) is parents

    asyncio.run(work())
