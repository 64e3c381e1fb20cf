"""Queues of plain bytes: their messages become calls of a handler, in the slots of the server they belong to.

Whoever asks knows nothing of this library: one answer with his correlation id and content type, or none. A message
whose handler fails is a dead letter, for there is no way to tell.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from resilient_rpc import events
from resilient_rpc.context import Context
from resilient_rpc.contract import Method
from resilient_rpc.errors import (
    EXECUTED,
    Expired,
    Interrupted,
    Refused,
    RpcError,
    TooLarge,
)
from resilient_rpc.serving.access import check_access
from resilient_rpc.serving.deadletters import reason_of
from resilient_rpc.serving.forwards import Forward
from resilient_rpc.serving.inlet import Desk, Inlet, InletLetter, Plumbing
from resilient_rpc.serving.intake import deadline_of
from resilient_rpc.serving.job import NO_ID, Job, Letter
from resilient_rpc.serving.outbox import Outbox
from resilient_rpc.transport.base import Consumer, Delivery, QueueSpec
from resilient_rpc.transport.properties import encode_properties
from resilient_rpc.wire.codec import MSGPACK

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RawQueue:
    """A queue of plain bytes, as it was registered: `method` takes the body and returns the answer."""

    spec: QueueSpec
    method: Method


class RawLetter(InletLetter):
    """A message of such a queue."""

    __slots__ = ()

    inlet: RawInlet


class RawInlet(Inlet):
    """Consumes one such queue."""

    def __init__(self, raw: RawQueue, desk: Desk, shared: Plumbing) -> None:
        super().__init__(raw.spec, desk, shared, cuttable=False, methods=(raw.method,))
        self._raw, self._limits = raw, shared.options.limits
        self._addresses, self._numbers = shared.addresses, shared.numbers

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
