"""Where the replies to a client arrive: `Client(replies=...)`. What a session has to set up for it is a `ReplyQueues`.

Every name is random and made when a link is, so after a fork: nobody guesses it, and no two processes share one.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from resilient_rpc.errors import ConfigurationError, NotConnected
from resilient_rpc.settings import check_timeout

REPLY_PREFIX = "rpc.reply."
"""Of the names of reply queues; servers accept it without being told."""
EXPIRES = 300.0
MAX_QUEUES = 64
MAX_APP = 64
_APP = re.compile(r"[A-Za-z0-9_-]+")


class ReplyQueueTaken(NotConnected):
    """Somebody else has a queue of the name that a session chose: the next one chooses another."""


@dataclass(frozen=True, kw_only=True)
class ReplyQueues:
    """What a session sets up for replies, in place of the direct reply address.

    ``exclusive``: `count` queues that end with the session. ``named``: the durable queue `name`, deleted `expires`
    seconds after its last session. ``per_call``: a queue for each message, asked for with `Leasing.lease`.
    """

    kind: Literal["exclusive", "named", "per_call"]
    count: int = 1
    name: str = ""
    expires: float = EXPIRES
    epoch: int = 0
    """How many sessions of the same owner have had the named queue: above 0 it is there, and may hold replies."""

    @property
    def arguments(self) -> dict[str, Any]:
        """What a named queue is declared with."""
        return {"x-expires": max(round(self.expires * 1000), 1)}

    def again(self) -> ReplyQueues:
        """For the next session."""
        return replace(self, epoch=self.epoch + 1)


@dataclass(frozen=True, kw_only=True)
class Direct:
    """RabbitMQ's direct reply address, the default: no queue at all, and the quickest.

    A connection that ends takes the replies under way with it: their calls end in `ConnectionLost`, outcome unknown.
    """

    survives: ClassVar[bool] = False
    """Whether calls outlive the connection on which they were sent."""
    alone: ClassVar[bool] = False
    """Whether each call travels alone."""

    def queues(self) -> ReplyQueues | None:
        """What a link's sessions set up; None: the direct reply address."""
        return None


@dataclass(frozen=True, kw_only=True)
class Exclusive:
    """One queue for each connection, named by the broker and deleted with the connection.

    For brokers, or proxies before them, that know no direct reply address, and where an operator wants to see how many
    replies wait. A server learns that the queue is gone, and drops the reply at once.
    """

    survives: ClassVar[bool] = False
    alone: ClassVar[bool] = False

    def queues(self) -> ReplyQueues | None:
        """See `Direct`."""
        return ReplyQueues(kind="exclusive")


@dataclass(frozen=True, kw_only=True)
class Named:
    """One durable queue for each connection, ``rpc.reply.<app>.<128 random bits>``, that outlives it.

    After a reconnect the replies that came meanwhile are read. So calls that the broker had confirmed stay pending when
    the connection is lost, until their deadline; of those that it had not, nobody knows, and they end in
    `ConnectionLost`.

    Attributes:
        app: Shown to operators in the queue's name: letters, digits, ``_`` and ``-``, at most 64.
        expires: Seconds without a connection after which the broker deletes the queue (default 300).
    """

    survives: ClassVar[bool] = True
    alone: ClassVar[bool] = False

    app: str
    expires: float = EXPIRES

    def __post_init__(self) -> None:
        app: Any = self.app
        if not isinstance(app, str) or len(app) > MAX_APP or not _APP.fullmatch(app):
            raise ConfigurationError(
                f"Named.app={app!r:.200}: give letters, digits, _ and -, at most {MAX_APP} characters"
            )
        check_timeout(self.expires, "Named.expires")

    def queues(self) -> ReplyQueues | None:
        """See `Direct`; each has a name of its own."""
        return ReplyQueues(kind="named", name=f"{REPLY_PREFIX}{self.app}.{secrets.token_hex(16)}", expires=self.expires)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Several exclusive queues for each connection, which take turns: for more replies than one queue can move.

    Attributes:
        size: Queues of a connection, from 1 to 64 (default 4).
    """

    survives: ClassVar[bool] = False
    alone: ClassVar[bool] = False

    size: int = 4

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= MAX_QUEUES:
            raise ConfigurationError(f"Pool.size={self.size!r}: give a whole number from 1 to {MAX_QUEUES}")

    def queues(self) -> ReplyQueues | None:
        """See `Direct`."""
        return ReplyQueues(kind="exclusive", count=self.size)


@dataclass(frozen=True, kw_only=True)
class PerCall:
    """An exclusive queue for each call, deleted when the call ends. Calls are not joined to messages.

    For peers that know a call by its queue, and do not return correlation ids to where they belong. It costs three
    round trips to the broker beside each call.
    """

    survives: ClassVar[bool] = False
    alone: ClassVar[bool] = True

    def queues(self) -> ReplyQueues | None:
        """See `Direct`."""
        return ReplyQueues(kind="per_call")


ReplyStrategy = Direct | Exclusive | Named | Pool | PerCall


def check_replies(value: Any) -> ReplyStrategy:
    """Return `value` if it is a strategy; `ConfigurationError` otherwise."""
    if not isinstance(value, ReplyStrategy):
        raise ConfigurationError(
            f"replies={value!r:.200}: give Direct(), Exclusive(), Named(app=...), Pool() or PerCall()"
        )
    return value
