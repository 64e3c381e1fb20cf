"""One call's stay in a guarded policy: how long it may last, and whether the call was carried on from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain.watch import Watch
from resilient_rpc.errors import NOT_EXECUTED, Certainty
from resilient_rpc.pending import Pending, Started
from resilient_rpc.watchdog import standing, trail

if TYPE_CHECKING:
    from resilient_rpc.policy import Handler, Runtime

GRACE = 0.25
"""Seconds past a call's deadline after which a policy that still waits is ended."""
PATIENCE = 1.0
"""Seconds past it for what carries the call out, which ends by itself. A guard waits twice as long for one inside."""


class Visit:
    """What both colours need."""

    __slots__ = ("call", "carried", "limit", "now", "onward", "runtime", "where")

    def __init__(self, call: Call, onward: Handler) -> None:
        self.call, self.onward = call, onward
        self.runtime = runtime = call.runtime
        self.now: Callable[[], float] = runtime.now
        self.limit = call.deadline + GRACE
        self.carried = False
        self.where = ""
        """Where the policy stood when it was ended; empty: it was not."""

    def proceed(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """The policy's `proceed`."""
        self.carried = True
        return self.onward(call)

    @property
    def certainty(self) -> Certainty | None:
        """What is known of the execution when the policy fails: None leaves it to the error."""
        return None if self.carried else NOT_EXECUTED


class ThreadVisit(Visit):
    """In a blocking caller; it is also the runtime that the policy gets to see, which never waits beyond the limit."""

    __slots__ = ()

    def proceed(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """The policy's `proceed`. Inside of it the call has its own runtime again."""
        self.carried = True
        if self.now() >= self.limit:  # a policy that repeats without a pause never waits: it ends here
            self._end("proceed")
        return self.onward(call.on(self.runtime) if call.runtime is self else call)

    async def sleep(self, seconds: float) -> None:
        """As `Runtime.sleep`."""
        left = max(self.limit - self.now(), 0.0)
        await self.runtime.sleep(min(seconds, left))
        if seconds > left:
            self._end("sleep")

    async def wait(self, pendings: Sequence[Pending[Any]], timeout: float) -> Pending[Any] | None:
        """As `Runtime.wait`."""
        left = max(self.limit - self.now(), 0.0)
        settled = await self.runtime.wait(pendings, min(timeout, left))
        if settled is None and timeout > left:
            self._end("wait")
        return settled

    def start(self, work: Callable[[Runtime], Coroutine[Any, Any, Any]]) -> Started[Any]:
        """As `Runtime.start`."""
        return self.runtime.start(work)

    def _end(self, where: str) -> None:
        self.where = where
        raise asyncio.CancelledError


class LoopVisit(Visit):
    """In a task, which is cancelled when the policy stays too long.

    `ends`: code that ends by itself, and how many seconds after the deadline at the latest.
    """

    __slots__ = ("__weakref__", "_before", "_cancels", "_ends", "_task", "running")

    def __init__(self, call: Call, onward: Handler, task: asyncio.Task[Any], ends: Mapping[CodeType, float]) -> None:
        super().__init__(call, onward)
        self._task, self._ends = task, ends
        self._before = task.cancelling()
        self._cancels = 0
        self.running: Any = None

    def proceed(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """The policy's `proceed`."""
        self.carried = True
        return self.onward(call) if self.now() < self.limit else self._late(call)

    def overstay(self, now: float) -> None:
        """Cancel the policy; later, while it stands in something that is to end by itself."""
        codes = {getattr(inner, "cr_code", None) for inner in standing(self.running)}
        last = self.call.deadline + max((more for code, more in self._ends.items() if code in codes), default=0.0)
        if now < last:
            self.limit = min(now + GRACE, last)
            return
        self.where = trail(self.running)
        self.limit = now + GRACE  # should it swallow this one
        self._cancels += 1
        self._task.cancel()

    def leave(self, watch: Watch) -> bool:
        """Take back the cancellations of this visit; whether there were any, and none by anybody else."""
        watch.leave(self)
        for _ in range(self._cancels):
            self._task.uncancel()
        return self._cancels > 0 and self._task.cancelling() <= self._before

    async def _late(self, call: Call) -> Reply:
        await self.runtime.sleep(0)  # a policy that repeats without a pause never lets go of its loop: here it does
        return await self.onward(call)
