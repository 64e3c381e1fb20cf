"""EncryptedStore: a store as any other, whose answers nobody reads or exchanges."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

from resilient_rpc import ConfigurationError
from resilient_rpc.stores import (
    CorruptRecord,
    EncryptedStore,
    MemoryStore,
    RecordKey,
    RedisStore,
    Replay,
    StoreRefused,
)
from resilient_rpc.testing import check_store
from tests.stores.tools import PATIENT, begin, new, new_key, on_a_loop

CIPHER = Fernet(Fernet.generate_key())


def encrypt(answer: bytes, key: RecordKey) -> bytes:
    return CIPHER.encrypt(repr(key).encode() + b"\x00\x00" + answer)


def decrypt(stored: bytes, key: RecordKey) -> bytes:
    owner, _, answer = CIPHER.decrypt(stored).partition(b"\x00\x00")
    if owner != repr(key).encode():
        raise ValueError("of another record")
    return answer


def encrypted(store: Any, **ciphers: Any) -> EncryptedStore:
    return EncryptedStore(store, **{"encrypt": encrypt, "decrypt": decrypt, **ciphers})


def test_it_keeps_every_rule_over_memory() -> None:
    check_store(lambda: encrypted(MemoryStore()))


@pytest.mark.slow
def test_it_keeps_every_rule_over_redis(redis_url: str, service: str) -> None:
    check_store(lambda: encrypted(RedisStore(redis_url, namespace=service, timeout=PATIENT)))


@pytest.mark.parametrize("ok", [True, False])
def test_what_is_stored_is_not_the_answer_and_what_comes_back_is(ok: bool) -> None:
    records, key = MemoryStore(), new_key()
    store = encrypted(records)

    async def work() -> None:
        assert await store.complete(key, await new(store, key), b"secret", ok=ok, ttl=60)
        kept = await records.get(key)
        assert kept is not None
        assert kept.payload is not None
        assert b"secret" not in kept.payload
        assert await begin(store, key) == Replay(b"secret", ok=ok)
        found = await store.get(key)
        assert found is not None
        assert (found.payload, found.epoch, found.progress) == (b"secret", kept.epoch, kept.progress)

    on_a_loop(store, work)


@pytest.mark.parametrize("tampered", ["moved", "changed", "plain"])
def test_an_answer_that_was_moved_or_changed_is_no_answer(tampered: str) -> None:
    records, mine, other = MemoryStore(), new_key(), new_key()
    store = encrypted(records)

    async def work() -> None:
        assert await store.complete(mine, await new(store, mine), b"secret", ok=True, ttl=60)
        kept = await records.get(mine)
        assert kept is not None
        assert kept.payload is not None
        payload = {"moved": kept.payload, "changed": kept.payload[:-9], "plain": b"secret"}[tampered]
        assert await records.complete(other, await new(records, other), payload, ok=True, ttl=60)
        for ask in (begin(store, other), store.get(other)):
            with pytest.raises(CorruptRecord, match="cannot be decrypted") as caught:
                await ask
            assert (caught.value.written, caught.value.retryable) == (False, False)
            assert "secret" not in str(caught.value)

    on_a_loop(store, work)


@pytest.mark.parametrize("cipher", [lambda *_: 1 / 0, lambda *_: "text"])
def test_an_answer_that_cannot_be_encrypted_is_not_stored_in_clear(cipher: Any) -> None:
    records, key = MemoryStore(), new_key()
    store = encrypted(records, encrypt=cipher)

    async def work() -> None:
        epoch = await new(store, key)
        with pytest.raises(StoreRefused, match="cannot be encrypted") as caught:
            await store.complete(key, epoch, b"secret", ok=True, ttl=60)
        assert (caught.value.reason, caught.value.written) == ("encryption", False)
        kept = await records.get(key)
        assert kept is not None
        assert kept.payload is None

    on_a_loop(store, work)


async def coroutine(payload: bytes, key: RecordKey) -> bytes:
    return payload


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"store": "redis://x"}, "EncryptedStore.store must be a store"),
        ({"encrypt": None}, "EncryptedStore.encrypt must be a plain function"),
        ({"decrypt": coroutine}, "EncryptedStore.decrypt must be a plain function"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        EncryptedStore(**{"store": MemoryStore(), "encrypt": encrypt, "decrypt": decrypt, **settings})
