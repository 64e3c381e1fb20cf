"""RedisLock: one holder at a time, on the steps of a store; what it protects checks the fencing token."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from resilient_rpc.errors import NOT_EXECUTED, ConfigurationError, RpcError
from resilient_rpc.policies.settings import check_seconds
from resilient_rpc.stores.base import Busy, New, RecordKey, Store, TakenOver, check_key
from resilient_rpc.stores.errors import StoreError

log = logging.getLogger(__name__)

FINGERPRINT = b"lock"
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between two attempts of who waits, doubled each time, with jitter."""


class LockBusy(RpcError):
    """Somebody else holds the lock; `retry_after` says for how much longer, if it is neither renewed nor released."""

    certainty, retryable = NOT_EXECUTED, True


class Held:
    """A lock that was acquired. Whoever writes under its protection sends `fencing_token` with what is written."""

    def __init__(self, lock: RedisLock, epoch: int, until: float, *, taken_over: bool) -> None:
        self.fencing_token = epoch
        """Larger than that of every holder before: a resource that refuses smaller ones is safe from late writers."""
        self.taken_over = taken_over
        """The holder before did not release the lock: it may still believe to hold it, and may have done half."""
        self._lock = lock
        self._until = until
        self._gone = False

    @property
    def lost(self) -> bool:
        """Whether somebody else may hold it by now. True too early rather than too late."""
        return self._gone or time.monotonic() >= self._until

    async def renew(self) -> bool:
        """Hold it for another lease from now; False: it is somebody else's. May raise `StoreError`."""
        until = time.monotonic() + self._lock.lease
        if self._gone or not await self._lock.store.renew(self._lock.key, self.fencing_token, lease=self._lock.lease):
            self._gone = True
            return False
        self._until = until
        return True

    async def release(self) -> bool:
        """Let others have it; False: they had it already. May raise `StoreError`: the lease ends by itself."""
        self._gone = True
        return await self._lock.store.abandon(self._lock.key, self.fencing_token)


@dataclass(frozen=True, kw_only=True, eq=False)
class RedisLock:
    """A lock for processes on different machines.

    It is renewed and released by its token, and what remains of it for a minute is the number from which the next token
    is counted. As every lease, this one may be outlived by a holder that was stopped: what must never happen twice is
    protected by the fencing token, not by the lock. Its coroutines run on any loop; blocking code starts them by its
    runtime. With a `MemoryStore` it is a lock of this process, for tests.
    """

    store: Store = field(kw_only=False)
    """A `RedisStore`."""
    name: str = field(kw_only=False)
    """What is locked."""
    lease: float = 5.0
    """Seconds for which it is held without being renewed."""
    tenant: str = "default"
    """Locks of different tenants are different locks."""
    key: RecordKey = field(init=False, repr=False)
    """The record that it is."""

    def __post_init__(self) -> None:
        name: Any = self.name
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"RedisLock.name must be a str that is not empty, not {self.name!r:.100}")
        check_seconds("RedisLock.lease", self.lease)
        # No service has a method without a name: records and locks cannot meet.
        object.__setattr__(self, "key", RecordKey(self.tenant, "lock", "", self.name))
        check_key(self.key)

    async def acquire(self, *, wait: float = 0.0) -> Held:
        """Have the lock, after `wait` seconds at most; `LockBusy` if somebody else has it. May raise `StoreError`."""
        check_seconds("wait", wait, zero=True)
        until = time.monotonic() + wait
        pause = FIRST_PAUSE
        while True:
            asked = time.monotonic()
            began = await self.store.begin(self.key, fingerprint=FINGERPRINT, lease=self.lease, ttl=self.lease)
            match began:
                case New(epoch):
                    return Held(self, epoch, asked + self.lease, taken_over=False)
                case TakenOver(epoch):
                    return Held(self, epoch, asked + self.lease, taken_over=True)
                case Busy(left):
                    remaining = until - time.monotonic()
                    if remaining <= 0:
                        raise LockBusy(f"the lock {self.name!r:.100} is held by somebody else", retry_after=left)
                    await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), left, remaining))
                    pause = min(2 * pause, LONGEST_PAUSE)
                case _:
                    raise StoreError(
                        f"the record of the lock {self.name!r:.100} is no lock: {began!r:.100}", written=False
                    )

    @contextlib.asynccontextmanager
    async def hold(self, *, wait: float = 0.0) -> AsyncIterator[Held]:
        """Have the lock for a block; it is renewed meanwhile, and released at the end.

        What is done in the block is not interrupted when the lock is lost: look at `Held.lost`.
        """
        held = await self.acquire(wait=wait)
        renewing = asyncio.create_task(self._renew(held))
        try:
            yield held
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            try:
                await held.release()
            except StoreError as error:  # what was done is done, and the lease ends by itself
                log.warning("the lock %r could not be released: %s", self.name, error)

    async def _renew(self, held: Held) -> None:
        while not held.lost:
            await asyncio.sleep(self.lease / 3)
            try:
                await held.renew()
            except StoreError as error:
                log.warning("the lock %r could not be renewed: %s", self.name, error)
