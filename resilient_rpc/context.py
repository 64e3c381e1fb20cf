"""What a handler knows of the call it serves, and what its own calls inherit from it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from resilient_rpc.call import NO_TAGS, Safety

_current: ContextVar[Context | None] = ContextVar("resilient_rpc_context", default=None)


class Context:
    """The call that a handler serves: declare a parameter of this type to get it.

    Calls that the handler makes inherit its tags, its trace and the smaller deadline, unless ``detached=True``.
    """

    __slots__ = ("attempt", "cancelled", "deadline", "key", "method", "redelivered", "safety", "tags", "trace")

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
        self.cancelled = False
        """True once nobody waits for the answer any more: the deadline passed, or the server is stopping."""

    def remaining(self) -> float:
        """Seconds until the caller stops waiting; negative when it has."""
        return self.deadline - time.monotonic()

    def __repr__(self) -> str:
        return f"Context(method={self.method!r}, attempt={self.attempt}, safety={self.safety!r})"


def current_context() -> Context | None:
    """The call that the running handler serves; None outside of handlers."""
    return _current.get()


def enter_context(context: Context | None) -> Any:
    """Make it the current one in the running task's or thread's context."""
    return _current.set(context)
