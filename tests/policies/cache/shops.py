"""What stands behind the caches of these tests, and how they are listened to."""

from __future__ import annotations

from typing import Any

from resilient_rpc.call import READ_ONLY, CacheHints, Call, Reply
from resilient_rpc.errors import ApplicationError
from resilient_rpc.events import Event, PolicyBypassed
from resilient_rpc.hub import Events
from resilient_rpc.policies.cache import Cache, CacheUsed

READ: dict[str, Any] = {"safety": READ_ONLY}


class OutOfStock(ApplicationError):
    type = "out_of_stock"


class Shop:
    """Answers with a list of the number of calls that it has got."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls: list[Call] = []
        self.seconds = seconds
        self.error: BaseException | None = None
        self.hints: CacheHints | None = None
        self.result: Any = ...

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        result = [len(self.calls)] if self.result is ... else self.result
        if self.seconds:
            await call.runtime.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return Reply(result=result, server="shop-1", cache=self.hints)


def listening() -> tuple[Events, list[str]]:
    """Events, and what happened, in short."""
    events, seen = Events(), []

    def short(event: Event) -> None:
        if isinstance(event, CacheUsed):
            seen.append(event.outcome)
        elif isinstance(event, PolicyBypassed):
            seen.append("bypassed: " + event.reason)

    events.on(Event, short)
    return events, seen


def even(**settings: Any) -> Cache:
    """A cache whose ttl is exact."""
    return Cache(jitter=0, **settings)
