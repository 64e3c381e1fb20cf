"""Messages that are not calls: a cast ends with a confirm, a question with bytes, a survey with many answers.

Each travels alone, under a correlation id of its own that nobody can guess.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from resilient_rpc.errors import EXECUTED, NOT_EXECUTED, UNKNOWN, DeadlineExceeded, RpcError, TooLarge, Unroutable
from resilient_rpc.pending import Pending
from resilient_rpc.transport import failures
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.deadlines import NOWHERE
from resilient_rpc.wire.filters import Message


class Post(Pending[Any]):
    """One message, and what is awaited of it. This one, a cast, ends when a queue has it; then its value is None.

    `message` lacks what the session adds: the ids, the address for replies and the time. `expires`: it is worth nothing
    after the deadline, and says so. `filtered`: the filters of the client apply to it.
    """

    __slots__ = ("bucket", "correlation", "deadline", "expires", "filtered", "id", "label", "message", "sent", "taken")

    replies = False
    """Whether anything is to come back."""
    topic = ""
    """The name under which it goes to a topic exchange."""

    def __init__(
        self, label: str, message: Message, deadline: float, *, expires: bool = False, filtered: bool = True
    ) -> None:
        super().__init__()
        self.label, self.message, self.deadline = label, message, deadline
        self.expires, self.filtered = expires, filtered
        self.correlation = secrets.token_urlsafe(16) + ".1"
        self.id = -id(self)
        """For tables; those of calls are positive."""
        self.bucket = NOWHERE
        self.sent = False
        """It was handed to the transport: from here on nobody knows whether somebody has it."""
        self.taken = False
        """The broker has confirmed it."""

    @property
    def exchange(self) -> str:
        """Where it goes if not to a queue."""
        return ""

    def confirmed(self) -> None:
        """A queue has it."""
        self.set(None)

    def returned(self, code: int, text: str) -> None:
        """No queue has it."""
        self.fail(failures.returned(self.message.target, code, text))

    def replied(self, delivery: Delivery) -> None:
        """Something came back."""

    def expired(self, *, connected: bool, cause: BaseException | None) -> None:
        """Its deadline has passed; `cause`: why there was no session the last time that one was opened."""
        if self.sent:
            self.fail(failures.not_answered(self.label) if self.taken else failures.not_confirmed(self.label))
        else:
            self.fail(failures.not_sent(self.label) if connected else failures.not_connected(self.label, cause))

    def given_up(self) -> RpcError:
        """What its caller gets that waited beyond the deadline."""
        certainty = None if self.sent else NOT_EXECUTED
        return DeadlineExceeded(f"{self.label}: not ended by the deadline", certainty=certainty)


class EventPost(Post):
    """To all services that subscribe to an event: ends when their queues have it. Its value: whether there are any."""

    __slots__ = ()

    @property
    def topic(self) -> str:  # type: ignore[override]
        """See `Post`."""
        return self.label

    @property
    def exchange(self) -> str:
        """Where it goes."""
        return self.message.target


class Question(Post):
    """To any queue that answers by `reply_to`: ends with the first answer, its bytes."""

    __slots__ = ("_most",)

    replies = True

    def __init__(self, queue: str, message: Message, deadline: float, *, most: int) -> None:
        super().__init__(queue, message, deadline, expires=True, filtered=False)
        self._most = most

    def confirmed(self) -> None:
        """The answer is awaited."""

    def returned(self, code: int, text: str) -> None:
        """No queue has it."""
        self.fail(Unroutable(f"no queue {self.message.target!r} ({code} {text})"))

    def replied(self, delivery: Delivery) -> None:
        """The answer."""
        size = len(delivery.body)
        if size > self._most:
            self.fail(TooLarge(f"the reply of {size} bytes is over the limit of {self._most}", certainty=EXECUTED))
        else:
            self.set(delivery.body)


Answers = list[tuple[str, Any]]


class Survey(Post):
    """To every server of a service: ends with what has come by the deadline, or with as many answers as are expected.

    `read` makes answers of a reply: server, and value or error.
    """

    __slots__ = ("_answers", "_exchange", "_expect", "_read")

    replies = True

    def __init__(
        self,
        label: str,
        message: Message,
        deadline: float,
        *,
        exchange: str,
        expect: int | None,
        read: Callable[[Delivery], Answers],
    ) -> None:
        super().__init__(label, message, deadline, expires=True)
        self._exchange, self._expect, self._read = exchange, expect, read
        self._answers: Answers = []

    @property
    def exchange(self) -> str:
        """Where it goes."""
        return self._exchange

    def confirmed(self) -> None:
        """The answers are awaited."""

    def returned(self, code: int, text: str) -> None:  # noqa: ARG002
        """No server is there."""
        self.set([])

    def replied(self, delivery: Delivery) -> None:
        """One server's answer."""
        self._answers += self._read(delivery)
        if self._expect is not None and len(self._answers) >= self._expect:
            self.set(self._answers)

    def expired(self, *, connected: bool, cause: BaseException | None) -> None:
        """What has come is the result."""
        if self.taken or self._answers:
            self.set(self._answers)
        else:
            super().expired(connected=connected, cause=cause)


def no_such_exchange(label: str, exchange: str) -> Unroutable:
    """Nobody has declared it."""
    return Unroutable(f"{label}: no exchange {exchange!r}: no server that hears broadcasts has run here")


def interrupted(post: Post, error: BaseException) -> RpcError:
    """The session on which it was sent has ended."""
    failure = failures.connection_lost(error)
    failure.certainty = UNKNOWN if post.sent else NOT_EXECUTED
    return failure
