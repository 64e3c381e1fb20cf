"""Messages that came back unfinished: how often is counted where the broker does not, on classic queues.

A message that came back says no more than that it did. So its place is taken by a copy that says how often: published
to the same queue, confirmed, and only then is the first one acked. A server that dies between the two leaves both.

A copy that comes to the same server is held until that ack is out: its handler may end the process at once.

Whoever crashes its server takes along what this server had at hand. So what has come back twice is tried one at a time:
what waits for its turn is not counted, and what is innocent does not reach the limit with the guilty.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from resilient_rpc.serving.forwards import Forward, Forwards
from resilient_rpc.serving.job import Letter
from resilient_rpc.transport.deadletters import DELIVERIES
from resilient_rpc.transport.users import Users

SUSPECT = 2
"""So many returns make a message one that is tried alone."""
ACK_FIRST = 0.02
"""Seconds after which an ack is with the broker, as a rule: some turns of the loop, and the way."""
WATCH = 0.5
"""Seconds that the next suspect waits when another server has got the copy of the last one."""


class Returns:
    """Lives on the server's loop."""

    def __init__(
        self,
        limit: int,
        queue: str,
        forwards: Forwards,
        users: Users,
        *,
        settle: Callable[[Letter, bool], None],
        bury: Callable[[Letter], None],
    ) -> None:
        """`settle(letter, ok)`: a copy has taken the letter's place; `bury`: it is over the limit."""
        self._limit, self._queue, self._forwards, self._users = limit, queue, forwards, users
        self._settle, self._bury = settle, bury
        self._known: dict[object, list[Letter]] = {}
        self._acked: dict[object, list[Letter]] = {}
        """Those whose ack is on its way."""
        self._held: dict[Letter, Callable[[], None]] = {}
        """Copies that wait for the ack of the letter that they replace."""
        self._suspects: deque[Letter] = deque()
        self._tried: Letter | None = None
        """The suspect whose copy is under way to whoever takes it."""
        self._here: set[Letter] = set()
        """Copies of suspects that this server runs."""
        self._watch: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        """Messages that still await their copy. From any thread."""
        return sum(map(len, list(self._known.values())))

    @property
    def unacked(self) -> int:
        """Those, and the copies that wait. From any thread."""
        return self.pending + len(self._held)

    def take(self, letter: Letter) -> None:
        """A message came back."""
        for known in self._known.get(_mark(letter), ()):
            if known.returns == letter.returns and known.session is not letter.session:
                known.session, known.tag = letter.session, letter.tag  # once more, while its copy is on its way
                return
        if letter.returns >= self._limit:
            letter.deaths.append((-1, "delivery_limit", None))
            self._bury(letter)
        else:
            self._known.setdefault(_mark(letter), []).append(letter)
            if letter.returns + 1 < SUSPECT:
                self._copy(letter)
            else:
                self._suspects.append(letter)
                self._next()

    def hold(self, copy: Letter, resume: Callable[[Letter], None]) -> bool:
        """Whether a copy that came must wait: what it replaces is not acked yet. `resume` is called when it is."""
        mark = _mark(copy)
        for known in (*self._known.get(mark, ()), *self._acked.get(mark, ())):
            if known.returns + 1 == copy.returns and known not in self._held:
                self._held[known] = lambda: resume(copy)
                return True
        return False

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
        """Those whose turn has not come: the server stops, and they stay as they are. Copies do not wait any more."""
        held, self._held = self._held, {}
        for resume in held.values():  # a handler that ends the process cannot begin now
            resume()
        waiting = list(self._suspects)
        self._suspects.clear()
        for letter in waiting:
            _drop(self._known, letter)
        return waiting

    def close(self) -> None:
        """Let go of the timer."""
        self._unwatch()

    def _next(self) -> None:
        if self._suspects and self._tried is None and not self._here and self._watch is None:
            self._tried = self._suspects.popleft()
            self._copy(self._tried)

    def _copy(self, letter: Letter) -> None:
        properties = self._users.sent_on(letter.delivery, {DELIVERIES: letter.returns + 1})
        correlation = letter.correlation_id or ""
        body = letter.delivery.body
        self._forwards.add(Forward(self._queue, body, properties, correlation, lambda ok: self._copied(letter, ok)))

    def _copied(self, letter: Letter, ok: bool) -> None:
        _drop(self._known, letter)
        self._acked.setdefault(_mark(letter), []).append(letter)
        self._settle(letter, ok)
        asyncio.get_running_loop().call_later(ACK_FIRST, self._release, letter)
        if letter is self._tried:
            self._tried = None
            if not self._here:
                self._watch = asyncio.get_running_loop().call_later(WATCH, self._watched)
            self._next()

    def _release(self, letter: Letter) -> None:
        """Its copy may run."""
        _drop(self._acked, letter)
        held = self._held.pop(letter, None)
        if held is not None:
            held()

    def _watched(self) -> None:
        self._watch = None
        self._next()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def _drop(letters: dict[object, list[Letter]], letter: Letter) -> None:
    mark = _mark(letter)
    letters[mark].remove(letter)
    if not letters[mark]:
        del letters[mark]


def _mark(letter: Letter) -> object:
    """What a message has in common with its copies."""
    return letter.reply_to, letter.correlation_id, hash(letter.delivery.body)
