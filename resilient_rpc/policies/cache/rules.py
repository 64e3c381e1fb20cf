"""What is kept and for how long, whom an error concerns, and when an old value may stand in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilient_rpc.errors import ConfigurationError, Rejected, UsageError
from resilient_rpc.policies.cache.entries import Entry, size_of
from resilient_rpc.policies.cache.frozen import another, freeze, weigh
from resilient_rpc.policies.cache.keys import Key
from resilient_rpc.policies.cache.settings import Tags, check_tag_names, seconds_of
from resilient_rpc.policies.outcome import health

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply

EARLY = 0.05
"""Seconds. A call that fails with so little left has failed because of its own deadline: others may have more time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rules:
    """The part of a cache's settings that decides about entries."""

    ttl: float
    jitter: float
    random: Callable[[], float]
    negative: Mapping[type[Exception] | str, float]
    tags: Tags | None
    stale: float
    stale_if_error: float

    def entry(self, call: Call, key: Key, reply: Reply, born: int) -> tuple[Entry, float]:
        """The entry of a reply and its life in seconds. Raises when the value cannot be copied, or `tags` fails."""
        hints, tags = reply.cache, self._tags(call)
        if hints is None:
            life = self.ttl * (1 + self.jitter * (2 * self.random() - 1))
        else:
            tags += hints.tags
            # A server's word is a limit: jitter only shortens it.
            given = self.ttl if hints.max_age is None else hints.max_age
            life = given * (1 - self.jitter * self.random())
        frozen = freeze(reply.result, call.returns)
        fresh_until = call.runtime.now() + life
        return Entry(frozen, size_of(key, frozen), fresh_until, born, tags, reply.server, reply.degraded), life

    def negative_entry(self, call: Call, key: Key, error: Exception, born: int) -> Entry | None:
        """The entry of an error that is to be remembered."""
        seconds = seconds_of(self.negative, error) if self.negative else None
        if seconds is None:
            return None
        kept = another(error)
        kept.__cause__ = None  # would keep alive whatever stands in the frames of its traceback
        frozen = (None, None, weigh(kept.__dict__))
        return Entry(frozen, size_of(key, frozen), call.runtime.now() + seconds, born, error=kept)

    def _tags(self, call: Call) -> tuple[str, ...]:
        tags = self.tags
        if tags is None:
            return ()
        if isinstance(tags, Mapping):
            return tuple(tags.get(call.method, ()))
        return check_tag_names("Cache.tags", tags(call))


def hands_on(error: Exception, call: Call) -> bool:
    """Whether the error of `call` says nothing to others who wait for the same answer."""
    if isinstance(error, Rejected | UsageError | ConfigurationError):
        return True
    return health(error) is not True and call.remaining() <= EARLY


def may_be_rescued(error: BaseException) -> bool:
    """Whether an old value may stand in: not for an answer of the application, and not for a mistake of the caller."""
    return health(error) is not True and not isinstance(error, UsageError | ConfigurationError)
