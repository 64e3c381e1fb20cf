"""The port of a store of idempotency records: its steps, their outcomes, and the rules that every store keeps.

::

    (none) ──begin──▶ in progress (epoch, lease) ──complete(epoch)──▶ done, ok or error ──begin──▶ Replay
                        │  ▲                    └──abandon(epoch)───▶ abandoned ──begin──▶ New (a larger epoch)
                        │  └─ renew(epoch)
                        └─ lease over, begin ──▶ TakenOver (a larger epoch), or Unknown

1. Each step is atomic: of any number of `begin` at once, one is answered with `New` or `TakenOver`.
2. The epoch is a fencing token. It grows with each `New` and `TakenOver` of a key, also after the record was abandoned,
   deleted or has expired.
3. `renew`, `complete` and `abandon` act only for the epoch that holds the record; for any other they change nothing.
4. `complete` and `abandon` may be repeated, as after an answer that was lost: the first one counts.
5. The time is the store's own, never that of the process that asks.
6. A record outlives its lease by at least `KEEP`. Abandoned, it keeps its fingerprint and its epoch.
7. What is not a record of the store is `CorruptRecord`, never `New`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores.errors import StoreRefused

KEEP = 60.0
"""Seconds for which an epoch is remembered, at least, after its lease is over or its record deleted."""
MAX_SECONDS = 10 * 366 * 86_400.0
"""Ten years: the longest lease or time to live."""
MAX_PART = 1024
"""Characters of each part of a `RecordKey`."""
MAX_FINGERPRINT = 64
"""Bytes; a sha256 has 32."""

OnTakeover = Literal["rerun", "fail_unknown"]
"""What `begin` makes of a record whose owner let its lease run out."""
Progress = Literal["running", "taken_over", "abandoned", "ok", "error"]
"""What has become of a record's call."""


class RecordKey(NamedTuple):
    """What a record is for. Two keys name the same record only if all four parts are equal."""

    tenant: str
    service: str
    method: str
    key: str


class New(Struct, frozen=True):
    """Execute: nobody has begun, or whoever had gave it up."""

    epoch: int


class TakenOver(Struct, frozen=True):
    """Execute: the one before let its lease run out, and may have done the work or a part of it."""

    epoch: int


class Replay(Struct, frozen=True):
    """Do not execute: this is the answer."""

    payload: bytes
    ok: bool


class Busy(Struct, frozen=True):
    """Do not execute: somebody does, with a lease of so many more seconds."""

    lease_left: float


class Mismatch(Struct, frozen=True):
    """Do not execute: the key was used with another fingerprint."""


class Unknown(Struct, frozen=True):
    """Do not execute: the one before let its lease run out, and what it did cannot be repeated (`fail_unknown`)."""


Began = New | TakenOver | Replay | Busy | Mismatch | Unknown
"""The outcomes of `Store.begin`."""


@dataclass(frozen=True, slots=True)
class Record:
    """What stands under a key, for tools and for who waits."""

    progress: Progress
    epoch: int
    fingerprint: bytes
    lease_left: float
    """Seconds; 0 when it is over, or nobody holds the record."""
    payload: bytes | None
    """Of a call that is done."""


@runtime_checkable
class Store(Protocol):
    """Where records live. Its coroutines may be awaited on any event loop, several at once.

    Times are seconds. A step that cannot be answered raises `StoreError`, within a bounded time. What cannot be asked
    (a lease of 0, a fingerprint that is no bytes) raises `ConfigurationError`. `resilient_rpc.testing.check_store`
    tests a store for all of this.
    """

    async def begin(
        self, key: RecordKey, *, fingerprint: bytes, lease: float, ttl: float, on_takeover: OnTakeover = "rerun"
    ) -> Began:
        """Ask to execute. Who is answered with an epoch holds the record for `lease` seconds.

        The record is kept for `ttl` seconds, and for `lease` + `KEEP` at least.
        """

    async def renew(self, key: RecordKey, epoch: int, *, lease: float) -> bool:
        """Hold the record for `lease` seconds from now; False: it is no longer this epoch's."""

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, *, ok: bool, ttl: float) -> bool:
        """Keep the answer for `ttl` seconds; False: the record is no longer this epoch's, and nothing was kept."""

    async def abandon(self, key: RecordKey, epoch: int) -> bool:
        """Let others execute: this epoch did nothing that counts; False: the record is no longer this epoch's."""

    async def get(self, key: RecordKey) -> Record | None:
        """Read a record, and change nothing."""

    async def delete(self, key: RecordKey) -> bool:
        """Forget a record, whoever holds it, and whatever stands there; False: there was none."""

    async def close(self) -> None:
        """Close what belongs to the running loop. A store that is used again opens it again."""


def check_key(key: RecordKey) -> None:
    """ConfigurationError unless these are four texts of a bounded size."""
    if type(key) is RecordKey:  # with every step: without the loop below it takes a third
        tenant, service, method, own = key
        if type(tenant) is type(service) is type(method) is type(own) is str:
            longest = max(len(tenant), len(service), len(method), len(own))
            if longest <= MAX_PART:
                return
    part: Any
    for name, part in zip(RecordKey._fields, key, strict=True):
        if not isinstance(part, str) or len(part) > MAX_PART:
            what = f"{len(part)} characters" if isinstance(part, str) else type(part).__name__
            raise ConfigurationError(f"RecordKey.{name} must be a str of at most {MAX_PART} characters, not {what}")


def check_fingerprint(fingerprint: Any) -> None:
    """ConfigurationError unless it is bytes, some but not many."""
    if not isinstance(fingerprint, bytes) or not 0 < len(fingerprint) <= MAX_FINGERPRINT:
        raise ConfigurationError(f"fingerprint must be 1 to {MAX_FINGERPRINT} bytes, not {fingerprint!r:.80}")


def check_takeover(on_takeover: Any) -> None:
    """ConfigurationError unless it is one of the two words."""
    if on_takeover not in {"rerun", "fail_unknown"}:
        raise ConfigurationError(f"on_takeover must be 'rerun' or 'fail_unknown', not {on_takeover!r}")


def check_epoch(epoch: Any) -> None:
    """ConfigurationError unless it can have come from `begin`."""
    if isinstance(epoch, bool) or not isinstance(epoch, int):
        raise ConfigurationError(f"epoch must be an int, as begin() returned it, not {epoch!r}")


def check_payload(payload: Any) -> None:
    """ConfigurationError unless it is bytes: what they mean is not the store's business."""
    if not isinstance(payload, bytes):
        raise ConfigurationError(f"payload must be bytes, not {type(payload).__name__}")


def check_size(store: object, payload: bytes, most: int) -> None:
    """StoreRefused for an answer of more than `most` bytes, the store's `max_payload`."""
    if len(payload) > most:
        raise StoreRefused(
            f"an answer of {len(payload)} bytes, more than {type(store).__name__}.max_payload={most}",
            reason="too_large",
            written=False,
        )


def milliseconds(name: str, seconds: Any) -> int:
    """As whole milliseconds, at least 1; ConfigurationError for what is no length of time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_SECONDS:
        raise ConfigurationError(f"{name} must be more than 0 and at most {MAX_SECONDS:.0f} (seconds), not {seconds!r}")
    return math.ceil(seconds * 1000)
