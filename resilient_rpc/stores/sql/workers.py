"""Threads of one event loop that speak with a database, each over a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from resilient_rpc.stores.errors import StoreUnavailable
from resilient_rpc.stores.sql.faults import fault_of
from resilient_rpc.stores.sql.speaking import Answer, Dialect, Tongue, say, tongue_of

PARKING = 5.0
"""Seconds that a fork waits, at most, for statements that are under way."""
Statement = Callable[[Dialect], str]


class Talk:
    """One connection, made when it is needed and again after an error. Belongs to one thread."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._tongue: Tongue

    def run(self, statement: Statement, values: Mapping[str, Any]) -> Answer:
        """Execute and commit; once more on a new connection where an old one turns out to be broken."""
        if self._connection is not None:
            try:
                return self._run(statement, values)
            except StoreUnavailable as error:
                if error.reason != "down":
                    raise
        self._open()
        return self._run(statement, values)

    def _open(self) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # a driver of anybody's
            raise fault_of(error, written=False) from error
        self._tongue = tongue_of(connection)
        self._connection = connection

    def _run(self, statement: Statement, values: Mapping[str, Any]) -> Answer:
        try:
            answer = say(self._connection, self._tongue, statement(self._tongue.dialect), values)
            self._connection.commit()
        except Exception as error:  # a driver of anybody's
            self.close()
            raise fault_of(error, written=None) from error
        return answer

    def close(self) -> None:
        """Without a commit; what a broken connection says to that is of no interest."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


Work = Callable[[Talk], None]


class Workers:
    """At most `most` threads, daemons: a database that hangs cannot keep the process alive.

    While the process forks, nothing is executed and no connection is open: neither the sockets nor the file locks of a
    database survive in a child.
    """

    def __init__(self, connect: Callable[[], Any], most: int) -> None:
        self._connect, self._most = connect, most
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._resume: threading.Event | None = None
        _known.add(self)

    def put(self, work: Work) -> None:
        """Have it executed; it must not raise."""
        self._work.put(work)
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif self._resume is None:
                self._start()

    def _start(self) -> None:
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._serve, name=f"SqlStore-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> list[threading.Thread]:
        """Let the threads end after what they have been given; the threads."""
        with self._lock:
            self._most = 0
            for _ in self._threads:
                self._work.put(None)
            return self._threads

    async def aclose(self, timeout: float) -> None:
        """As `close`, and wait for them, but no longer than `timeout` seconds."""
        ended = [asyncio.to_thread(thread.join, timeout) for thread in self.close()]
        await asyncio.gather(*ended)

    def _serve(self) -> None:
        talk = Talk(self._connect)
        while (work := self._work.get()) is not None:
            work(talk)
            with self._lock:
                self._idle += 1
        talk.close()

    def park(self) -> None:
        """Have every thread close its connection and stand still."""
        ready, self._resume = threading.Semaphore(0), threading.Event()
        resume = self._resume

        def stand(talk: Talk) -> None:
            talk.close()
            ready.release()
            resume.wait()
            with self._lock:
                self._idle -= 1  # nobody who counts has given it this

        with self._lock:
            count = len(self._threads)
        for _ in range(count):
            self._work.put(stand)
        for _ in range(count):
            ready.acquire(timeout=PARKING)

    def resume(self) -> None:
        """Go on."""
        with self._lock:
            resume, self._resume = self._resume, None
            if not self._work.empty():
                self._start()
        if resume is not None:
            resume.set()


_known: weakref.WeakSet[Workers] = weakref.WeakSet()


def _park() -> None:
    for workers in list(_known):
        workers.park()


def _go_on() -> None:
    for workers in list(_known):
        workers.resume()


os.register_at_fork(before=_park, after_in_parent=_go_on, after_in_child=_known.clear)
