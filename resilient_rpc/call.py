"""Call and Reply: what travels through a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from resilient_rpc.events import Event, PolicyEvent
    from resilient_rpc.hub import Events
    from resilient_rpc.policy import Runtime


class Safety(StrEnum):
    """What a repeat of a call would do: it decides what may be retried, cached, hedged and coalesced."""

    READ_ONLY = "read_only"
    """No effect at all."""
    IDEMPOTENT = "idempotent"
    """A second execution changes nothing more."""
    DEDUP = "dedup"
    """Carries an idempotency key: the server executes it once and answers repeats from its record."""
    UNSAFE = "unsafe"
    """A second execution would do it twice."""

    __hash__ = str.__hash__  # Enum's own is a Python function, and this is a key on the hot path

    @property
    def repeatable(self) -> bool:
        """Whether the call may be sent again when nobody knows if it was executed."""
        return self is not Safety.UNSAFE


READ_ONLY, IDEMPOTENT, DEDUP, UNSAFE = Safety
"""The members, for the hot path: in Python 3.11 looking one up in its class takes longer than making a `Reply`."""
Params = Mapping[str, Any] | Sequence[Any]
NO_TAGS: Mapping[str, str] = {}
MAX_PRIORITY = 9
"""The highest priority of a call, as AMQP has it; 0 is that of a call that names none."""


class Call(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One logical request, or one attempt of it.

    Immutable: a policy that changes something passes on a copy (`replace`, `on`). `deadline` is an instant on the
    runtime's monotonic clock, in seconds; `timeout` the duration that the user asked for.
    """

    method: str
    """The full name: ``service.method``."""
    params: Params
    runtime: Runtime
    deadline: float
    timeout: float = 0.0
    safety: Safety = Safety.UNSAFE
    key: str | None = None
    """The idempotency key."""
    attempt: int = 1
    tags: Mapping[str, str] = NO_TAGS
    trace: Mapping[str, str] | None = None
    """W3C trace context: traceparent and tracestate."""
    returns: Any = None
    """The type of the result; None: as the codec decodes it."""
    events: Events | None = None
    """Where policies announce what they do: the client's."""
    priority: int = 0
    """From 0 to 9: among the calls that wait, those of a higher one are delivered and begun sooner."""

    @property
    def target(self) -> str:
        """The service: what circuit breakers, budgets and limits keep their state by."""
        return self.method.partition(".")[0]

    def remaining(self) -> float:
        """Seconds until the deadline; negative when it has passed."""
        return self.deadline - self.runtime.now()

    def on(self, runtime: Runtime) -> Call:
        """The same call, waited for by another runtime."""
        return msgspec.structs.replace(self, runtime=runtime)

    def replace(self, **changes: Any) -> Call:
        """A copy with some fields changed."""
        return msgspec.structs.replace(self, **changes)

    def wants(self, event_type: type[Event]) -> bool:
        """Whether anybody listens to this type of event: ask before building one where it costs."""
        return self.events is not None and self.events.wants(event_type)

    def emit(self, event: Event) -> None:
        """Announce what happened to this call. Never under a lock."""
        if self.events is not None:
            self.events.emit(event)

    def announce(self, kind: type[PolicyEvent], policy: str, /, **details: Any) -> None:
        """Emit an event of a policy about this call, if anybody listens to its type. Never under a lock.

        `kind`: the type of the event; `policy`: what the policy is called; `details`: the fields that `kind` adds to
        those of `PolicyEvent`. Where it costs to compute them, ask `wants` first.
        """
        events = self.events
        if events is not None and events.wants(kind):
            events.emit(kind(policy=policy, method=self.method, target=self.target, attempt=self.attempt, **details))


class Cast(Call, frozen=True, kw_only=True, eq=False):
    """A call without an answer: it ends when the broker has it, and its deadline is for that alone.

    `ttl`: seconds after which it is worth nothing to whoever takes it; None: it waits for ever.
    """

    ttl: float | None = None


class Publication(Call, frozen=True, kw_only=True, eq=False):
    """An event for whoever subscribes to it: `method` is its name, `key` its id.

    It ends when the broker has it; `ttl` as for a `Cast`.
    """

    ttl: float | None = None
    exchange: str

    @property
    def target(self) -> str:
        """The exchange: what a service is called like that an event begins with has nothing to do with it."""
        return self.exchange


class RawCall(Call, frozen=True, kw_only=True, eq=False):
    """Bytes for a queue of anybody's that answers by ``reply_to``.

    `method` is the name of the queue and `params` holds the body; `properties` are AMQP's.
    """

    properties: Mapping[str, Any] = NO_TAGS


def fields_of(call: Call) -> dict[str, Any]:
    """What makes another call of it, of whatever kind."""
    return {name: getattr(call, name) for name in Call.__struct_fields__}


class CacheHints(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the server says about the caching of a reply."""

    max_age: float | None = None
    """Seconds for which it may be used again; None: the cache's own `ttl`."""
    no_store: bool = False
    """It must not be kept at all."""
    tags: tuple[str, ...] = ()
    """By which a cache can be told to forget it."""


class Reply(msgspec.Struct, kw_only=True, eq=False):
    """The answer to a call."""

    result: Any
    replayed: bool = False
    """Answered from the record of an earlier execution with the same key."""
    degraded: bool = False
    """A policy's substitute (a fallback, a stale value), not a server's answer."""
    server: str | None = None
    """The name of the server that executed it."""
    attempts: int = 1
    cache: CacheHints | None = None
    """What the server said about caching it."""
