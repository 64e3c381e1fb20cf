from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from resilient_rpc.errors import RemoteError
from resilient_rpc.pending import Pending, Started


def test_is_settled_once() -> None:
    pending: Pending[int] = Pending()
    assert not pending.done()
    assert pending.set(1)
    assert pending.done()
    assert not pending.set(2)
    assert not pending.fail(ValueError())
    assert pending.result() == 1


def test_a_result_that_is_not_there_is_an_error_not_a_wait() -> None:
    with pytest.raises(RuntimeError, match="not settled"):
        Pending[int]().result()


def test_every_waiter_gets_a_copy_of_the_error_with_the_same_cause() -> None:
    cause = OSError("cut")
    error = RemoteError("no", code=-32000, details={"a": 1})
    error.__cause__ = cause
    pending: Pending[int] = Pending()
    pending.fail(error)
    caught = []
    for _ in range(3):
        with pytest.raises(RemoteError) as info:
            pending.result()
        caught.append(info.value)
    assert len({id(each) for each in [error, *caught]}) == 4
    assert all(each.details == {"a": 1} and each.__cause__ is cause for each in caught)
    assert error.__traceback__ is None


def test_wakes_everybody_once() -> None:
    woken: list[str] = []
    pending: Pending[None] = Pending()
    for name in ("first", "second", "third"):
        assert pending.watch(lambda name=name: woken.append(name))
    pending.set(None)
    pending.fail(ValueError())
    assert woken == ["first", "second", "third"]


@pytest.mark.parametrize("others", [0, 1, 2])
def test_who_no_longer_watches_is_not_woken(others: int) -> None:
    woken: list[str] = []
    pending: Pending[None] = Pending()

    def gone() -> None:
        woken.append("gone")

    pending.watch(gone)
    for _ in range(others):
        pending.watch(lambda: woken.append("other"))
    pending.unwatch(gone)
    pending.unwatch(gone)
    pending.set(None)
    assert woken == ["other"] * others


def test_what_is_settled_cannot_be_watched() -> None:
    pending: Pending[None] = Pending()
    pending.set(None)
    assert not pending.watch(lambda: pytest.fail("woken"))


def test_of_many_threads_one_settles_it() -> None:
    for _ in range(50):
        pending: Pending[int] = Pending()
        wins: list[int] = []
        start = threading.Barrier(4)

        def race(
            me: int, pending: Pending[int] = pending, wins: list[int] = wins, start: threading.Barrier = start
        ) -> None:
            start.wait()
            if pending.set(me):
                wins.append(me)

        threads = [threading.Thread(target=race, args=(me,)) for me in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wins == [pending.result()]


def test_the_garbage_collector_may_settle_one_while_another_is_being_settled() -> None:
    inner: Pending[int] = Pending()

    class Settles:
        def __del__(self) -> None:
            inner.set(1)

    outer: Pending[object] = Pending()
    outer.watch(gc.collect)
    cycle = Settles()
    cycle.me = cycle  # type: ignore[attr-defined]
    del cycle
    outer.set(None)
    assert inner.done()


async def _never() -> None:
    await asyncio.get_running_loop().create_future()


async def _cancelled_before_its_task_is_known() -> bool:
    started: Started[None] = Started(asyncio.get_running_loop())
    started.cancel()
    await asyncio.sleep(0)
    task = asyncio.create_task(_never())
    started.run_as(task)
    await asyncio.wait((task,))
    return task.cancelled()


def test_a_cancel_is_kept_until_the_task_is_known() -> None:
    assert asyncio.run(_cancelled_before_its_task_is_known())


def test_a_cancel_on_a_closed_loop_settles() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    started: Started[None] = Started(loop)
    started.cancel()
    with pytest.raises(asyncio.CancelledError):
        started.result()


def test_a_cancel_of_what_is_settled_does_nothing() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    started: Started[int] = Started(loop)
    started.set(1)
    started.cancel()
    assert started.result() == 1
