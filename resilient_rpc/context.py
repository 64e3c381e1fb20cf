"""What a handler knows of the call it serves, and what its own calls inherit from it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from resilient_rpc.call import NO_TAGS, CacheHints, Safety
from resilient_rpc.wire.hints import check_hints, merge_hints

if TYPE_CHECKING:
    from resilient_rpc.policies.idempotency.claim import Claim

_current: ContextVar[Context | None] = ContextVar("resilient_rpc_context", default=None)


class Context:
    """The call that a handler serves: declare a parameter of this type to get it.

    Calls that the handler makes inherit its tags, its trace and the smaller deadline, unless ``detached=True``.
    """

    __slots__ = (
        "_event",
        "attempt",
        "cancelled",
        "claim",
        "deadline",
        "fencing_token",
        "hints",
        "key",
        "lost_ownership",
        "method",
        "principal",
        "priority",
        "redelivered",
        "safety",
        "tags",
        "trace",
    )

    def __init__(
        self,
        method: str,
        deadline: float,
        safety: Safety,
        key: str | None = None,
        attempt: int = 1,
        redelivered: bool = False,
        tags: Mapping[str, str] = NO_TAGS,
        trace: Mapping[str, str] | None = None,
        principal: str | None = None,
        priority: int = 0,
    ) -> None:
        self.method = method
        self.deadline = deadline
        """`time.monotonic` of this process; `math.inf` for a call without one."""
        self.safety = safety
        self.key = key
        self.attempt = attempt
        self.redelivered = redelivered
        self.tags = tags
        self.trace = trace
        self.principal = principal
        """Who sent the call; None: nobody knows.

        The broker's user with `Server(require_user_id=True)`, else whom a filter (a signature, say) has proof of.
        """
        self.priority = priority
        """From 0 to 9, as the caller has said; calls of a higher one begin sooner."""
        self.cancelled = False
        """True once nobody waits for the answer any more: the deadline passed, the caller gave up, or the server is
        stopping. A plain function, which cannot be stopped from outside, does well to look at it now and then."""
        self.fencing_token: int | None = None
        """Of a call with an idempotency key: a number that grows with each execution of it, by whatever server.

        Give it to what you write to, and have a smaller one refused: an execution that was thought dead may go on.
        """
        self.claim: Claim | None = None
        """Of a call with an idempotency key: what `SqlStore.record` needs to know of its record."""
        self.lost_ownership = False
        """True while another server may be executing the call: this one could not renew its lease."""
        self.hints: CacheHints | None = None
        """What `cache` has said so far."""

    @property
    def event_id(self) -> str | None:
        """Of an event: what tells it from others, the same each time that it is delivered. None for a call."""
        found: str | None = getattr(self, "_event", None)  # nothing is set for calls, which are many
        return found

    def of_event(self, name: str, event_id: str | None) -> None:
        """Take note that it is an event."""
        self.method, self._event = name, event_id

    def remaining(self) -> float:
        """Seconds until the caller stops waiting; negative when it has."""
        return self.deadline - time.monotonic()

    def cache(self, *, max_age: float | None = None, no_store: bool = False, tags: Collection[str] = ()) -> None:
        """Tell the caches of clients how to keep the result of this call.

        `max_age`: seconds, in place of the client's own; at most a day, and a negative number is 0. `no_store`: not at
        all. `tags`: names by which clients can forget it. Said several times: the strictest, and the tags of all.
        ConfigurationError for what is of the wrong type.
        """
        self.hints = merge_hints(self.hints, check_hints(max_age, no_store, tags))

    def __repr__(self) -> str:
        return f"Context(method={self.method!r}, attempt={self.attempt}, safety={self.safety!r})"


def current_context() -> Context | None:
    """The call that the running handler serves; None outside of handlers."""
    return _current.get()


def enter_context(context: Context | None) -> Any:
    """Make it the current one in the running task's or thread's context."""
    return _current.set(context)
