"""Waiting in line for a permit, as every policy with `Permits` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from resilient_rpc.errors import BulkheadFull
from resilient_rpc.events import CallRejected, PolicyBypassed
from resilient_rpc.policies.naming import Named, name_of
from resilient_rpc.policies.priority import Priority, check_priority, rank
from resilient_rpc.policies.settings import check_count, check_name, check_seconds

if TYPE_CHECKING:
    from resilient_rpc.call import Call
    from resilient_rpc.policies.permits import Permits


class Queueing(Named, Protocol):
    """The settings of a line."""

    @property
    def queue(self) -> int:
        """Calls that may wait."""

    @property
    def max_wait(self) -> float:
        """Seconds that one may wait, at most."""

    @property
    def priority(self) -> Priority | None:
        """Who is served first."""


def check_queueing(settings: Queueing) -> None:
    """ConfigurationError unless the settings of the line are right."""
    kind = type(settings).__name__
    check_count(f"{kind}.queue", settings.queue, least=0)
    check_name(f"{kind}.name", settings.name)
    check_seconds(f"{kind}.max_wait", settings.max_wait, zero=True, endless=True)
    check_priority(f"{kind}.priority", settings.priority)


async def wait_in_line(settings: Queueing, call: Call, permits: Permits) -> None:
    """Return with a permit, or raise `BulkheadFull`: there is no place, or the wait was in vain."""
    patience = min(settings.max_wait, call.remaining())
    turn = permits.line_up(_rank(settings, call), settings.queue) if settings.queue and patience > 0 else None
    if turn is None:
        raise _refused(settings, call, permits, "full")
    try:
        served = await call.runtime.wait([turn], patience) is not None
    except BaseException:
        if permits.claim(turn):  # cancelled, and served meanwhile: the permit goes to the next in line
            permits.give_back()
        raise
    if not permits.claim(turn):
        raise _refused(settings, call, permits, "full" if served else "wait")


def _rank(settings: Queueing, call: Call) -> int:
    found = rank(settings.priority, call)
    if found is not None:
        return found
    call.announce(PolicyBypassed, name_of(settings), reason="priority")
    return 0


def _refused(settings: Queueing, call: Call, permits: Permits, reason: str) -> BulkheadFull:
    name = name_of(settings)
    call.announce(CallRejected, name, reason=reason)
    waited = "and no place in its line" if reason == "full" else "for as long as the call could wait"
    return BulkheadFull(f"{name}: all {permits.limit} permits of {call.target} were taken, {waited}")
