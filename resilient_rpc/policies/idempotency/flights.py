"""What this process executes just now, so that repeats that arrive here are woken instead of asking again."""

from __future__ import annotations

import threading

from resilient_rpc.pending import Pending
from resilient_rpc.policies.idempotency.replies import Kept
from resilient_rpc.stores.base import RecordKey


class Flight:
    """One execution. `answer`, where somebody waits for it: settled with it, or with None: ask the store."""

    __slots__ = ("answer", "fingerprint")

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        self.answer: Pending[Kept | None] | None = None


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

    def join(self, key: RecordKey) -> Pending[Kept | None] | None:
        """The answer of the one of this key, to wait for; None: there is none under way."""
        with self._lock:
            flight = self._known.get(key)
            if flight is None:
                return None
            if flight.answer is None:
                flight.answer = Pending()
            return flight.answer

    def begin(self, key: RecordKey, fingerprint: bytes) -> Flight:
        """One that has begun. It takes the place of one that has lost its record, and whose end nobody waits for."""
        flight = Flight(fingerprint)
        with self._lock:
            before, self._known[key] = self._known.get(key), flight
        if before is not None:
            _tell(before, None)
        return flight

    def end(self, key: RecordKey, flight: Flight, kept: Kept | None) -> None:
        """It has ended, or nobody is to wait for its end any more; a second time, nothing happens."""
        with self._lock:
            if self._known.get(key) is flight:
                del self._known[key]
        _tell(flight, kept)


def _tell(flight: Flight, kept: Kept | None) -> None:
    if flight.answer is not None:  # nobody joins it any more: it is not known
        flight.answer.set(kept)
