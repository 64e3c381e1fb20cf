"""What a cache keeps: entries, flights, invalidations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_rpc.loops import running_runtime
from resilient_rpc.pending import Pending
from resilient_rpc.policies.cache.entries import Entry, Store
from resilient_rpc.policies.cache.keys import Key, names_of
from resilient_rpc.policies.cache.voids import Voids
from resilient_rpc.runtime import BLOCKING

if TYPE_CHECKING:
    from resilient_rpc.policies.cache.redis_level import RedisCache
    from resilient_rpc.policy import Runtime


class State:
    """Shared by all clients of a cache, and handed to the one that replaces it."""

    def __init__(self, max_entries: int, max_bytes: int, shared: RedisCache | None) -> None:
        self.store = Store(max_entries, max_bytes)
        self.voids = Voids()
        self._shared: RedisCache | None = None
        self._untold: dict[str, object] = {}
        self._telling: Pending[bool] | None = None
        self._attach(shared)

    def change(self, max_entries: int, max_bytes: int, shared: RedisCache | None) -> None:
        """Other limits, another second level. What does not fit any more is forgotten."""
        if self.store.limits != (max_entries, max_bytes):
            store = Store(max_entries, max_bytes)
            store.take_over(self.store)
            self.store = store
        self._attach(shared)

    def is_valid(self, key: Key, entry: Entry) -> bool:
        """Whether nothing that concerns the entry was invalidated since its call was sent."""
        last = self.voids.last
        if entry.born == last:
            return True
        if self.voids.cover(names_of(key, entry.tags), entry.born):
            return False
        entry.born = last  # so that the next look is a quick one
        return True

    def invalidate(self, name: str) -> Pending[bool]:
        """Here at once; at the second level and in other processes in the background: whether they were told."""
        self.voids.mark(name)
        told: Pending[bool] = Pending()
        if self._shared is None:
            told.set(True)
            return told
        self._untold[name] = object()
        self._telling = _here().start(self._tell)
        return self._telling

    def has_told(self, runtime: Runtime) -> bool:
        """Whether the second level knows of all invalidations; until then it would give back what they were about."""
        if not self._untold:
            return True
        telling = self._telling
        if telling is None or telling.done():
            self._telling = runtime.start(self._tell)
        return False

    async def _tell(self, runtime: Runtime) -> bool:
        shared = self._shared
        for name, token in list(self._untold.items()):
            try:
                if shared is not None:
                    await shared.void(runtime, name)
            except Exception:  # it is down; the next one who wants to ask it tells it first
                return False
            if self._untold.get(name) is token:  # else it was invalidated again meanwhile
                del self._untold[name]
        return True

    def _attach(self, shared: RedisCache | None) -> None:
        if shared is not None and shared is not self._shared:
            shared.attach(self.voids)
        self._shared = shared


def _here() -> Runtime:
    try:
        return running_runtime()
    except RuntimeError:
        return BLOCKING
