"""Holding records while their handlers run, from a thread that no handler can keep busy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

from resilient_rpc import forking
from resilient_rpc.stores.base import RecordKey, Store

if TYPE_CHECKING:
    from resilient_rpc.ioloop import IoLoop
    from resilient_rpc.policy import Runtime

Told = Callable[[bool | Exception], None]
"""What became of a renewal: it is still ours, it is not, or the store did not answer."""


class Lease:
    """One record that is held. `until`: when it is over, unless it is renewed; `due`: when it is renewed."""

    __slots__ = ("due", "epoch", "key", "told", "until")

    def __init__(self, key: RecordKey, epoch: int, told: Told) -> None:
        self.key, self.epoch, self.told = key, epoch, told
        self.due = self.until = 0.0


class Leases:
    """Renews every lease at a third of its length, on the process's I/O loop: a handler may block its own loop.

    One task does it for all, and only while there is something to renew. A handler that ends sooner costs nothing but
    two entries in a dict. Renewals that fall due together are asked for together.
    """

    def __init__(self, store: Store, seconds: float, io: Callable[[], IoLoop]) -> None:
        self._store, self._seconds, self._io = store, seconds, io
        self._held: dict[Lease, None] = {}  # all leases are of one length: the order is that in which they are due
        self._keeping = self._asked = self._closing = False
        self._lock = threading.Lock()
        forking.register(self)

    def __len__(self) -> int:
        return len(self._held)

    def after_fork(self) -> None:
        """What the parent holds is not the child's to renew."""
        self._lock = threading.Lock()
        self._held, self._keeping, self._asked, self._closing = {}, False, False, False

    def hold(self, key: RecordKey, epoch: int, now: float, told: Told) -> Lease:
        """Renew the lease from now on. `told` is called on the I/O thread, after every renewal."""
        lease = Lease(key, epoch, told)
        with self._lock:
            self._put(lease, now)
            start, self._keeping, self._closing = not self._keeping, True, False
        if start:
            Context().run(self._io().start, self._keep)  # it outlives the call whose variables are the current ones
        return lease

    def release(self, lease: Lease) -> None:
        """Renew it no longer."""
        with self._lock:
            self._held.pop(lease, None)

    def used(self) -> None:
        """Somebody else asks the store on the I/O loop."""
        self._asked = True

    def close(self) -> None:
        """No server is left: have the store close what belongs to the I/O loop, once nothing is held any more."""
        with self._lock:
            self._closing = True
            start = self._asked and not self._keeping
        if start:
            Context().run(self._io().start, self._close)

    async def _close(self, _: Runtime) -> None:
        self._asked = False
        await self._store.close()

    def _put(self, lease: Lease, now: float) -> None:
        lease.due, lease.until = now + self._seconds / 3, now + self._seconds
        self._held[lease] = None

    async def _keep(self, runtime: Runtime) -> None:
        while True:
            with self._lock:
                first = next(iter(self._held), None)
                if first is None:
                    self._keeping = False
                    break
            pause = first.due - runtime.now()
            if pause > 0:
                await runtime.sleep(pause)
            await asyncio.gather(*[self._renew(lease, runtime) for lease in self._take_due(runtime.now())])
        if self._closing and self._asked:
            await self._close(runtime)

    def _take_due(self, now: float) -> list[Lease]:
        with self._lock:
            due = []
            for lease in self._held:
                if lease.due > now:
                    break
                due.append(lease)
            return due

    async def _renew(self, lease: Lease, runtime: Runtime) -> None:
        now = runtime.now()
        outcome: bool | Exception
        self._asked = True
        try:
            outcome = await self._store.renew(lease.key, lease.epoch, lease=self._seconds)
        except Exception as error:  # a store of anybody's: this one task renews all others, too
            outcome = error
        with self._lock:
            if lease not in self._held:  # the handler has ended meanwhile
                return
            del self._held[lease]
            if outcome is not False:
                until = lease.until
                self._put(lease, now)
                if outcome is not True:
                    lease.until = until
        lease.told(outcome)
