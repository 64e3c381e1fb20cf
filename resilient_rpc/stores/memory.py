"""MemoryStore: records in this process, bounded; the reference for what a store does."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from resilient_rpc import forking
from resilient_rpc.policies.settings import check_count
from resilient_rpc.stores.base import (
    KEEP,
    Began,
    Busy,
    Mismatch,
    New,
    OnTakeover,
    Progress,
    Record,
    RecordKey,
    Replay,
    TakenOver,
    Unknown,
    check_epoch,
    check_fingerprint,
    check_key,
    check_payload,
    check_takeover,
    milliseconds,
)
from resilient_rpc.stores.errors import StoreRefused, StoreUnavailable

OVERHEAD = 512
"""Bytes that a record is counted with, besides what was given for it."""
SWEEP = 1.0
"""Seconds between two searches for records in progress that have expired."""


@dataclass(slots=True)
class _Entry:
    """A record; its instants are the store's."""

    progress: Progress
    epoch: int
    fingerprint: bytes
    expires: float
    size: int
    lease: float = 0.0
    until: float = -math.inf
    payload: bytes | None = None

    @property
    def held(self) -> bool:
        return self.progress in {"running", "taken_over"}

    def left(self, now: float) -> float:
        """Seconds of the lease; a clock that was set back lengthens none beyond what was asked for."""
        if self.until - now > self.lease:
            self.until = now + self.lease
        return max(0.0, self.until - now)


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryStore:
    """Records in this process: for tests, for one server alone, and as the reference for other stores.

    When it is full it forgets the answer that was not asked for the longest, and never a record that somebody holds: if
    there are only those, `begin` is refused. The child of a fork begins with nothing. Threads and loops may share it.
    """

    max_records: int = 100_000
    """Records, at most."""
    max_bytes: int = 64 << 20
    """Of keys, fingerprints and answers, at most, with 512 for each record."""
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    """Seconds; what leases and times to live are counted by."""
    _held: dict[RecordKey, _Entry] = field(default_factory=dict, init=False, repr=False)
    _kept: OrderedDict[RecordKey, _Entry] = field(default_factory=OrderedDict, init=False, repr=False)
    _bytes: int = field(default=0, init=False, repr=False)
    _epoch: int = field(default=0, init=False, repr=False)
    _base: float = field(default=0.0, init=False, repr=False)
    _sweep: float = field(default=-math.inf, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("MemoryStore.max_records", self.max_records)
        check_count("MemoryStore.max_bytes", self.max_bytes)
        # Epochs are wall-clock milliseconds: larger than those that a process before this one gave out.
        object.__setattr__(self, "_base", time.time() - self.clock())
        forking.register(self)

    def __len__(self) -> int:
        return len(self._held) + len(self._kept)

    def after_fork(self) -> None:
        """What the parent executes is not the child's."""
        object.__setattr__(self, "_lock", threading.Lock())
        self._held.clear()
        self._kept.clear()
        object.__setattr__(self, "_bytes", 0)

    async def begin(
        self, key: RecordKey, *, fingerprint: bytes, lease: float, ttl: float, on_takeover: OnTakeover = "rerun"
    ) -> Began:
        """As `Store`."""
        check_key(key)
        check_fingerprint(fingerprint)
        check_takeover(on_takeover)
        lease = milliseconds("lease", lease) / 1000
        ttl = milliseconds("ttl", ttl) / 1000
        with self._lock:
            now = self.clock()
            entry = self._find(key, now)
            if entry is None:
                return New(self._hold(key, None, "running", fingerprint, lease, ttl, now))
            if entry.fingerprint != fingerprint:
                return Mismatch()
            if entry.payload is not None:
                self._kept.move_to_end(key)
                return Replay(entry.payload, entry.progress == "ok")
            if not entry.held:
                return New(self._hold(key, entry, "running", fingerprint, lease, ttl, now))
            left = entry.left(now)
            if left > 0:
                return Busy(left)
            if on_takeover == "fail_unknown":
                return Unknown()
            return TakenOver(self._hold(key, entry, "taken_over", fingerprint, lease, ttl, now))

    async def renew(self, key: RecordKey, epoch: int, *, lease: float) -> bool:
        """As `Store`."""
        check_key(key)
        check_epoch(epoch)
        lease = milliseconds("lease", lease) / 1000
        with self._lock:
            now = self.clock()
            entry = self._find(key, now)
            if entry is None or not entry.held or entry.epoch != epoch:
                return False
            entry.lease, entry.until = lease, now + lease
            entry.expires = max(entry.expires, entry.until + KEEP)
            return True

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, *, ok: bool, ttl: float) -> bool:
        """As `Store`."""
        check_key(key)
        check_epoch(epoch)
        check_payload(payload)
        ttl = milliseconds("ttl", ttl) / 1000
        with self._lock:
            now = self.clock()
            entry = self._find(key, now)
            if entry is None or entry.epoch != epoch:
                return False
            if not entry.held:
                return entry.payload is not None
            size = _size(key, entry.fingerprint, payload)
            if size > self.max_bytes:
                raise StoreRefused(
                    f"an answer of {len(payload)} bytes does not fit into {self.max_bytes}",
                    reason="too_large",
                    written=False,
                )
            self._remove(key, entry)
            self._make_room(size, now, least=False)
            entry.progress, entry.payload = "ok" if ok else "error", payload
            entry.until, entry.expires, entry.size = -math.inf, now + ttl, size
            self._add(key, entry)
            return True

    async def abandon(self, key: RecordKey, epoch: int) -> bool:
        """As `Store`."""
        check_key(key)
        check_epoch(epoch)
        with self._lock:
            entry = self._find(key, self.clock())
            if entry is None or entry.epoch != epoch:
                return False
            if entry.held:
                self._remove(key, entry)
                entry.progress, entry.until = "abandoned", -math.inf
                self._add(key, entry)
            return entry.progress == "abandoned"

    async def get(self, key: RecordKey) -> Record | None:
        """As `Store`."""
        check_key(key)
        with self._lock:
            now = self.clock()
            entry = self._find(key, now)
            if entry is None:
                return None
            left = entry.left(now) if entry.held else 0.0
            return Record(entry.progress, entry.epoch, entry.fingerprint, left, entry.payload)

    async def delete(self, key: RecordKey) -> bool:
        """As `Store`."""
        check_key(key)
        with self._lock:
            entry = self._find(key, self.clock())
            if entry is None:
                return False
            self._remove(key, entry)
            return True

    async def close(self) -> None:
        """Nothing is open."""

    def _find(self, key: RecordKey, now: float) -> _Entry | None:
        entry = self._held.get(key) or self._kept.get(key)
        if entry is not None and entry.expires <= now:
            self._remove(key, entry)
            return None
        return entry

    def _hold(
        self,
        key: RecordKey,
        before: _Entry | None,
        progress: Progress,
        fingerprint: bytes,
        lease: float,
        ttl: float,
        now: float,
    ) -> int:
        size = _size(key, fingerprint)
        if before is not None:
            self._remove(key, before)
        self._make_room(size, now, least=True)
        # One counter for all keys, so that nothing need be remembered of those that are forgotten.
        epoch = max(self._epoch + 1, int((self._base + now) * 1000))
        object.__setattr__(self, "_epoch", epoch)
        expires = now + max(ttl, lease + KEEP)
        self._add(key, _Entry(progress, epoch, fingerprint, expires, size, lease, now + lease))
        return epoch

    def _make_room(self, size: int, now: float, *, least: bool) -> None:
        """Forget answers until a record of this size fits; `least`: it is a new one, which may be refused."""
        while self._full(size) and self._kept:
            key, entry = next(iter(self._kept.items()))
            self._remove(key, entry)
        if not least or not self._full(size):
            return
        if now - self._sweep >= SWEEP:
            object.__setattr__(self, "_sweep", now)
            for key, entry in [(key, entry) for key, entry in self._held.items() if entry.expires <= now]:
                self._remove(key, entry)
        if self._full(size):
            raise StoreUnavailable(f"all {len(self)} records are in progress", reason="full", written=False)

    def _full(self, size: int) -> bool:
        return len(self) >= self.max_records or self._bytes + size > self.max_bytes

    def _add(self, key: RecordKey, entry: _Entry) -> None:
        (self._held if entry.held else self._kept)[key] = entry
        object.__setattr__(self, "_bytes", self._bytes + entry.size)

    def _remove(self, key: RecordKey, entry: _Entry) -> None:
        del (self._held if entry.held else self._kept)[key]
        object.__setattr__(self, "_bytes", self._bytes - entry.size)


def _size(key: RecordKey, fingerprint: bytes, payload: bytes = b"") -> int:
    return OVERHEAD + sum(map(len, key)) + len(fingerprint) + len(payload)
