"""Something in place of an answer, when none is to be had."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec import UNSET

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.errors import NOT_EXECUTED, ConfigurationError, RpcError, UsageError
from resilient_rpc.events import PolicyEvent
from resilient_rpc.policies.certainty import certainty_of, joined
from resilient_rpc.policies.naming import name_of
from resilient_rpc.policies.outcome import health, safe_to_repeat
from resilient_rpc.policies.settings import check_name, shown

if TYPE_CHECKING:
    from resilient_rpc.policy import Handler

Matches = Callable[[Exception], bool]
NEVER = (ConfigurationError, UsageError)
"""Mistakes of the program: a substitute would hide them."""


class FallbackUsed(PolicyEvent, frozen=True, kw_only=True):
    """A call failed, and its caller got a substitute."""

    log_level: ClassVar[int] = logging.WARNING

    source: str
    """``value``, ``handler`` or ``target``: where it came from."""
    error: Exception
    """What the caller did not see."""


class FallbackFailed(PolicyEvent, frozen=True, kw_only=True):
    """A call failed, its fallback too, and the caller got the error of the call."""

    log_level: ClassVar[int] = logging.WARNING

    source: str
    error: Exception
    failure: Exception
    """Of the fallback."""


class FallbackSuppressed(PolicyEvent, frozen=True, kw_only=True):
    """A call failed, and the second target was not tried."""

    log_level: ClassVar[int] = logging.INFO

    reason: str
    """``unsafe``: the call may have been executed; ``deadline``: no time is left; ``itself``: it is the same target."""
    error: Exception


@dataclass(frozen=True, kw_only=True, eq=False)
class Fallback:
    """Answers a call that has failed with a value, with what a function makes of it, or from a second service.

    Exactly one of `value`, `handler` and `target` is given. Whatever it is, the reply is marked `degraded`.

    By default it stands in where the target gave no answer: it was not reached, broke down, was too slow, or a policy
    refused the call. An error of the application is an answer and comes out. Cancellation, `ConfigurationError` and
    `UsageError` always come out.

    A second target is asked only where this can not make the call take effect twice: the error is `NOT_EXECUTED`, or
    it is `UNKNOWN` and the call is read-only or idempotent. An idempotency key does not help here: the records of one
    service are not those of another. The second call has what is left of the deadline, and passes the policies inside
    of this one as any other.

    When the fallback fails as well, the error of the call comes out, with the fallback's error as its context, and
    with a `certainty` that holds for both.

    ConfigurationError for none or several of the three, a value that cannot be copied, a handler that is a coroutine
    function, a name of a target that is none, and for an `on` that is neither a function nor classes of errors.
    """

    role: ClassVar[str] = "fallback"
    above: ClassVar[Mapping[str, str]] = {
        "cache": "a stale value of the cache is better than a substitute, and a substitute must not be cached",
        "deadline": "inside of it there is no time left for a fallback when the deadline is what has failed",
        "bulkhead": "it must see that the bulkhead is full",
        "retry": "a substitute at the first failure would leave nothing to retry",
        "hedge": "a substitute of one attempt would win over the answer of another",
        "breaker": "inside of it the circuit breaker would count a substitute as an answer of the target",
        "rate_limit": "it must see that the limit is reached",
        "adaptive_limit": "it must see that the limit is reached",
        "attempt_timeout": "it stands in for a call, not for an attempt",
        "chaos": "it must see the faults that are injected",
    }

    value: Any = UNSET
    """The substitute; each caller gets a copy of its own. None is a value."""
    handler: Callable[[Call, Exception], Any] | None = None
    """A plain function that makes the substitute from the call and its error, at once, or raises."""
    target: str | None = None
    """The service that is asked instead, with the same method and arguments."""
    on: Matches | type[Exception] | Collection[type[Exception]] | None = None
    """Which errors: classes, or a function that says so of an error. None: what is no answer of the application."""
    name: str = ""
    """Shown in events, in place of the class."""
    _source: str = field(init=False, repr=False)
    _matches: Matches = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given = {
            "value": self.value is not UNSET,
            "handler": self.handler is not None,
            "target": self.target is not None,
        }
        sources = [source for source, is_given in given.items() if is_given]
        if len(sources) != 1:
            raise ConfigurationError(f"Fallback: give exactly one of {', '.join(given)}, not {shown(sources)}")
        _check_handler(self.handler)
        _check_target(self.target)
        check_name("Fallback.name", self.name)
        object.__setattr__(self, "_source", sources[0])
        object.__setattr__(self, "_matches", _matcher(self.on))
        if self.value is not UNSET:
            object.__setattr__(self, "value", _copied(self.value))

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on, and stand in for what has failed."""
        try:
            return await proceed(call)
        except NEVER:
            raise
        except Exception as error:
            reply = await self._instead(call, proceed, error)
            if reply is None:
                raise
            return reply

    async def _instead(self, call: Call, proceed: Handler, error: Exception) -> Reply | None:
        """The substitute; None: there is to be none. Raises `error` when that fails."""
        asked = False
        try:
            if not self._matches(error):
                return None
            if self.target is not None:
                if reason := self._obstacle(call, error):
                    call.announce(FallbackSuppressed, name_of(self), reason=reason, error=error)
                    return None
                asked = True
                second = call.replace(method=f"{self.target}.{call.method.partition('.')[2]}")
                reply = msgspec.structs.replace(await proceed(second), degraded=True)
            else:
                value = copy.deepcopy(self.value) if self.handler is None else _made(self.handler, call, error)
                reply = Reply(result=value, degraded=True, attempts=getattr(error, "attempts", 1))
        except Exception as failure:
            if asked and isinstance(error, RpcError):
                error.certainty = joined((error.certainty, certainty_of(failure)))
            call.announce(FallbackFailed, name_of(self), source=self._source, error=error, failure=failure)
            raise error  # noqa: B904 - the failure of the fallback becomes the context of the call's own error
        call.announce(FallbackUsed, name_of(self), source=self._source, error=error)
        return reply

    def _obstacle(self, call: Call, error: Exception) -> str:
        """Why the second target must not be asked; empty: it may."""
        if call.target == self.target:
            return "itself"
        if certainty_of(error) is not NOT_EXECUTED and call.safety is Safety.DEDUP:
            return "unsafe"  # its key is known to the first service only
        if not safe_to_repeat(error, call):
            return "unsafe"
        return "deadline" if call.remaining() <= 0 else ""


def _no_answer(error: Exception) -> bool:
    return isinstance(error, RpcError) and health(error) is not True


def _matcher(on: Any) -> Matches:
    if on is None:
        return _no_answer
    if not isinstance(on, type) and callable(on):
        if inspect.iscoroutinefunction(on):
            raise ConfigurationError(f"Fallback.on must be a plain function, not {shown(on)}, which nobody would await")
        matches: Matches = on
        return matches
    kinds = (on,) if isinstance(on, type) else tuple(on) if isinstance(on, Collection) else ()
    if not kinds:
        raise ConfigurationError(f"Fallback.on must be a function or classes of errors, not {shown(on)}")
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(kind, NEVER):
            raise ConfigurationError(f"Fallback.on: {kind!r} is not a class of errors that a fallback may hide")
    return lambda error: isinstance(error, kinds)


def _check_handler(handler: Any) -> None:
    if handler is not None and (not callable(handler) or inspect.iscoroutinefunction(handler)):
        raise ConfigurationError(
            f"Fallback.handler must be a plain function of the call and its error, not {shown(handler)}"
        )


def _check_target(target: Any) -> None:
    if target is not None and not (isinstance(target, str) and target.isidentifier()):
        raise ConfigurationError(
            f"Fallback.target must be the name of a service alone, as 'orders', not {shown(target)}"
        )


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception as error:
        raise ConfigurationError(
            f"Fallback.value {value!r:.200} cannot be copied for each caller ({error}); make it in a handler"
        ) from error


def _made(handler: Callable[[Call, Exception], Any], call: Call, error: Exception) -> Any:
    value = handler(call, error)
    if inspect.iscoroutine(value):
        value.close()
        raise UsageError(f"Fallback.handler {handler!r} returned a coroutine, which nobody would await")
    return value
