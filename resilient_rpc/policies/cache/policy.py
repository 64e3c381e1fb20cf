"""Answers repeated calls from memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from resilient_rpc.call import READ_ONLY, Params, Reply, Safety
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.events import PolicyBypassed
from resilient_rpc.pending import Pending
from resilient_rpc.policies.cache.fetch import Fetch
from resilient_rpc.policies.cache.keys import Vary, key_of, name_to_void
from resilient_rpc.policies.cache.rules import Rules
from resilient_rpc.policies.cache.settings import Negative, Tags, check_methods, check_negative, check_tags
from resilient_rpc.policies.cache.state import State
from resilient_rpc.policies.naming import name_of
from resilient_rpc.policies.settings import check_count, check_function, check_name, check_seconds, check_share, shown

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.cache.redis_level import RedisCache
    from resilient_rpc.policy import Handler

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Cache:
    """Answers a call that only reads from an earlier answer to the same call.

    Only calls with the safety `read_only` are touched. The same call: the same method, `returns`, tags and arguments,
    in value and type (1, 1.0 and True differ; so do arguments by position and by name). Every caller gets a value of
    its own. Calls that miss at the same time are sent once; who waits for another's answer keeps its own deadline
    (`DeadlineExceeded`, ``stage="policy"``, `NOT_EXECUTED`), and gets a copy of an error about the target. What fails
    in the cache itself only costs a call (`PolicyBypassed`).

    One object is one store. Clients that share it must speak to the same services with the same rights.
    """

    role: ClassVar[str] = "cache"
    above: ClassVar[Mapping[str, str]] = {
        "deadline": "an answer from memory needs no time, and who waits for another's call has a deadline of its own",
        "bulkhead": "an answer from memory must not take a permit",
        "retry": "an answer from memory is no attempt, and a stale one is to stand in when all attempts have failed",
        "hedge": "an answer from memory is no attempt",
        "breaker": "an answer from memory says nothing about the target, and a stale one helps when it is open",
        "rate_limit": "an answer from memory must not take a token",
        "adaptive_limit": "an answer from memory would be measured as one of the target",
        "attempt_timeout": "the wait for another's call is no attempt",
        "chaos": "faults that are made on purpose are to be survived by it",
    }
    below: ClassVar[Mapping[str, str]] = {
        "fallback": "a stale value is better than a substitute, which must not be kept either",
    }
    requires: ClassVar[frozenset[Safety]] = frozenset({READ_ONLY})
    """The safety of the calls in `methods`."""

    ttl: float = 60.0
    """Seconds for which a value is used, where the server does not say."""
    jitter: float = 0.1
    """Share by which a ttl varies, so that what was fetched together does not expire together; 0 to 1."""
    max_entries: int = 10_000
    max_bytes: int = 64 * MIB
    """With all that an entry takes beside its value."""
    stale: float = 0.0
    """Seconds after its ttl in which a value is still handed out, while a new one is fetched in the background."""
    stale_if_error: float = 0.0
    """Seconds after its ttl in which a value stands in for a failure that is no answer of the application."""
    negative: Negative = ()
    """Errors of the application that are remembered: classes or their `type`; as a mapping with the seconds of each."""
    negative_ttl: float = 2.0
    """Seconds for which such an error is remembered, where `negative` does not say."""
    methods: Collection[str] | None = None
    """Full names; None: all calls with the safety `read_only`."""
    vary: Vary | None = None
    """What an answer depends on beside the arguments: gives a text, such as the tenant. None: on the call's tags."""
    tags: Tags | None = None
    """By which values can be invalidated: a function of the call, or a mapping by method. The server may name more."""
    shared: RedisCache | None = None
    """A second level, for all processes."""
    name: str = ""
    random: Callable[[], float] = field(default=random.random, repr=False)
    """From 0 to 1."""
    _methods: frozenset[str] | None = field(init=False, repr=False)
    _fetch: Fetch = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_seconds("Cache.ttl", self.ttl)
        check_share("Cache.jitter", self.jitter)
        check_count("Cache.max_entries", self.max_entries)
        check_count("Cache.max_bytes", self.max_bytes, least=4096)
        check_seconds("Cache.stale", self.stale, zero=True)
        check_seconds("Cache.stale_if_error", self.stale_if_error, zero=True)
        check_name("Cache.name", self.name)
        check_function("Cache.random", self.random)
        check_function("Cache.vary", self.vary, none=True)
        check_tags(self.tags)
        if self.shared is not None and not hasattr(self.shared, "attach"):
            raise ConfigurationError(f"Cache.shared must be a RedisCache, or None, not {shown(self.shared)}")
        rules = Rules(
            ttl=self.ttl,
            jitter=self.jitter,
            random=self.random,
            negative=check_negative(self.negative, self.negative_ttl),
            tags=self.tags,
            stale=self.stale,
            stale_if_error=self.stale_if_error,
        )
        state = State(self.max_entries, self.max_bytes, self.shared)
        object.__setattr__(self, "_methods", check_methods(self.methods))
        object.__setattr__(self, "_fetch", Fetch(state, rules, self.shared, name_of(self)))

    def adopt(self, old: Cache) -> None:
        """Take over what another one has kept; each value keeps the time that it was given."""
        state = old._fetch.state
        state.change(self.max_entries, self.max_bytes, self.shared)
        self._fetch.state = state

    def invalidate(
        self, *, method: str | None = None, params: Params | None = None, tag: str | None = None
    ) -> Pending[bool]:
        """Forget values: of a method (with these arguments), with a tag, or all; also those that are on their way.

        Here at once. With `shared` also there and in all other clients, in the background: what is returned is settled
        with True when they have been told, with False when they could not be.
        """
        if params is not None and method is None:
            raise ConfigurationError("Cache.invalidate: params says nothing without method")
        if tag is not None and method is not None:
            raise ConfigurationError("Cache.invalidate: give a tag or a method, not both")
        return self._fetch.state.invalidate(name_to_void(method, params, tag))

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Answer from memory, or fetch the answer once for all who ask."""
        if self._methods is not None and call.method not in self._methods:
            return await proceed(call)
        if call.safety is not READ_ONLY:
            if self._methods is not None:  # it was asked for by name, and nobody has said that it only reads
                call.announce(PolicyBypassed, name_of(self), reason="safety")
            return await proceed(call)
        fetch = self._fetch
        state = fetch.state
        try:
            key = key_of(call, self.vary)
            entry = state.store.get(key)
        except Exception:
            call.announce(PolicyBypassed, name_of(self), reason="arguments")
            return await proceed(call)
        if (
            entry is not None
            and entry.fresh_until > call.runtime.now()
            and (entry.born == state.voids.last or state.is_valid(key, entry))
        ):
            reply = fetch.answer(call, key, entry, "hit")
            if reply is not None:
                return reply
        return await fetch(call, proceed, key)
