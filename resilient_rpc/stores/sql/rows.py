"""What stands in a row, checked: others can write to a table, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resilient_rpc.stores.base import Began, Busy, Mismatch, OnTakeover, Progress, Record, Replay, Unknown
from resilient_rpc.stores.errors import CorruptRecord

_DONE: frozenset[Any] = frozenset({"ok", "error"})
_HELD: frozenset[Any] = frozenset({"running", "taken_over"})


def record_of(row: Sequence[Any]) -> Record:
    """Raises `CorruptRecord`."""
    try:
        epoch, progress, fingerprint, left, payload = row
        done = progress in _DONE
        if not (done or progress in _HELD or progress == "abandoned") or done is (payload is None):
            raise CorruptRecord(f"a record is {progress!r:.50}, {'without' if payload is None else 'with'} an answer")
        known: Progress = progress
        return Record(
            known,
            int(epoch),
            _bytes(fingerprint),
            max(0, int(left)) / 1000 if progress in _HELD else 0.0,
            None if payload is None else _bytes(payload),
        )
    except (TypeError, ValueError) as error:
        raise CorruptRecord(f"a record cannot be read: {error}") from error


def began_of(record: Record, fingerprint: bytes, on_takeover: OnTakeover) -> Began | None:
    """What stands in the way of a `begin`; None: nothing any more."""
    if record.fingerprint != fingerprint:
        return Mismatch()
    if record.payload is not None:
        return Replay(record.payload, record.progress == "ok")
    if record.lease_left > 0:
        return Busy(record.lease_left)
    if record.progress in _HELD and on_takeover == "fail_unknown":
        return Unknown()
    return None


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{type(value).__name__} instead of bytes")
    return bytes(value)
