"""What a cache announces."""

from __future__ import annotations

from typing import Literal

from resilient_rpc.events import PolicyEvent

Use = Literal["hit", "negative", "joined", "stale", "stale_if_error", "shared", "miss", "refreshed", "refresh_failed"]


class CacheUsed(PolicyEvent, frozen=True, kw_only=True):
    """What a cache did for a call that it applies to."""

    outcome: Use
    """`hit`: a fresh value; `negative`: a remembered error; `joined`: the answer to another caller's call; `stale`: an
    old value, while a new one is fetched; `stale_if_error`: an old value in place of an error; `shared`: a value of the
    second level; `miss`: the call was sent; `refreshed`, `refresh_failed`: what became of a fetch in the background.
    """
