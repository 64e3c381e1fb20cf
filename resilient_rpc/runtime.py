"""The two colours: a blocking caller's runtime and the driver of its coroutine; the asyncio one stands in `loops`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from resilient_rpc import forking
from resilient_rpc.errors import UsageError
from resilient_rpc.ioloop import IoLoop, block, io_loop
from resilient_rpc.loops import AsyncioRuntime, Work, adopt, running_runtime
from resilient_rpc.pending import Pending, Started
from resilient_rpc.watchdog import trail

__all__ = [
    "BLOCKING",
    "AsyncioRuntime",
    "BlockingRuntime",
    "IoLoop",
    "PolicySuspended",
    "adopt",
    "drive",
    "io_loop",
    "running_runtime",
]

T = TypeVar("T")


class BlockingRuntime:
    """Blocks the calling thread; what must run beside it runs on the I/O loop. Any number of threads may share one.

    `BLOCKING` is the common one. One of one's own can be closed: `close` ends what was started through it. `io` (where
    the I/O loop is to be had), `clock` (seconds, monotonic) and `block` (as `ioloop.block`) are for tests.
    """

    __slots__ = ("__weakref__", "_block", "_closed", "_io", "_lock", "_scope", "now")

    def __init__(
        self,
        *,
        io: Callable[[], IoLoop] = io_loop,
        clock: Callable[[], float] = time.monotonic,
        block: Callable[[Sequence[Pending[Any]], float], Pending[Any] | None] = block,
    ) -> None:
        self.now = clock
        self._io = io
        self._block = block
        self._lock = threading.Lock()
        self._scope: AsyncioRuntime | None = None
        self._closed = False
        forking.register(self)

    def after_fork(self) -> None:
        """Forget what the parent had started."""
        self._lock = threading.Lock()
        self._scope = None

    async def sleep(self, seconds: float) -> None:
        """Block this thread for so long."""
        self._block((), seconds)

    async def wait(self, pendings: Sequence[Pending[Any]], timeout: float) -> Pending[Any] | None:
        """The first of `pendings` that is settled, or None after `timeout` seconds (`math.inf`: no limit)."""
        return self._block(pendings, timeout)

    def start(self, work: Work[T]) -> Started[T]:
        """Run ``work(runtime)`` on the I/O loop, with that loop's runtime. After `close`, it is cancelled at once."""
        io = self._io()
        return io.start(work, self._scope or self._open(io))

    def close(self, grace: float = 5.0) -> bool:
        """Cancel what was started and block until it has ended, at most `grace` seconds; False if some has not."""
        with self._lock:
            self._closed = True
            scope = self._scope
        if scope is None or scope.loop.is_closed():
            return True
        return self._io().run(lambda: scope.aclose(grace), grace + 1.0)

    def _open(self, io: IoLoop) -> AsyncioRuntime:
        with self._lock:
            if self._scope is None:
                scope = io.runtime.scope()
                if self._closed:
                    scope.shut()
                self._scope = scope
            return self._scope


BLOCKING = BlockingRuntime()
"""The runtime of blocking callers that have none of their own."""


class PolicySuspended(UsageError):
    """A policy awaited, in a blocking client, what only an event loop could wait for. The message names it."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in this thread. It may await only what blocks: a `BlockingRuntime`, and coroutines made of it."""
    try:
        awaited = coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    except RuntimeError as error:
        if str(error) != "no running event loop":
            raise
        raise PolicySuspended(f"asyncio was used in a blocking client; {_ADVICE}") from error
    culprit = trail(coroutine)
    try:
        coroutine.close()
    finally:
        raise PolicySuspended(f"{culprit} awaited {awaited!r} in a blocking client; {_ADVICE}")


_ADVICE = (
    "a policy may await only `proceed`, its call's runtime (`sleep`, `wait`), or coroutines made of these; "
    "anything else belongs into `call.runtime.start(...)`"
)
