"""Whole messages that a server sends on, copies and dead letters. Only what is confirmed stands for its original."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from resilient_rpc.errors import ConfigurationError, ProtocolError
from resilient_rpc.transport.base import Publisher, up_to

log = logging.getLogger(__name__)
TRIES = 3
"""How often one is published that the broker refuses, before it is given up."""


class Forward:
    """One message on its way to a queue; `done` is told whether the queue has it."""

    __slots__ = ("body", "correlation", "done", "mandatory", "properties", "returned", "target", "tries")

    def __init__(
        self,
        target: str,
        body: bytes,
        properties: bytes,
        correlation: str,
        done: Callable[[bool], None],
        *,
        mandatory: bool = True,
    ) -> None:
        """`mandatory`: a queue must have it; not for what goes to a reply address."""
        self.target, self.body, self.properties, self.correlation = target, body, properties, correlation
        self.done, self.mandatory = done, mandatory
        self.tries = 0
        self.returned = False


class Forwards:
    """Shares the session of the `Outbox`, which tells it what that session reports."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake`: have `send` called soon."""
        self._wake = wake
        self._unsent: deque[Forward] = deque()
        self._unconfirmed: dict[int, Forward] = {}

    @property
    def pending(self) -> int:
        """Those that no queue has taken responsibility for."""
        return len(self._unsent) + len(self._unconfirmed)

    def add(self, forward: Forward) -> None:
        """Send it as soon as there is a session; again, when that is lost."""
        self._unsent.append(forward)
        self._wake()

    def send(self, session: Publisher) -> None:
        """Publish what waits, as far as the session takes it."""
        while self._unsent and session.writable:
            forward = self._unsent.popleft()
            forward.tries += 1
            forward.returned = False
            try:
                tag = session.publish(forward.target, forward.body, forward.properties, mandatory=forward.mandatory)
            except (ProtocolError, ConfigurationError) as error:
                log.warning("a message could not be sent on to %s: %s", forward.target, error)
                forward.done(False)
            except OSError:  # the session has just ended: `lost` follows
                forward.tries -= 1
                self._unsent.appendleft(forward)
                return
            else:
                self._unconfirmed[tag] = forward

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """See `PublisherEvents`."""
        for each in up_to(tag, self._unconfirmed) if multiple else (tag,):
            forward = self._unconfirmed.pop(each, None)
            if forward is None:
                continue
            if ok and not forward.returned:
                forward.done(True)
            elif forward.tries < TRIES:
                self.add(forward)
            else:
                log.warning("%s does not take a message that is sent on to it", forward.target)
                forward.done(False)

    def returned(self, correlation: str) -> None:
        """A message found no queue. Several may have one correlation id: each of these is sent again."""
        for forward in self._unconfirmed.values():
            if forward.correlation == correlation and forward.mandatory:
                forward.returned = True

    def lost(self) -> None:
        """Nobody knows which of the unconfirmed ones arrived: they are sent again, under the same message ids."""
        self._unsent.extendleft(reversed(self._unconfirmed.values()))
        self._unconfirmed.clear()
