"""Where idempotency records live: the port, its outcomes and errors, and the stores."""

from __future__ import annotations

from resilient_rpc.stores.base import (
    Began,
    Busy,
    Mismatch,
    New,
    OnTakeover,
    Record,
    RecordKey,
    Replay,
    Store,
    TakenOver,
    Unknown,
)
from resilient_rpc.stores.encrypted import EncryptedStore
from resilient_rpc.stores.errors import CorruptRecord, StoreError, StoreRefused, StoreUnavailable
from resilient_rpc.stores.lock import Held, LockBusy, RedisLock
from resilient_rpc.stores.memory import MemoryStore
from resilient_rpc.stores.redis import RedisStore
from resilient_rpc.stores.sql import RecordLost, SqlStore

__all__ = [
    "Began",
    "Busy",
    "CorruptRecord",
    "EncryptedStore",
    "Held",
    "LockBusy",
    "MemoryStore",
    "Mismatch",
    "New",
    "OnTakeover",
    "Record",
    "RecordKey",
    "RecordLost",
    "RedisLock",
    "RedisStore",
    "Replay",
    "SqlStore",
    "Store",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "TakenOver",
    "Unknown",
]
