"""What a cache announces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from resilient_rpc.events import PolicyBypassed, PolicyEvent

if TYPE_CHECKING:
    from resilient_rpc.call import Call

Use = Literal["hit", "negative", "joined", "stale", "stale_if_error", "shared", "miss", "refreshed", "refresh_failed"]


class CacheUsed(PolicyEvent, frozen=True, kw_only=True):
    """What a cache did for a call that it applies to."""

    outcome: Use
    """`hit`: a fresh value; `negative`: a remembered error; `joined`: the answer to another caller's call; `stale`: an
    old value, while a new one is fetched; `stale_if_error`: an old value in place of an error; `shared`: a value of the
    second level; `miss`: the call was sent; `refreshed`, `refresh_failed`: what became of a fetch in the background.
    """


def used(call: Call, policy: str, outcome: Use) -> None:
    """Announce what was done for a call; ask first whether anybody wants to know."""
    call.emit(CacheUsed(policy=policy, method=call.method, target=call.target, attempt=call.attempt, outcome=outcome))


def bypassed(call: Call, policy: str, reason: str) -> None:
    """Announce that the cache did not do its work for a call."""
    if call.wants(PolicyBypassed):
        call.emit(
            PolicyBypassed(policy=policy, method=call.method, target=call.target, attempt=call.attempt, reason=reason)
        )
