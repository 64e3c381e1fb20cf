"""EncryptedStore: a store that never sees an answer, for a Redis or a database that others can look into."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores.base import Began, OnTakeover, Record, RecordKey, Replay, Store, check_payload
from resilient_rpc.stores.errors import CorruptRecord, StoreRefused

Cipher = Callable[[bytes, RecordKey], bytes]
"""A plain function of an answer and the record that it belongs to. It raises what it likes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncryptedStore:
    """Keeps answers in another store as `encrypt` makes them, and hands them out as `decrypt` makes them.

    Keys are never stored as they are, arguments only as a digest; what is left to be read in a store are the answers.
    Both functions are given the record's key too: a cipher that authenticates it (AES-GCM with associated data) makes
    an answer that was moved to another record, or changed, `CorruptRecord`, which is neither executed nor shown.
    Not for `SqlStore.record`, which writes into the table of its own store.
    """

    store: Store = field(kw_only=False)
    """Where the records live."""
    encrypt: Cipher
    """Gives what is stored; an exception of it leaves the answer unrecorded, as a store that fails would."""
    decrypt: Cipher
    """Gives the answer back. An exception of it is a record that cannot be read."""

    def __post_init__(self) -> None:
        if not isinstance(self.store, Store):
            raise ConfigurationError(
                f"EncryptedStore.store must be a store, as RedisStore(url), not {self.store!r:.200}"
            )
        for name in ("encrypt", "decrypt"):
            cipher = getattr(self, name)
            if not callable(cipher) or inspect.iscoroutinefunction(cipher):
                raise ConfigurationError(f"EncryptedStore.{name} must be a plain function, not {cipher!r:.200}")

    @property
    def parks(self) -> bool:
        """As the store does."""
        return getattr(self.store, "parks", False)

    async def begin(
        self, key: RecordKey, *, fingerprint: bytes, lease: float, ttl: float, on_takeover: OnTakeover = "rerun"
    ) -> Began:
        """As the store does; an answer is decrypted."""
        began = await self.store.begin(key, fingerprint=fingerprint, lease=lease, ttl=ttl, on_takeover=on_takeover)
        if type(began) is Replay:
            return Replay(self._decrypted(began.payload, key), began.ok)
        return began

    async def renew(self, key: RecordKey, epoch: int, *, lease: float) -> bool:
        """As the store does."""
        return await self.store.renew(key, epoch, lease=lease)

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, *, ok: bool, ttl: float) -> bool:
        """As the store does, with the answer encrypted."""
        check_payload(payload)
        try:
            hidden = self.encrypt(payload, key)
            check_payload(hidden)
        except Exception as error:
            raise StoreRefused("the answer cannot be encrypted", reason="encryption", written=False) from error
        return await self.store.complete(key, epoch, hidden, ok=ok, ttl=ttl)

    async def abandon(self, key: RecordKey, epoch: int) -> bool:
        """As the store does."""
        return await self.store.abandon(key, epoch)

    async def get(self, key: RecordKey) -> Record | None:
        """As the store does; an answer is decrypted."""
        record = await self.store.get(key)
        if record is None or record.payload is None:
            return record
        return dataclasses.replace(record, payload=self._decrypted(record.payload, key))

    async def delete(self, key: RecordKey) -> bool:
        """As the store does."""
        return await self.store.delete(key)

    async def close(self) -> None:
        """As the store does."""
        await self.store.close()

    def _decrypted(self, payload: bytes, key: RecordKey) -> bytes:
        try:
            answer = self.decrypt(payload, key)
            check_payload(answer)
        except Exception as error:
            raise CorruptRecord("the answer cannot be decrypted", written=False) from error
        return answer
