"""A message that arrived, and the calls in it."""

from __future__ import annotations

import asyncio
import math
from contextvars import Context as Variables
from typing import Any

from resilient_rpc.context import Context
from resilient_rpc.contract import Method
from resilient_rpc.parking import Outcome
from resilient_rpc.transport.base import Consumer, Delivery
from resilient_rpc.transport.deadletters import DELIVERIES, Reason, broker_count, deliveries_of
from resilient_rpc.transport.deadlines import NOWHERE
from resilient_rpc.wire.codec import Codec

DELIVERIES_HEADER = DELIVERIES.encode()
NO_ID = object()
"""The reply id of a notification: it gets none."""
Death = tuple[int, Reason, BaseException | None]
"""Which call of a message (-1: all of it), why, and by what."""


class Letter:
    """One message. It is acked when all of its calls are answered and the answers are with the broker."""

    __slots__ = (
        "accepts",
        "address",
        "arrived",
        "at",
        "batch",
        "calls",
        "codec",
        "correlation_id",
        "deadline",
        "deaths",
        "delivery",
        "left",
        "ours",
        "principal",
        "print",
        "priority",
        "replies",
        "reply_to",
        "returns",
        "session",
        "started",
        "tag",
        "user",
    )

    def __init__(
        self,
        session: Consumer,
        delivery: Delivery,
        *,
        reply_to: str,
        correlation_id: str | None,
        codec: Codec,
        ours: bool,
    ) -> None:
        self.session, self.tag = session, delivery.tag
        self.delivery = delivery
        """As it arrived, for a dead letter."""
        self.returns = deliveries_of(delivery) if DELIVERIES_HEADER in delivery.properties.get("headers", b"") else 0
        """How often it came back before, where that is counted in a header."""
        self.deaths: list[Death] = []
        """Its calls that are neither run nor answered."""
        self.at = -1
        """The call that is being read; -1: none, what is wrong is wrong with the whole message."""
        self.calls = 1
        self.arrived = 0.0
        """When its calls were read (`time.monotonic`)."""
        self.reply_to, self.correlation_id, self.codec, self.ours = reply_to, correlation_id, codec, ours
        # Replies of one link to one address may share a message; its token stands before the dot.
        self.address = reply_to, (correlation_id or "").partition(".")[0]
        self.principal: str | None = None
        """Who sent it, as far as a filter has proof of it."""
        self.accepts: tuple[str, ...] = ()
        """Content encodings that its sender can read, as a filter has found."""
        self.priority = 0
        """Of its calls, from 0 to 9."""
        self.user: str | None = None
        """Who sent it by the broker's word, where the server asks for it."""
        self.batch = False
        self.print = 0
        """What tells messages of a plain speaker apart that have the same correlation id."""
        self.left = 1
        """Calls that are not done with: not answered, or the answer not confirmed."""
        self.started = 0
        self.deadline = math.inf
        """After this nobody waits for any answer."""
        self.replies: list[bytes] = []
        """What a plain speaker gets in one message, when all is done."""

    @property
    def attempts(self) -> int:
        """How often it was delivered, as far as anybody knows."""
        delivery = self.delivery
        return max(self.returns, broker_count(delivery), delivery.redelivered) + 1

    @property
    def key(self) -> object:
        """What tells it from every other message, in a redelivery too. Others may use a correlation id twice."""
        if self.ours and self.correlation_id is not None:
            return self.reply_to, self.correlation_id
        return self

    def is_copy_of(self, other: Letter) -> bool:
        """Whether this is, as far as one can see, the same message, redelivered after its session was lost."""
        return (
            self.session is not other.session
            and self.correlation_id is not None
            and (self.correlation_id, self.reply_to, self.print) == (other.correlation_id, other.reply_to, other.print)
        )


class Job:
    """One call of a letter, ready to run."""

    __slots__ = (
        "args",
        "bucket",
        "busy",
        "context",
        "coroutine",
        "course",
        "deadline",
        "finished",
        "index",
        "kwargs",
        "letter",
        "method",
        "number",
        "parked",
        "reply",
        "seconds",
        "started",
        "task",
        "timed_out",
        "variables",
    )

    def __init__(
        self,
        letter: Letter,
        number: int,
        method: Method,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context,
        reply: Any,
    ) -> None:
        self.letter, self.number, self.method, self.args, self.kwargs = letter, number, method, args, kwargs
        self.context, self.reply = context, reply
        self.index = letter.at
        """Where it stands in its message."""
        self.deadline = context.deadline
        self.bucket = NOWHERE
        self.started = 0.0
        self.busy = 0.0
        """Seconds for which it held the loop."""
        self.seconds = 0.0
        """What it took from others, once it has ended."""
        self.coroutine: Any = None
        self.course: Any = None
        """Its `Course` through the policies of the server, if there are any."""
        self.finished = False
        self.timed_out = False
        self.task: asyncio.Task[Any] | None = None
        self.parked: Outcome | None = None
        """What it waits for, or has waited for last, without a task."""
        self.variables: Variables

    @property
    def unasked(self) -> bool:
        """Nobody waits for its answer."""
        return self.reply is NO_ID or not self.letter.reply_to

    @property
    def id(self) -> int:
        """For the table of deadlines."""
        return self.number
