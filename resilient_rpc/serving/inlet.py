"""A queue of a server, consumed by a session of its own, whose messages run in the server's slots."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from resilient_rpc import events
from resilient_rpc.contract import Method
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.hub import Events
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.home import Home
from resilient_rpc.serving.job import Job, Letter
from resilient_rpc.serving.marks import Marks
from resilient_rpc.serving.options import ServingOptions
from resilient_rpc.serving.outbox import Outbox
from resilient_rpc.transport.base import Consumer, Delivery, QueueSpec, Transport
from resilient_rpc.transport.session_loop import SessionLoop
from resilient_rpc.transport.users import Users
from resilient_rpc.wire.filters import Filters

log = logging.getLogger(__name__)


class InletLetter(Letter):
    """A message of a queue beside that of the service."""

    __slots__ = ("inlet",)

    inlet: Inlet


class Desk(Protocol):
    """What the server does with messages, wherever they came from."""

    letters: dict[object, Letter]
    """Those that are not done with."""
    outbox: Outbox
    senders: Users | None
    """Who must say who they are; None: nobody."""

    def known(self, letter: Letter) -> bool:
        """Whether it is a copy of what is running here."""

    def run(self, jobs: list[Job]) -> None:
        """Have them run, or give them back while draining."""

    def settle(self, letter: Letter, ok: bool) -> None:
        """Nothing is left to do for it, or another message stands for it; not ok: that could not be sent."""

    def changed(self) -> None:
        """A session has begun, or has ended for good."""


@dataclass(frozen=True, kw_only=True)
class Plumbing:
    """What the queues of a server share."""

    transport: Transport
    options: ServingOptions
    filters: Filters | None
    """Those of the options, at work."""
    addresses: Addresses
    users: Users
    hub: Events
    server: str
    numbers: Iterator[int]
    """Of jobs: one table holds the deadlines of all that a server runs."""


class Inlet(ABC):
    """Lives on the server's loop."""

    def __init__(
        self, spec: QueueSpec, desk: Desk, shared: Plumbing, *, cuttable: bool, methods: Iterable[Method] = ()
    ) -> None:
        """Connect nothing. `cuttable`: see `DeadLetters`; `methods`: see `Marks`."""
        self._spec, self._desk, self._shared = spec, desk, shared
        self._hub, self._users = shared.hub, shared.users
        self.home = Home.of(
            spec, shared.server, desk.outbox.forwards, shared.users, shared.hub, desk.settle, cuttable=cuttable
        )
        self.fatal: BaseException | None = None
        self.session: Consumer | None = None
        self._marks = Marks(spec.name, methods)
        self.sessions: SessionLoop[Consumer] = SessionLoop(
            self._open, opened=self._opened, failed=self._failed, urgent=lambda: True, backoff=shared.options.backoff
        )

    @abstractmethod
    def _letter(self, session: Consumer, delivery: Delivery) -> Letter | None:
        """The envelope of a message; None: that alone was enough to get rid of it."""

    @abstractmethod
    def _accept(self, letter: Letter) -> None:
        """Read it, and have it run, or bury it."""

    # -- the session

    async def _open(self) -> Consumer:
        return await self._consume(self._spec)

    async def _consume(self, queue: QueueSpec) -> Consumer:
        shared = self._shared
        timeout = shared.transport.connect_timeout
        return await shared.transport.consumer(self, queue, prefetch=shared.options.unacked, timeout=timeout)

    def _opened(self, session: Consumer) -> None:
        self.session, self.fatal = session, None
        self._marks.opened(session)
        self._hub.emit(events.ConnectionStateChanged(state="connected"))
        self._desk.changed()

    def _failed(self, error: BaseException) -> None:
        self._hub.emit(events.ConnectionStateChanged(state="failed", reason=str(error)))
        if isinstance(error, ConfigurationError):
            log.error("cannot serve: %s", error)
            self.fatal = error
            self._desk.changed()

    # -- its reports

    def lost(self, error: BaseException) -> None:
        """See `ConsumerEvents`."""
        self.session = None
        self._marks.lost()
        self.sessions.lost(error)
        self._hub.emit(events.ConnectionStateChanged(state="lost", reason=str(error)))

    def control(self, delivery: Delivery) -> None:  # noqa: B027 - a report that seldom comes
        """See `ConsumerEvents`; never where the queue has no control queue, for nobody who sends there knows of one."""

    def delivered(self, delivery: Delivery) -> None:
        """A message."""
        session = self.session or self.sessions.session
        if session is None:  # delivered before `_opened` could run: it will come again
            return
        letter = self._letter(session, delivery)
        if letter is None:
            return
        if (delivery.redelivered or letter.returns or self._marks.doubtful) and self._set_aside(letter):
            return
        self._desk.letters[letter.key] = letter
        self._accept(letter)

    def _set_aside(self, letter: Letter) -> bool:
        """Whether a message that came back, or the copy of one, is not to run here, or not yet."""
        returns, delivery = self.home.returns, letter.delivery
        if self._desk.known(letter):
            return True
        if returns is None:
            return False
        if delivery.redelivered and self._users.can_send_on(delivery):
            returns.take(letter)
            return True
        if letter.returns:
            if returns.hold(letter, self._resume):
                return True
            returns.arrived(letter)
        return False

    def _resume(self, letter: Letter) -> None:
        """A copy may run now; unless it has gone back with its session, and comes again."""
        if letter.session is (self.session or self.sessions.session):
            if self.home.returns is not None:
                self.home.returns.arrived(letter)
            self._desk.letters[letter.key] = letter
            self._accept(letter)
