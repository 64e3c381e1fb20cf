"""Answers in this process: those that the store could not take, and as many others as one likes."""

from __future__ import annotations

import threading
from collections import OrderedDict

from resilient_rpc.policies.idempotency.replies import Kept
from resilient_rpc.stores.base import RecordKey

UNSETTLED = 10_000
"""Answers that the store could not take, at most."""
MAX_BYTES = 64 << 20
"""Of all answers that are kept here, with `OVERHEAD` for each."""
OVERHEAD = 512


class Local:
    """Answers by key, those that were not asked for the longest forgotten first. `now`: seconds, monotonic."""

    def __init__(self, max_records: int, max_bytes: int = MAX_BYTES) -> None:
        self._most, self._most_bytes = max(max_records, UNSETTLED), max_bytes
        self._known: OrderedDict[RecordKey, tuple[Kept, float]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, key: RecordKey, now: float) -> Kept | None:
        """The answer. About 0.1 µs while there are none."""
        if not self._known:
            return None
        with self._lock:
            found = self._known.get(key)
            if found is None:
                return None
            kept, expires = found
            if expires <= now:
                self._remove(key)
                return None
            self._known.move_to_end(key)
            return kept

    def keep(self, key: RecordKey, kept: Kept, expires: float) -> None:
        """Keep an answer until then."""
        with self._lock:
            self._remove(key)
            self._known[key] = kept, expires
            self._bytes += OVERHEAD + len(kept.payload)
            while len(self._known) > self._most or (self._bytes > self._most_bytes and len(self._known) > 1):
                self._remove(next(iter(self._known)))

    def drop(self, key: RecordKey) -> None:
        """Forget an answer."""
        with self._lock:
            self._remove(key)

    def _remove(self, key: RecordKey) -> None:
        found = self._known.pop(key, None)
        if found is not None:
            self._bytes -= OVERHEAD + len(found[0].payload)
