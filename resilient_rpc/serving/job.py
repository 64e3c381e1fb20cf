"""A message that arrived, and the calls in it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from resilient_rpc.context import Context
from resilient_rpc.contract import Method
from resilient_rpc.transport.base import Consumer
from resilient_rpc.transport.deadlines import NOWHERE
from resilient_rpc.wire.codec import Codec


class Letter:
    """One message. It is acked when all of its calls are answered and the answers are with the broker."""

    __slots__ = (
        "address",
        "batch",
        "codec",
        "correlation_id",
        "deadline",
        "left",
        "ours",
        "principal",
        "print",
        "replies",
        "reply_to",
        "session",
        "started",
        "tag",
    )

    def __init__(
        self, session: Consumer, tag: int, *, reply_to: str, correlation_id: str | None, codec: Codec, ours: bool
    ) -> None:
        self.session, self.tag = session, tag
        self.reply_to, self.correlation_id, self.codec, self.ours = reply_to, correlation_id, codec, ours
        # Replies of one link to one address may share a message; its token stands before the dot.
        self.address = reply_to, (correlation_id or "").partition(".")[0]
        self.principal: str | None = None
        """Who sent it, as far as a filter has proof of it."""
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
        "kwargs",
        "letter",
        "method",
        "number",
        "reply",
        "seconds",
        "started",
        "task",
        "timed_out",
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

    @property
    def id(self) -> int:
        """For the table of deadlines."""
        return self.number
