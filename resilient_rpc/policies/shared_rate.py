"""A rate limit that is counted outside of this process: what is asked, and what happens when nobody answers."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.pending import Started

PAUSE = 1.0
"""Seconds after a failure in which one call in all asks again."""
SLACK = 0.001
"""Seconds: what an answer may be rounded up by."""


class Ask(NamedTuple):
    """One call's wish to go."""

    key: str
    """What is limited together."""
    rate: float
    burst: float
    patience: float
    """Seconds that it can wait."""


class Lease(NamedTuple):
    """The answer."""

    granted: bool
    wait: float
    """Seconds until the call may go; not granted: until it may ask again."""
    mark: bytes = b""
    """What `refund` needs to know of it."""


@runtime_checkable
class SharedRate(Protocol):
    """Counts for several processes. Its coroutines run on an event loop, beside the calls."""

    @property
    def timeout(self) -> float:
        """Seconds after which a call does without an answer."""

    @property
    def instances(self) -> int:
        """How many processes share the rate: while there is no answer, each keeps to its part of it."""

    async def take(self, ask: Ask, /) -> Lease:
        """Take a token."""

    async def refund(self, ask: Ask, lease: Lease, /) -> None:
        """Return it, if that is still possible."""


class Gate:
    """Asks a `SharedRate`, and spares calls the wait for one that does not answer."""

    __slots__ = ("_closed_until",)

    def __init__(self) -> None:
        self._closed_until = -math.inf

    async def ask(self, call: Call, shared: SharedRate, ask: Ask) -> Lease | str:
        """The answer; or, in a word, why there is none that can be relied on."""
        now = call.runtime.now()
        if not self._enter(now):
            return "unavailable"
        started = call.runtime.start(lambda _: shared.take(ask))
        patience = min(shared.timeout, call.deadline - now)
        settled = None
        try:
            settled = await call.runtime.wait([started], patience)
        finally:
            if settled is None:
                started.cancel()
        answer = "timeout" if settled is None else _answer(started, ask)
        if isinstance(answer, Lease):
            self._closed_until = -math.inf
        elif patience == shared.timeout:  # a call in a hurry has proved nothing
            self._closed_until = call.runtime.now() + PAUSE
        return answer

    def _enter(self, now: float) -> bool:
        if now < self._closed_until:
            return False
        if self._closed_until > 0:
            self._closed_until = now + PAUSE  # this call finds out, the others go on without
        return True


def _answer(started: Started[Lease], ask: Ask) -> Lease | str:
    try:
        lease = started.result()
        longest = ask.patience + SLACK if lease.granted else math.inf
        plausible = 0 <= lease.wait <= longest and lease.wait < math.inf
    except (Exception, asyncio.CancelledError):  # not this call's own: the runtime is being closed
        return "unavailable"
    return lease if plausible else "implausible"
