"""Idempotency: a call with a key takes effect once, and every repeat of it gets the first answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from random import random
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from resilient_rpc.call import DEDUP
from resilient_rpc.errors import ConfigurationError, Interrupted, Refused, RemoteError, UsageError
from resilient_rpc.events import CallRejected
from resilient_rpc.ioloop import IoLoop, io_loop
from resilient_rpc.policies.idempotency.events import announce
from resilient_rpc.policies.idempotency.execution import Execution
from resilient_rpc.policies.idempotency.fingerprint import fingerprint_of
from resilient_rpc.policies.idempotency.leases import Leases
from resilient_rpc.policies.idempotency.state import State
from resilient_rpc.policies.settings import check_count, check_seconds
from resilient_rpc.stores.base import OnTakeover, RecordKey, Store, check_takeover

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policies.idempotency.served import Served
    from resilient_rpc.policy import Handler

MAX_KEY = 255
"""Characters of a key."""
OnStoreError = Literal["closed", "open"]
Abandons = Collection[type[Exception] | str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Idempotency:
    """Executes a keyed call once, keeps its answer in `store` for `ttl` seconds, and answers repeats with it.

    A policy of servers. The key is the caller's, or what `key` makes of the call; it belongs to one tenant, service and
    method. Calls without a key pass.

    The first of all servers that asks the store executes the call. It holds the record by a lease of `lease` seconds,
    which is renewed for as long as the handler runs; `ctx.fencing_token` grows with each execution of a key. Every
    exception of the handler is an answer and is recorded, unless it is in `abandon_on`: then the next repeat executes
    again. What is refused before the handler begins leaves no record.

    A repeat gets the recorded answer (`Reply.replayed`). While the first one runs, it waits for at most `wait` seconds,
    without a slot, then it gets `InProgress`. With other arguments it gets `KeyReused`. After a server that has died,
    the next one executes again (`on_takeover="rerun"`), or refuses with `Interrupted` (`"fail_unknown"`).

    While the store does not answer, calls are refused before they are executed (`DependencyUnavailable`), or executed
    without a record (`on_store_error="open"`). A handler that has succeeded is answered for in any case.
    """

    role: ClassVar[str] = "idempotency"
    above: ClassVar[Mapping[str, str]] = {
        "chaos": "faults are injected where the handler would make them",
    }
    below: ClassVar[Mapping[str, str]] = {
        "fallback": "a substitute is not to be recorded as the answer",
        "idempotency": "one key has one record",
    }
    excludes: ClassVar[Mapping[str, str]] = {
        "hedge": "it would execute a call twice at once, under one record",
    }

    store: Store = field(kw_only=False)
    """Where records live."""
    ttl: float = 86_400.0
    """Seconds for which an answer is kept; longer than any client repeats a call, and than a message may wait."""
    lease: float = 5.0
    """Seconds after which a server that says nothing any more has lost the call."""
    wait: float = 5.0
    """Seconds for which a repeat waits for the first one's answer, 0 or more; never beyond its deadline."""
    max_waiting: int = 1000
    """Repeats that wait, at most, 0 or more; and never more than messages are taken ahead of the slots."""
    on_takeover: OnTakeover = "rerun"
    """What becomes of a call whose server has died: `rerun`, or `fail_unknown` for what must not be done twice."""
    on_store_error: OnStoreError = "closed"
    """Without the store: `closed` refuses, `open` executes without a record."""
    abandon_on: Abandons = ()
    """Exceptions of handlers after which a repeat executes again: classes, or names of `type`."""
    key: Callable[[Call], str | None] | None = None
    """A plain function of a call without a key that gives one, or None."""
    required: bool = False
    """Refuse calls without a key."""
    max_result_bytes: int = 1 << 20
    """A larger result is sent once; a repeat gets `TooLarge`, executed."""
    local: int = 0
    """Answers that are kept in this process too, up to 64 MiB; 0: those only that the store could not take."""
    name: str = ""
    """Shown in events, and tells two policies apart."""
    random: Callable[[], float] = field(default=random, repr=False)
    """For the jitter."""
    io: Callable[[], IoLoop] = field(default=io_loop, repr=False)
    """Where leases are renewed."""
    state: State = field(init=False, repr=False)
    leases: Leases = field(init=False, repr=False)
    _classes: tuple[type[Exception], ...] = field(init=False, repr=False)
    _names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.store, Store):
            raise ConfigurationError(f"Idempotency.store must be a store, as RedisStore(url), not {self.store!r:.200}")
        check_seconds("Idempotency.lease", self.lease)
        check_seconds("Idempotency.ttl", self.ttl)
        check_seconds("Idempotency.wait", self.wait, zero=True)
        if self.ttl < self.lease:
            raise ConfigurationError(f"Idempotency.ttl must be at least lease={self.lease!r}, not {self.ttl!r}")
        check_count("Idempotency.max_waiting", self.max_waiting, least=0)
        check_count("Idempotency.max_result_bytes", self.max_result_bytes, least=0)
        check_count("Idempotency.local", self.local, least=0)
        _check_words(self)
        classes, names = _check_abandons(self.abandon_on)
        object.__setattr__(self, "_classes", classes)
        object.__setattr__(self, "_names", names)
        object.__setattr__(self, "state", State(self.local))
        object.__setattr__(self, "leases", Leases(self.store, self.lease, self.io))

    def adopt(self, old: Self) -> None:
        """Take over what is executed here, who waits for it, and the answers that the store has not taken."""
        object.__setattr__(self, "state", old.state)

    @property
    def parks(self) -> bool:
        """Whether who waits for the store needs no task for it."""
        return getattr(self.store, "parks", False)

    def is_abandoned(self, error: Exception) -> bool:
        """Whether a repeat executes again after this exception of the handler."""
        if isinstance(error, self._classes):
            return True
        name = error.type if isinstance(error, RemoteError) and error.type else type(error).__name__
        return name in self._names

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Answer from the record, or execute and record."""
        served: Served | None = getattr(call, "course", None)
        key = call.key
        if key is None and self.key is not None:
            key = self._derived(call)
            if key is not None and served is not None:
                served.context.key = key
                call = call.replace(key=key)
        if key is None:
            self._check_unkeyed(call, served)
            return await proceed(call)
        if served is None:
            raise UsageError(
                f"{call.method}: Idempotency keeps records for a server; it cannot stand in a client's chain"
            )
        if call.runtime is not self.state.latest:
            self.state.close_with(call.runtime, self.store, self.leases)
        service, _, method = call.method.partition(".")
        fingerprint = fingerprint_of(call.method, served.params)
        record = RecordKey(served.tenant, service, method, key)
        return await Execution(self, call, proceed, served, record, fingerprint).reply()

    def _derived(self, call: Call) -> str | None:
        assert self.key is not None  # noqa: S101 - whoever calls this has looked
        key: Any = self.key(call)
        if key is None or is_key(key):
            found: str | None = key
            return found
        raise UsageError(
            f"{call.method}: Idempotency.key gave {key!r:.300}; a key is a text of 1 to {MAX_KEY} characters, or None"
        )

    def _check_unkeyed(self, call: Call, served: Served | None) -> None:
        if self.required or (call.safety is DEDUP and served is not None):
            raise self._refused("no_key", call, Refused(f"{call.method}: it is called with an idempotency key only"))
        if served is not None and served.context.redelivered and not call.safety.repeatable:
            text = f"{call.method}: an earlier server may have begun with it, and without a key it is not run twice"
            raise self._refused("interrupted", call, Interrupted(text))

    def _refused(self, reason: str, call: Call, error: RemoteError) -> RemoteError:
        announce(self, call, CallRejected, reason=reason)
        return error


def is_key(key: object) -> bool:
    """Whether it can be a key."""
    return isinstance(key, str) and 0 < len(key) <= MAX_KEY


def _check_words(policy: Idempotency) -> None:
    check_takeover(policy.on_takeover)
    if policy.on_store_error not in {"closed", "open"}:
        raise ConfigurationError(
            f"Idempotency.on_store_error must be 'closed' or 'open', not {policy.on_store_error!r}"
        )
    key: Any = policy.key
    if key is not None and (not callable(key) or inspect.iscoroutinefunction(key)):
        raise ConfigurationError(f"Idempotency.key must be a plain function of a call, not {key!r:.200}")


def _check_abandons(given: Any) -> tuple[tuple[type[Exception], ...], frozenset[str]]:
    """Classes and names; a text alone would be taken for its letters."""
    items = tuple(given) if isinstance(given, Collection) and not isinstance(given, str) else (None,)
    classes = tuple(item for item in items if isinstance(item, type) and issubclass(item, Exception))
    names = frozenset(item for item in items if isinstance(item, str) and item)
    if len(classes) + len(names) < len(set(items)):
        raise ConfigurationError(
            f"Idempotency.abandon_on must be classes of exceptions or names of their type, not {given!r:.200}"
        )
    return classes, names
