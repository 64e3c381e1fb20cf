"""Messages that came back unfinished: how often is counted where the broker does not, on classic queues.

A message that came back says no more than that it did. So its place is taken by a copy that says how often: published
to the same queue, confirmed, and only then is the first one acked. A server that dies between the two leaves both.

Whoever crashes its server takes along what this server had at hand. So what has come back twice is tried one at a time:
what waits for its turn is not counted, and what is innocent does not reach the limit with the guilty.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from resilient_rpc.serving.forwards import Forward, Forwards
from resilient_rpc.serving.job import Letter
from resilient_rpc.transport.deadletters import DELIVERIES, copied

SUSPECT = 2
"""So many returns make a message one that is tried alone."""
WATCH = 0.5
"""Seconds that the next suspect waits when another server has got the copy of the last one."""


class Returns:
    """Lives on the server's loop."""

    def __init__(
        self,
        limit: int,
        queue: str,
        forwards: Forwards,
        *,
        settle: Callable[[Letter, bool], None],
        bury: Callable[[Letter], None],
    ) -> None:
        """`settle(letter, ok)`: a copy has taken the letter's place; `bury`: it is over the limit."""
        self._limit, self._queue, self._forwards, self._settle, self._bury = limit, queue, forwards, settle, bury
        self._known: dict[object, Letter] = {}
        self._suspects: deque[Letter] = deque()
        self._tried: Letter | None = None
        """The suspect whose copy is under way to whoever takes it."""
        self._here: set[Letter] = set()
        """Copies of suspects that this server runs."""
        self._watch: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        """Messages that still await their copy."""
        return len(self._known)

    def take(self, letter: Letter) -> None:
        """A message came back."""
        known = self._known.get(letter.key)
        if known is not None and known.returns == letter.returns:  # once more, while its copy is on its way
            known.session, known.tag = letter.session, letter.tag
        elif letter.returns >= self._limit:
            letter.deaths.append((-1, "delivery_limit", None))
            self._bury(letter)
        else:
            self._known[letter.key] = letter
            if letter.returns + 1 < SUSPECT:
                self._copy(letter)
            else:
                self._suspects.append(letter)
                self._next()

    def arrived(self, letter: Letter) -> None:
        """A copy came to this server."""
        if letter.returns >= SUSPECT:
            self._here.add(letter)
            self._unwatch()

    def ended(self, letter: Letter) -> None:
        """It was done with."""
        if letter in self._here:
            self._here.discard(letter)
            self._next()

    def give_up(self) -> list[Letter]:
        """Those whose turn has not come: the server stops, and they stay as they are."""
        waiting = list(self._suspects)
        self._suspects.clear()
        for letter in waiting:
            self._known.pop(letter.key, None)
        return waiting

    def close(self) -> None:
        """Let go of the timer."""
        self._unwatch()

    def _next(self) -> None:
        if self._suspects and self._tried is None and not self._here and self._watch is None:
            self._tried = self._suspects.popleft()
            self._copy(self._tried)

    def _copy(self, letter: Letter) -> None:
        properties = copied(letter.delivery, {DELIVERIES: letter.returns + 1})
        correlation = letter.correlation_id or ""
        body = letter.delivery.body
        self._forwards.add(Forward(self._queue, body, properties, correlation, lambda ok: self._copied(letter, ok)))

    def _copied(self, letter: Letter, ok: bool) -> None:
        self._known.pop(letter.key, None)
        self._settle(letter, ok)
        if letter is self._tried:
            self._tried = None
            if not self._here:
                self._watch = asyncio.get_running_loop().call_later(WATCH, self._watched)
            self._next()

    def _watched(self) -> None:
        self._watch = None
        self._next()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
