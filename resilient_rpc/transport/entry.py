"""One attempt on its way: what a link keeps of it, and where its answer appears."""

from __future__ import annotations

import asyncio
from typing import Any

from resilient_rpc.pending import Pending
from resilient_rpc.transport.batching import Route
from resilient_rpc.transport.deadlines import NOWHERE
from resilient_rpc.wire.envelope import Answer


class Entry(Pending[Answer]):
    """Settled with the `Answer`, or with the error that ended it. `data` is dropped once it is sent.

    Whoever waits for it on the link's own loop hangs a future on it (`expect`), which costs half as much as the general
    way (`Pending.watch`) and is as good: nothing but that loop settles it, unless its caller has given it up.
    """

    __slots__ = ("bucket", "codec", "data", "deadline", "future", "id", "message", "method", "modern", "route")

    def __init__(self, id: int, method: str, route: Route, data: bytes, deadline: float) -> None:  # noqa: A002 - JSON-RPC's name; fields
        self._done = False  # as in Pending: a call to it would be a tenth of what a call costs here
        self._value = self._error = self._wakes = None
        self.id, self.method, self.route, self.data = id, method, route, data
        self.deadline = deadline
        self.bucket = NOWHERE
        self.message = 0
        """The tag under which it was published; 0: it was not handed to the transport, and surely not executed."""
        self.modern = False
        self.codec = route.codec
        self.future: asyncio.Future[None] | None = None

    def expect(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """A future of the link's loop that is done when this is settled; before it is submitted."""
        future = self.future = loop.create_future()
        return future

    def outcome(self) -> Answer:
        """As `result`, quicker."""
        if self._error is not None:
            return self.result()
        answer: Answer = self._value
        return answer

    def answer(self, answer: Answer) -> None:
        """Its answer has come; on the link's loop."""
        future = self.future
        if future is None or self._wakes is not None:
            self._settle(answer, None)
            return
        # Written out for whoever waits on this very loop: nobody else may settle it but by giving it up.
        if not self._done:
            self._value, self._done = answer, True
            if not future.done():
                future.set_result(None)

    def _settle(self, value: Any, error: BaseException | None) -> bool:
        first = Pending._settle(self, value, error)  # noqa: SLF001 - its own base; super() would be a quarter of it
        future = self.future
        if first and future is not None and not future.done():
            future.set_result(None)
        return first
