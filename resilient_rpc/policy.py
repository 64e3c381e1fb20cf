"""Policy, Handler, Runtime: all that a plug-in must import."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from resilient_rpc.call import Call, Reply
from resilient_rpc.pending import Pending, Started

T = TypeVar("T")

Handler = Callable[[Call], Coroutine[Any, Any, Reply]]
"""What a policy wraps: the next policy, or what carries the call out."""


class Runtime(Protocol):
    """The only things that a policy may wait on.

    Policies are written once, as ``async def``; a blocking caller runs the same coroutine in its own thread
    (`resilient_rpc.runtime.drive`). So a policy awaits only `proceed`, its runtime, or coroutines made of those.
    """

    def now(self) -> float:
        """Seconds on a monotonic clock; the only clock that a policy knows."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def wait(self, pendings: Sequence[Pending[Any]], timeout: float) -> Pending[Any] | None:
        """The first of `pendings` that is settled, or None after `timeout` seconds (`math.inf`: no limit)."""

    def start(self, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> Started[T]:
        """Run ``work(runtime)`` as an asyncio task beside the caller; in it anything may be awaited.

        On the caller's loop, or for a blocking caller on the I/O loop. A call that is carried on there is rebound with
        ``call.on(runtime)``. The caller's context variables are copied.
        """


@runtime_checkable
class Policy(Protocol):
    """One stage of a chain.

    Shared between threads and loops: state changes only under a lock that is never held across an await. May declare
    `role`, `above`, `below` and `excludes` as class attributes: its name in a chain, the roles that must stand inside
    or outside of it, and those that it cannot stand together with.

    A policy with state may have ``adopt(old)``: when the chain of a client is reloaded, it takes over the state of the
    policy of the same class and `name` that it replaces.
    """

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on with ``await proceed(call)``, refuse it, repeat it or answer it."""
