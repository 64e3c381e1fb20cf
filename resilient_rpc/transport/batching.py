"""Which calls may share a message: a running estimate of what they take, and a plan.

A batch goes to one server, so it may hold only so much work that the others are not missed: the calls of a message
together take at most `max_seconds` by what replies report per method, and are at most the free slots that the service
last reported, or `FEW` if fewer are free. An unknown method travels alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from resilient_rpc.call import Safety
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.wire.codec import Codec
from resilient_rpc.wire.envelope import Answer
from resilient_rpc.wire.limits import Limits

IDLE = 10.0
"""Seconds after which an estimate is stale: servers may have changed meanwhile."""
OVERLOADED = -32001
FALL = 0.1
"""Share of the way down that one quicker reply moves the estimate; a slower one moves it all the way up."""
FEW = 8
"""Calls that may share a message whatever is free: a service without a free slot would get a message for each call,
and be slower just then (docs/performance.md). What they take is bounded by `max_seconds` all the same."""
_BRACKETS = 8
"""Bytes around the calls of a message, in any codec."""


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How calls are joined to messages.

    `max_seconds`: what the handlers of one message may take together (default 2 ms). `max_calls`: calls in a message
    (default 64). `max_bytes`: bytes of a message with more than one call (default 256 KiB).
    """

    max_seconds: float = 0.002
    max_calls: int = 64
    max_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        seconds: Any = self.max_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise ConfigurationError(f"Batching(max_seconds={seconds!r}): give a positive number of seconds")
        for name in ("max_calls", "max_bytes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigurationError(f"Batching({name}={value!r}): give a whole number of at least 1")

    def within(self, limits: Limits) -> Batching:
        """The same, but no message of several calls is over the limits that a single one keeps to."""
        most = max(limits.max_body - _BRACKETS, 1)
        return replace(self, max_calls=min(self.max_calls, limits.max_items), max_bytes=min(self.max_bytes, most))


class Outgoing(Protocol):
    """What the plan needs to know of a call."""

    @property
    def method(self) -> str:
        """The full name."""

    @property
    def data(self) -> bytes:
        """The encoded request."""


class Route:
    """Calls that may share a message: to one queue, of the same safety and priority, in the same content type."""

    __slots__ = ("codec", "priority", "safety", "target")

    def __init__(self, target: Target, safety: Safety, codec: Codec, priority: int = 0) -> None:
        self.target, self.safety, self.codec, self.priority = target, safety, codec, priority


class Routed(Outgoing, Protocol):
    """A call that knows its way."""

    @property
    def route(self) -> Route:
        """Where it goes, and with which others it may share a message."""


C = TypeVar("C", bound=Outgoing)
R = TypeVar("R", bound=Routed)


class Target:
    """What is known of one queue's servers: whether they are ours, how quick, how free."""

    __slots__ = ("_routes", "_seconds", "_touched", "modern", "name", "plain", "room", "token")

    def __init__(self, name: str) -> None:
        self.name = name
        self.modern = False
        """A reply of it carried `rpc-version`: it understands batches and `meta`."""
        self.plain = False
        """Never to be sent either, whatever its replies carry."""
        self.room = 1
        self.token = ""
        """Stands before the dot of the correlation ids of messages to it, on the session there is now."""
        self._seconds: dict[str, float] = {}
        self._touched = 0.0
        self._routes: dict[tuple[Safety, str, int], Route] = {}

    @property
    def touched(self) -> float:
        """When a reply of one of our servers last came."""
        return self._touched

    def route(self, safety: Safety, codec: Codec, priority: int = 0) -> Route:
        """The one object for calls to it that may share a message."""
        key = (safety, codec.content_type, priority)
        return self._routes.get(key) or self._routes.setdefault(key, Route(self, safety, codec, priority))

    def learner(self, method: str, now: float) -> Callable[[Answer], None]:
        """What takes note of the replies to one method: made once for the replies of a message."""
        estimates = self._seconds
        self._touched = now

        def learn(answer: Answer) -> None:
            meta = answer.meta
            if answer.error is not None:
                if answer.error.code == OVERLOADED:  # it travels alone until a reply says otherwise
                    estimates.pop(method, None)
            elif meta is not None and meta.t and not meta.replayed:
                seconds = meta.t / 1e6
                known = estimates.get(method, 0.0)
                estimates[method] = seconds if seconds > known else known + FALL * (seconds - known)
            if meta is not None and meta.room is not None:
                self.room = meta.room

        return learn

    def refresh(self, now: float) -> None:
        """Forget everything that has not been heard of for a while."""
        if self._seconds and now - self._touched > IDLE:
            self._seconds.clear()


def grouped(calls: Sequence[R], batching: Batching | None, now: Callable[[], float]) -> Sequence[Sequence[R]]:
    """The messages for these calls; None: each travels alone, as all do to a target of which nothing is known."""
    if batching is None or len(calls) <= 1:
        return [(call,) for call in calls]
    routes = {call.route for call in calls}
    groups: list[Sequence[R]] = []
    instant = now()
    for route in routes if len(routes) == 1 else sorted(routes, key=_last):
        same = calls if len(routes) == 1 else [call for call in calls if call.route is route]
        if route.target.modern:
            route.target.refresh(instant)
            groups.extend(plan(route.target, same, batching))
        else:
            groups.extend([call] for call in same)
    return groups


def _last(route: Route) -> int:
    return -route.priority


def plan(target: Target, calls: Iterable[C], batching: Batching) -> list[list[C]]:
    """Group the calls of one target into messages, in order."""
    most, bytes_, seconds = min(batching.max_calls, max(target.room, FEW)), batching.max_bytes, batching.max_seconds
    groups: list[list[C]] = []
    group: list[C] = []
    spent, size = 0.0, 0
    estimates = target._seconds  # noqa: SLF001 - the hot loop of this file
    for call in calls:
        cost = estimates.get(call.method, math.inf)
        length = len(call.data) + 1
        if group and (len(group) >= most or spent + cost > seconds or size + length > bytes_):
            groups.append(group)
            group, spent, size = [], 0.0, 0
        group.append(call)
        spent += cost
        size += length
    if group:
        groups.append(group)
    return groups
