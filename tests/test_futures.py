from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Client, Server
from resilient_rpc.errors import ConnectionLost, DeadlineExceeded, Unroutable
from resilient_rpc.futures import CALLBACKS, CallbackThread, CallFuture, tell
from resilient_rpc.pending import Started
from resilient_rpc.runtime import io_loop
from tests.waiting import PATIENCE, until


def started() -> Started[Any]:
    """Something that a test settles itself."""
    return Started(io_loop().loop)


def attached() -> tuple[CallFuture, Started[Any]]:
    future, work = CallFuture(), started()
    future.attach(work)
    return future, work


def test_it_has_what_settled_it() -> None:
    future, work = attached()
    assert not future.done()
    work.set(5)
    assert future.result(0) == 5
    future, work = attached()
    work.fail(ConnectionLost("cut"))
    with pytest.raises(ConnectionLost, match="cut"):
        future.result(0)


def test_it_may_be_settled_before_it_is_attached() -> None:
    work = started()
    work.set(5)
    future = CallFuture()
    future.attach(work)
    assert future.result(0) == 5


def test_work_that_was_cancelled_by_others_ends_it_with_an_error() -> None:
    future, work = attached()
    work.fail(asyncio.CancelledError())
    assert isinstance(future.exception(0), asyncio.CancelledError)
    assert not future.cancelled()


def test_cancelling_reaches_the_work_and_those_who_wait() -> None:
    future = CallFuture()
    begun = threading.Event()
    ended: list[BaseException] = []

    async def work(_: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    future.attach(io_loop().start(work))
    assert begun.wait(PATIENCE)
    waiter = threading.Thread(target=lambda: concurrent.futures.wait([future], PATIENCE))
    waiter.start()
    assert future.cancel()
    until(lambda: ended)
    waiter.join(PATIENCE)
    assert not waiter.is_alive()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)


def test_one_that_was_cancelled_before_its_work_began_cancels_it() -> None:
    future = CallFuture()
    assert future.cancel()

    async def work(_: Any) -> None:
        await asyncio.Event().wait()

    running = io_loop().start(work)
    future.attach(running)
    until(running.done)
    assert future.cancelled()


def test_one_that_is_done_cannot_be_cancelled() -> None:
    future, work = attached()
    work.set(1)
    assert not future.cancel()
    assert future.result(0) == 1


@pytest.mark.parametrize("late", [False, True])
def test_callbacks_run_in_order_on_one_thread_of_their_own(late: bool) -> None:
    future, work = attached()
    seen: list[Any] = []
    done = threading.Event()
    if late:
        work.set(1)
    for number in range(3):
        future.add_done_callback(lambda f, n=number: seen.append((n, f is future, threading.current_thread().name)))
    future.add_done_callback(lambda _: done.set())
    work.set(1)
    assert done.wait(PATIENCE)
    assert seen == [(number, True, "resilient-rpc-callbacks") for number in range(3)]


@pytest.mark.parametrize("raised", [ValueError("bad"), SystemExit(1)])
def test_a_callback_that_fails_does_not_stop_the_others(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    future, work = attached()
    done = threading.Event()

    def bad(_: Any) -> None:
        raise raised

    future.add_done_callback(bad)
    future.add_done_callback(lambda _: done.set())
    work.set(1)
    assert done.wait(PATIENCE)
    assert "a callback failed" in caplog.text


def test_a_cancelled_one_calls_back_too() -> None:
    future, _ = attached()
    done = threading.Event()
    future.add_done_callback(lambda f: f.cancelled() and done.set())
    future.cancel()
    assert done.wait(PATIENCE)


def test_the_thread_is_a_daemon_made_when_it_is_needed() -> None:
    callbacks = CallbackThread()
    assert callbacks._thread is None
    done = threading.Event()
    callbacks.post(done.set)
    assert done.wait(PATIENCE)
    assert callbacks._thread is not None
    assert callbacks._thread.daemon


def test_a_forked_child_has_a_thread_of_its_own() -> None:
    done = threading.Event()
    CALLBACKS.post(done.set)
    assert done.wait(PATIENCE)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        CALLBACKS.post(lambda: os.write(write, b"x"))
        threading.Event().wait(5)
        os._exit(0)
    os.close(write)
    try:
        assert os.read(read, 1) == b"x"
    finally:
        os.close(read)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


class Told:
    """What the callbacks of a call were given, and on which thread."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []
        self.threads: set[str] = set()

    def hook(self, name: str) -> Any:
        def hook(what: Any) -> None:
            self.threads.add(threading.current_thread().name)
            self.said.append((name, what))

        return hook

    def hooks(self, *names: str) -> dict[str, Any]:
        return {f"on_{name}": self.hook(name) for name in names}


ALL = ("success", "error", "timeout")


@pytest.mark.parametrize(
    ("names", "outcome", "called"),
    [
        (ALL, 5, "success"),
        (ALL, ConnectionLost("cut"), "error"),
        (ALL, DeadlineExceeded("late"), "timeout"),
        (("success", "error"), DeadlineExceeded("late"), "error"),
        (("timeout",), ConnectionLost("cut"), None),
        (("error", "timeout"), 5, None),
    ],
)
def test_one_callback_hears_of_the_end(names: tuple[str, ...], outcome: Any, called: str | None) -> None:
    told, (future, work) = Told(), attached()
    hooks = dict.fromkeys(["on_success", "on_error", "on_timeout"]) | told.hooks(*names)
    tell(future, **hooks)
    if isinstance(outcome, BaseException):
        work.fail(outcome)
    else:
        work.set(outcome)
    heard = threading.Event()
    CALLBACKS.post(heard.set)  # behind it
    assert heard.wait(PATIENCE)
    assert [name for name, _ in told.said] == ([called] if called else [])
    assert told.threads <= {"resilient-rpc-callbacks"}


def test_nobody_hears_of_a_call_that_was_cancelled() -> None:
    told, (future, _) = Told(), attached()
    tell(future, **told.hooks(*ALL))
    future.cancel()
    heard = threading.Event()
    CALLBACKS.post(heard.set)
    assert heard.wait(PATIENCE)
    assert told.said == []


def test_a_client_tells_on_the_callback_thread_and_an_async_one_on_its_loop(service: str) -> None:
    server = Server(f"memory://{service}", service="shop")
    server.method(lambda: 1, name="one")  # type: ignore[arg-type, call-overload]
    server.start()
    told = Told()
    with Client(f"memory://{service}", policies=[]) as client:
        client.submit("shop.one", **told.hooks(*ALL))
        client.submit("nobody.one", **told.hooks(*ALL))
        until(lambda: len(told.said) == 2)
    assert {name: type(what) for name, what in told.said} == {"success": int, "error": Unroutable}
    assert told.threads == {"resilient-rpc-callbacks"}
    told = Told()

    async def scenario() -> None:
        async with AsyncClient(f"memory://{service}", policies=[]) as other:
            tasks = [other.submit(f"{name}.one", **told.hooks(*ALL)) for name in ("shop", "nobody")]
            await asyncio.wait(tasks)
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert {name: type(what) for name, what in told.said} == {"success": int, "error": Unroutable}
    assert told.threads == {threading.current_thread().name}
    server.stop()
