"""An asyncio event loop whose time is virtual, and the I/O loop on top of it."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from resilient_rpc.testing.timeline import Park, Timeline, VirtualDeadlock

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from _typeshed import FileDescriptorLike

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_Ready = list[tuple[selectors.SelectorKey, int]]


class VirtualSelector(selectors.BaseSelector):
    """Waits for files in no time at all, and for timers by parking in the timeline."""

    def __init__(self, timeline: Timeline, name: str, patience: float, *, foreground: bool) -> None:
        self._real = selectors.DefaultSelector()
        self._timeline, self._name, self._patience, self._foreground = timeline, name, patience, foreground
        self.wake: Callable[[], object] = _nothing

    def select(self, timeout: float | None = None) -> _Ready:
        """What is ready; when nothing is, wait at most `timeout` virtual seconds (None: no limit)."""
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        park = Park(self._name, self.wake, self._stirs)
        self._timeline.park(park, math.inf if timeout is None else self._timeline.now() + timeout)
        while not ready:
            ready = self._real.select(self._patience)
            if not ready and self._foreground and (waiting := self._timeline.stuck()):
                self._timeline.resume(park)
                raise VirtualDeadlock(f"no timer is set, and all wait for each other: {waiting}")
        self._timeline.resume(park)
        return ready

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """As `selectors` has it."""
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """As `selectors` has it."""
        return self._real.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """As `selectors` has it."""
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """As `selectors` has it."""
        return self._real.get_map()

    def close(self) -> None:
        """As `selectors` has it."""
        self._real.close()

    def _stirs(self) -> bool:
        # Asked of a parked loop only, which touches its selector no more before it has taken the timeline's lock.
        return bool(self._real.select(0))


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: `time()`, `call_later` and all that stands on them.

    It takes part in the timeline while it runs; one of the background from its making on, because another thread
    may give it work before it runs; one that is not `counted` takes part in the place of its thread. What
    `run_in_executor` runs is taken into account; any other thread that works for it must enter the timeline itself.
    """

    def __init__(
        self, timeline: Timeline, name: str, patience: float, *, foreground: bool = True, counted: bool = True
    ) -> None:
        self._timeline, self._foreground, self._counted = timeline, foreground, counted
        selector = VirtualSelector(timeline, name, patience, foreground=foreground)
        super().__init__(selector)
        # A timer is due within this of its time. asyncio's nanosecond is lost in the rounding of a time of half a year.
        self._clock_resolution = 1e-6
        selector.wake = lambda: self.call_soon_threadsafe(_nothing)
        self._entered = False
        if not foreground:
            self._enter()

    def time(self) -> float:
        """Virtual seconds."""
        return self._timeline.now()

    def run_forever(self) -> None:
        """Run until `stop`, as a participant."""
        self._enter()
        try:
            super().run_forever()
        finally:
            self._leave()

    def close(self) -> None:
        """Close, and no longer take part."""
        super().close()
        self._leave()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run `func` in a thread, for which time waits."""
        self._timeline.enter(foreground=False)
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(lambda _: self._timeline.leave(foreground=False))
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As asyncio has it; time waits for its thread, too."""
        self._timeline.enter(foreground=False)
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._timeline.leave(foreground=False)

    def _enter(self) -> None:
        if self._counted and not self._entered:
            self._entered = True
            self._timeline.enter(foreground=self._foreground)

    def _leave(self) -> None:
        if self._entered:
            self._entered = False
            self._timeline.leave(foreground=self._foreground)


def _nothing() -> None:
    """Wakes a loop by being called on it."""
