"""The values that are kept: in cachetools' LRU caches under locks, bounded in number and in bytes."""

from __future__ import annotations

import threading

import msgspec
from cachetools import LRUCache

from resilient_rpc import forking
from resilient_rpc.call import Reply
from resilient_rpc.policies.cache.flight import Flight
from resilient_rpc.policies.cache.frozen import Frozen
from resilient_rpc.policies.cache.keys import Key

OVERHEAD = 900
"""Bytes that an entry takes beside its arguments and its value."""
SHARDS = 8
SHARD_ENTRIES, SHARD_BYTES = 128, 1 << 20
"""What a shard must have room for: the limits hold for each, and one value must fit into it."""


class Entry(msgspec.Struct, eq=False):
    """A value, or an error that is remembered."""

    frozen: Frozen
    size: int
    """Bytes, about, with the key and all."""
    fresh_until: float
    """An instant on the runtime's clock."""
    born: int
    """The last invalidation before its call was sent (`Voids.last`)."""
    tags: tuple[str, ...] = ()
    server: str | None = None
    degraded: bool = False
    error: BaseException | None = None

    def reply(self, *, degraded: bool = False) -> Reply:
        """An answer of its own for one caller."""
        held, thaw, _ = self.frozen
        return Reply(
            result=held if thaw is None else thaw(held), degraded=degraded or self.degraded, server=self.server
        )


def size_of(key: Key, frozen: Frozen) -> int:
    """The bytes of an entry, about."""
    other = key[3]
    return frozen[2] + OVERHEAD + len(key[2]) + (0 if other is None else len(str(other)))


class Shard:
    """A part of the store, under one lock: cachetools' caches break for ever when threads meet in them."""

    __slots__ = ("_most", "cache", "flights", "lock")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.lock = threading.Lock()
        # Not TLRUCache: its hits cost twice as much and its writes thrice (measured); what has expired drifts to the
        # end of the LRU order by itself, as nobody is served from it.
        self.cache: LRUCache[Key, Entry] = LRUCache(max_bytes, getsizeof=_size)
        self.flights: dict[Key, Flight] = {}
        self._most = max_entries

    def keep(self, key: Key, entry: Entry) -> bool:
        """Under the lock: keep it, at the cost of those used least recently; False: it is larger than all of this."""
        cache = self.cache
        if entry.size > cache.maxsize:
            cache.pop(key, None)
            return False
        cache[key] = entry
        if len(cache) > self._most:
            cache.popitem()
        return True


class Store:
    """Entries and flights by key. The limits hold for each of its shards: a part of the whole."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.limits = max_entries, max_bytes
        roomy = max_entries >= SHARDS * SHARD_ENTRIES and max_bytes >= SHARDS * SHARD_BYTES
        self._count = SHARDS if roomy else 1
        self._shards = self._made()
        forking.register(self)

    def after_fork(self) -> None:
        """The child begins with nothing: another thread may have been in the middle of a change."""
        self._shards = self._made()

    def get(self, key: Key) -> Entry | None:
        """The entry of a key; it counts as used."""
        shard = self._shards[hash(key) % self._count]
        with shard.lock:
            return shard.cache.get(key)

    def drop(self, key: Key) -> None:
        """Forget a key."""
        shard = self._shards[hash(key) % self._count]
        with shard.lock:
            shard.cache.pop(key, None)

    def board(self, key: Key) -> tuple[Entry | None, Flight, bool]:
        """What is there, the flight that fetches it, and whether it is the caller who leads it."""
        shard = self._shards[hash(key) % self._count]
        with shard.lock:
            flight, lead = shard.flights.get(key), False
            if flight is None:
                flight, lead = Flight(key, shard), True
                shard.flights[key] = flight
            return shard.cache.get(key), flight, lead

    def take_over(self, old: Store) -> None:
        """Copy what another store has, as far as it fits."""
        for theirs in old._shards:
            with theirs.lock:
                entries = [(key, theirs.cache[key]) for key in list(theirs.cache)]
            for key, entry in entries:
                mine = self._shards[hash(key) % self._count]
                with mine.lock:
                    mine.keep(key, entry)

    def __len__(self) -> int:
        return sum(len(shard.cache) for shard in self._shards)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return int(sum(shard.cache.currsize for shard in self._shards))

    def _made(self) -> tuple[Shard, ...]:
        return tuple(Shard(*(limit // self._count for limit in self.limits)) for _ in range(self._count))


def _size(entry: Entry) -> int:
    return entry.size
