from __future__ import annotations

import threading

import pytest

from resilient_rpc.serving.threads import Threads
from tests.waiting import PATIENCE, until


def test_each_piece_of_work_runs_once_and_never_more_at_a_time_than_threads() -> None:
    threads, lock, done = Threads(3, "t"), threading.Lock(), threading.Semaphore(0)
    running = most = 0
    seen: list[int] = []

    def work(number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            seen.append(number)
        with lock:
            running -= 1
        done.release()

    for number in range(500):
        threads.run(lambda number=number: work(number))  # type: ignore[misc]
    for _ in range(500):
        assert done.acquire(timeout=PATIENCE)
    assert sorted(seen) == list(range(500))
    assert most <= 3
    assert threads.alive <= 3
    threads.close()
    until(lambda: threads.alive == 0)


def test_a_thread_is_made_only_when_all_others_are_busy() -> None:
    threads, gate, done = Threads(10, "t"), threading.Event(), threading.Semaphore(0)

    def work() -> None:
        gate.wait(PATIENCE)
        done.release()

    threads.run(work)
    threads.run(work)
    assert threads.alive == 2
    gate.set()
    for _ in range(2):
        assert done.acquire(timeout=PATIENCE)
    until(lambda: threads._idle == 2)
    for _ in range(20):
        threads.run(work)
        assert done.acquire(timeout=PATIENCE)
        until(lambda: threads._idle == 2)
    assert threads.alive == 2
    threads.close()
    until(lambda: threads.alive == 0)


def test_they_are_daemons_with_a_name() -> None:
    threads, found = Threads(1, "rpc-orders"), []
    done = threading.Event()

    def work() -> None:
        found.append(threading.current_thread())
        done.set()

    threads.run(work)
    assert done.wait(PATIENCE)
    assert found[0].daemon
    assert found[0].name.startswith("rpc-orders")
    threads.close()
    until(lambda: threads.alive == 0)


def test_what_waits_is_still_done_after_closing() -> None:
    threads, gate, done = Threads(1, "t"), threading.Event(), threading.Semaphore(0)
    threads.run(lambda: bool(gate.wait(PATIENCE)) and None)
    threads.run(done.release)
    threads.close()
    gate.set()
    assert done.acquire(timeout=PATIENCE)
    until(lambda: threads.alive == 0)


def test_when_no_thread_can_be_made_the_next_work_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, done = Threads(2, "t"), threading.Event()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            threads.run(done.set)
    assert threads.alive == 0
    threads.run(done.set)
    assert done.wait(PATIENCE)
    threads.close()
    until(lambda: threads.alive == 0)
