from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable

import pytest

from resilient_rpc import forking
from resilient_rpc.pending import Pending
from resilient_rpc.runtime import BLOCKING, BlockingRuntime, drive, io_loop
from resilient_rpc.stats import CallStats

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_child(body: Callable[[], object]) -> None:
    """Run `body` in a forked child, which must return True within ten seconds."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        os._exit(0 if body() is True else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status


class Thing:
    def __init__(self, name: str, seen: list[str], *, broken: bool = False) -> None:
        self.name, self.seen, self.broken = name, seen, broken
        forking.register(self)

    def after_fork(self) -> None:
        self.seen.append(self.name)
        if self.broken:
            raise OSError("cannot")


def test_each_thing_renews_itself_in_the_child_in_the_order_of_making(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    things = [Thing("a", seen), Thing("b", seen, broken=True), Thing("c", seen)]
    in_child(lambda: seen == ["a", "b", "c"] and "could not be renewed" in caplog.text)
    assert seen == []
    assert len(things) == 3


def test_what_is_gone_is_forgotten() -> None:
    seen: list[str] = []
    thing = Thing("a", seen)
    del thing
    gc.collect()
    in_child(lambda: seen == [])


async def _answer(_: object) -> int:
    return 42


def test_the_child_has_an_io_loop_of_its_own_and_the_parents_goes_on() -> None:
    parents = io_loop()
    assert drive(BLOCKING.wait((BLOCKING.start(_answer),), 5)) is not None

    def child() -> bool:
        started = BLOCKING.start(_answer)
        drive(BLOCKING.wait((started,), 5))
        return started.result() == 42 and io_loop() is not parents and io_loop().run(lambda: _answer(None), 5) == 42

    for _ in range(3):
        in_child(child)
    assert io_loop() is parents
    assert parents.run(lambda: _answer(None), 5) == 42


def test_a_lock_that_a_thread_of_the_parent_held_is_free() -> None:
    pending: Pending[int] = Pending()
    stats, runtime = CallStats(), BlockingRuntime()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        pending.watch(lambda: None)
        with stats._lock, runtime._lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)

    def child() -> bool:
        stats.begin()
        stats.end(0.1, ValueError())
        started = runtime.start(_answer)
        drive(runtime.wait((started,), 5))
        return pending.set(1) and stats.snapshot().failed == 1 and started.result() == 42

    try:
        in_child(child)
    finally:
        done.set()
        thread.join()
