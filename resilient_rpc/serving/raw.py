"""Queues of plain bytes: their messages become calls of a handler, in the slots of the server they belong to.

Whoever asks knows nothing of this library: one answer with his correlation id and content type, or none. A message
whose handler fails is a dead letter, for there is no way to tell.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from resilient_rpc import events
from resilient_rpc.context import Context
from resilient_rpc.contract import Method
from resilient_rpc.errors import (
    EXECUTED,
    ConfigurationError,
    Expired,
    Interrupted,
    Refused,
    RpcError,
    TooLarge,
)
from resilient_rpc.serving.access import check_access
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.deadletters import reason_of
from resilient_rpc.serving.forwards import Forward
from resilient_rpc.serving.home import Home
from resilient_rpc.serving.intake import deadline_of
from resilient_rpc.serving.job import NO_ID, Job, Letter
from resilient_rpc.serving.outbox import Outbox
from resilient_rpc.transport.backoff import Backoff
from resilient_rpc.transport.base import Consumer, Delivery, QueueSpec, Transport
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.transport.session_loop import SessionLoop
from resilient_rpc.transport.users import Users
from resilient_rpc.wire.codec import MSGPACK
from resilient_rpc.wire.limits import Limits

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RawQueue:
    """A queue of plain bytes, as it was registered: `method` takes the body and returns the answer."""

    spec: QueueSpec
    method: Method


class RawLetter(Letter):
    """A message of such a queue."""

    __slots__ = ("inlet",)

    inlet: RawInlet


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


class RawInlet:
    """Consumes one such queue, by a session of its own; lives on the server's loop."""

    def __init__(
        self,
        raw: RawQueue,
        desk: Desk,
        *,
        transport: Transport,
        prefetch: int,
        limits: Limits,
        addresses: Addresses,
        backoff: Backoff,
        numbers: itertools.count[int],
        users: Users,
        hub: events.Events,
        server: str,
    ) -> None:
        self._raw, self._desk, self._transport, self._prefetch = raw, desk, transport, prefetch
        self._limits, self._addresses, self._numbers, self._hub = limits, addresses, numbers, hub
        self._users = users
        self.home = Home.of(raw.spec, server, desk.outbox.forwards, users, hub, desk.settle, cuttable=False)
        self.fatal: BaseException | None = None
        self.session: Consumer | None = None
        self.sessions: SessionLoop[Consumer] = SessionLoop(
            self._open, opened=self._opened, failed=self._failed, urgent=lambda: True, backoff=backoff
        )

    async def _open(self) -> Consumer:
        timeout = self._transport.connect_timeout
        return await self._transport.consumer(self, self._raw.spec, prefetch=self._prefetch, timeout=timeout)

    def _opened(self, session: Consumer) -> None:
        self.session, self.fatal = session, None
        self._hub.emit(events.ConnectionStateChanged(state="connected"))
        self._desk.changed()

    def _failed(self, error: BaseException) -> None:
        self._hub.emit(events.ConnectionStateChanged(state="failed", reason=str(error)))
        if isinstance(error, ConfigurationError):
            log.error("cannot serve: %s", error)
            self.fatal = error
            self._desk.changed()

    # -- reports of the session

    def lost(self, error: BaseException) -> None:
        """See `ConsumerEvents`."""
        self.session = None
        self.sessions.lost(error)
        self._hub.emit(events.ConnectionStateChanged(state="lost", reason=str(error)))

    def control(self, delivery: Delivery) -> None:
        """See `ConsumerEvents`: it has no control queue, for nobody who asks here knows of one."""

    def delivered(self, delivery: Delivery) -> None:
        """A message."""
        session = self.session or self.sessions.session
        if session is None:  # delivered before `_opened` could run: it will come again
            return
        letter = self._letter(session, delivery)
        returns = self.home.returns
        if (delivery.redelivered or letter.returns) and self._desk.known(letter):
            return
        if delivery.redelivered and returns is not None and self._users.can_send_on(delivery):
            returns.take(letter)
            return
        if letter.returns and returns is not None and returns.hold(letter, self._resume):
            return
        self._accept(letter)

    def _resume(self, letter: Letter) -> None:
        if letter.session is (self.session or self.sessions.session):
            self._accept(letter)

    # -- in

    def _letter(self, session: Consumer, delivery: Delivery) -> RawLetter:
        properties = delivery.properties
        letter = RawLetter(
            session,
            delivery,
            reply_to=properties.get("reply_to") or "",
            correlation_id=properties.get("correlation_id"),
            codec=MSGPACK,  # should a policy keep the answer: it knows bytes
            ours=False,
        )
        letter.print, letter.at, letter.inlet = hash(delivery.body), 0, self
        return letter

    def _accept(self, letter: Letter) -> None:
        self._desk.letters[letter.key] = letter
        if letter.returns and self.home.returns is not None:
            self.home.returns.arrived(letter)
        try:
            job = self._job(letter)
        except RpcError as error:
            if self._hub.wants(events.RequestRefused):
                self._hub.emit(events.RequestRefused(error=error))
            self._refuse(letter, error)
            return
        self._desk.run([job])

    def _job(self, letter: Letter) -> Job:
        delivery, method = letter.delivery, self._raw.method
        self._limits.check_body(len(delivery.body), "the message")
        if letter.reply_to and not self._addresses.accept(letter.reply_to):
            letter.reply_to = ""
            raise Refused(f"the reply address of a message to {self._raw.spec.name!r} is refused")
        if self._desk.senders is not None:
            letter.user = self._desk.senders.sender(delivery.properties)
        safety, redelivered = method.safety_for(None), delivery.redelivered or letter.returns > 0
        if redelivered and not safety.repeatable:
            raise Interrupted("an earlier server may have begun with it, and an unsafe call is not run twice")
        letter.arrived = time.monotonic()
        letter.deadline = deadline = deadline_of(delivery, letter.arrived)
        if deadline <= letter.arrived:
            raise Expired(f"{method.name}: its time was up before it arrived")
        context = Context(method.name, deadline, safety, redelivered=redelivered, principal=letter.user)
        if method.allow:
            check_access(method.allow, context)
        arguments: Any = ((delivery.body,), {})
        if method.binder.context_name is not None:
            arguments = method.binder.give_context(arguments, context)
        return Job(letter, next(self._numbers), method, arguments[0], arguments[1], context, NO_ID)

    def _refuse(self, letter: Letter, error: BaseException) -> None:
        letter.deaths.append((0, reason_of(error), error))
        self._desk.outbox.skip(letter)

    # -- out

    def answer(self, letter: Letter, result: Any) -> None:
        """Send what a handler has returned; it is acked when that is with the broker."""
        if not isinstance(result, bytes | bytearray | memoryview):
            kind, name = type(result).__name__, self._raw.method.name
            log.warning("the handler of %s returned %s, not bytes", name, kind)
            self._refuse(letter, RpcError(f"the handler of {name} returned {kind}, not bytes", certainty=EXECUTED))
            return
        body, limit = bytes(result), self._limits.max_body
        if len(body) > limit:
            error = TooLarge(f"the answer of {len(body)} bytes is over the limit of {limit}", certainty=EXECUTED)
            self._refuse(letter, error)
            return
        outbox = self._desk.outbox
        if not letter.reply_to:
            outbox.skip(letter)
            return
        content_type = letter.delivery.properties.get("content_type")
        properties = encode_properties(content_type=content_type, correlation_id=letter.correlation_id)
        correlation, done = letter.correlation_id or "", _skipping(outbox, letter)
        outbox.forwards.add(Forward(letter.reply_to, body, properties, correlation, done, mandatory=False))


def _skipping(outbox: Outbox, letter: Letter) -> Callable[[bool], None]:
    """What ends a letter when its answer is with the broker, or given up."""
    return lambda _: outbox.skip(letter)
