"""Ends calls to queues that nobody consumes, instead of letting them wait for a server: ``when_no_server="fail"``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from resilient_rpc.errors import RpcError
from resilient_rpc.runtime import AsyncioRuntime
from resilient_rpc.transport import failures
from resilient_rpc.transport.base import Publisher
from resilient_rpc.transport.batching import Target
from resilient_rpc.transport.outstanding import Outstanding

log = logging.getLogger(__name__)
QUIET = 0.5
"""Seconds without a sign after which the broker is asked who consumes a queue."""
SELDOM = 1.0
"""Seconds between two questions about the same queue."""


class Vacancies:
    """Of one link; on its loop. `poke` it whenever calls are sent."""

    def __init__(self, calls: Outstanding, runtime: AsyncioRuntime, session: Callable[[], Publisher | None]) -> None:
        self._calls, self._session = calls, session
        self._loop, self._now = runtime.loop, runtime.now
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0
        """The newest call, when the timer was set."""
        self._asked: dict[Target, float] = {}
        self._questions: set[asyncio.Task[None]] = set()

    def poke(self) -> None:
        """Calls are on their way."""
        if self._timer is None:
            self._last = next(reversed(self._calls.entries), 0)
            self._timer = self._loop.call_later(QUIET, self._look)

    def close(self) -> None:
        """Ask nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        for question in self._questions:
            question.cancel()

    def _look(self) -> None:
        self._timer = None
        now, session = self._now(), self._session()
        quiet = {target for target in self._waiting() if now - target.touched >= QUIET}
        self._asked = {target: at for target, at in self._asked.items() if now - at < SELDOM}
        for target in quiet - self._asked.keys():
            if session is not None:
                self._asked[target] = now
                question = self._loop.create_task(self._ask(session, target, self._last))
                self._questions.add(question)
                question.add_done_callback(self._questions.discard)
        if self._calls.entries:
            self.poke()

    def _waiting(self) -> set[Target]:
        """The targets of calls that were sent before the timer was set, and have not ended."""
        found: set[Target] = set()
        for entry in self._calls.entries.values():
            if entry.id > self._last:
                break
            if entry.message:
                found.add(entry.route.target)
        return found

    async def _ask(self, session: Publisher, target: Target, last: int) -> None:
        try:
            state = await session.inspect(target.name)
        except (OSError, RpcError) as error:  # the session has ended, and its calls with it
            log.debug("nobody says who consumes %s: %s", target.name, error)
            return
        # Without messages in it ours have been taken: by a server that stops, say, and still answers.
        if state is not None and (state.consumers or not state.messages):
            return
        entries = self._calls.entries.values()
        stuck = [e for e in entries if e.id <= last and e.message and e.route.target is target]
        self._calls.fail(stuck, failures.no_server(target.name))
