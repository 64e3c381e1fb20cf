"""What this process executes just now, so that repeats that arrive here are woken instead of asking again."""

from __future__ import annotations

import threading

from resilient_rpc.pending import Pending
from resilient_rpc.policies.idempotency.replies import Kept
from resilient_rpc.stores.base import RecordKey


class Flight(Pending[Kept | None]):
    """Settled with the answer, or with None: there is none, and whoever waits asks the store."""

    __slots__ = ("fingerprint",)

    def __init__(self, fingerprint: bytes) -> None:
        super().__init__()
        self.fingerprint = fingerprint


class Flights:
    """Executions under way, by key. From any thread."""

    def __init__(self) -> None:
        self._known: dict[RecordKey, Flight] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def of(self, key: RecordKey) -> Flight | None:
        """The one of this key."""
        return self._known.get(key)

    def begin(self, key: RecordKey, fingerprint: bytes) -> Flight:
        """One that has begun. It takes the place of one that has lost its record, and whose end nobody waits for."""
        flight = Flight(fingerprint)
        with self._lock:
            before, self._known[key] = self._known.get(key), flight
        if before is not None:
            before.set(None)
        return flight

    def end(self, key: RecordKey, flight: Flight, kept: Kept | None) -> None:
        """It has ended, or nobody is to wait for its end any more; a second time, nothing happens."""
        with self._lock:
            if self._known.get(key) is flight:
                del self._known[key]
        flight.set(kept)
