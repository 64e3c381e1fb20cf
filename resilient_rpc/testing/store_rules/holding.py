"""Who holds a record, for how long, and who no longer does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from resilient_rpc.stores import Busy, Record, RecordKey, Replay, TakenOver
from resilient_rpc.testing.lab import expect
from resilient_rpc.testing.store_rules.bench import LONG, SHORT, Bench, rule


@rule("who was taken over can no longer renew, complete or abandon, and changes nothing by trying")
async def fencing(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    old = await bench.outlived(key)
    began = await bench.begin(key)
    epoch = began.epoch if isinstance(began, TakenOver) else 0
    await _refused(bench, key, old)
    record = await bench.store.get(key)
    expect(record is not None and record.epoch == epoch and record.progress == "taken_over", f"it became {record}")
    done = await bench.store.complete(key, epoch, b"new", ok=True, ttl=LONG)
    expect(done, "the one who took it over could not complete it")
    await _refused(bench, key, old)
    expect(await bench.begin(key) == Replay(b"new", ok=True), "the answer is not that of the one who took it over")


@rule("an epoch that was never given out changes nothing")
async def strangers(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    await _refused(bench, key, 1)
    expect(await bench.store.get(key) is None, "a step of nobody made a record")
    epoch = await bench.new(key)
    for stranger in (epoch + 1, epoch - 1, 0, -epoch, 10 * epoch):
        await _refused(bench, key, stranger)
    expect(isinstance(await bench.begin(key), Busy), "the record is no longer held")


@rule("a lease that is over but was not taken over still belongs to its epoch")
async def late(bench: Bench) -> None:
    """See `Store`."""
    renewed, completed = bench.key(), bench.key()
    epoch = await bench.outlived(renewed)
    expect(await bench.store.renew(renewed, epoch, lease=LONG), "it could not be renewed")
    began = await bench.begin(renewed)
    expect(isinstance(began, Busy), f"renewed, it was answered with {began}")
    epoch = await bench.outlived(completed)
    expect(await bench.store.complete(completed, epoch, b"", ok=True, ttl=LONG), "it could not be completed")


@rule("complete and abandon may be repeated: the answer is the same, and the first payload stays")
async def repeats(bench: Bench) -> None:
    """See `Store`."""
    done, given_up = bench.key(), bench.key()
    epoch = await bench.new(done)
    for payload in (b"first", b"second"):
        expect(await bench.store.complete(done, epoch, payload, ok=True, ttl=LONG), "complete() was refused")
    expect(await bench.begin(done) == Replay(b"first", ok=True), "the second payload replaced the first")
    expect(not await bench.store.abandon(done, epoch), "what is done could be abandoned")
    expect(not await bench.store.renew(done, epoch, lease=LONG), "what is done could be renewed")
    epoch = await bench.new(given_up)
    for _ in range(2):
        expect(await bench.store.abandon(given_up, epoch), "abandon() was refused")
    expect(not await bench.store.complete(given_up, epoch, b"", ok=True, ttl=LONG), "what is abandoned was completed")


@rule("an answer is forgotten after its ttl; the epoch of the next is larger all the same")
async def expiry(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    epoch = await bench.new(key)
    await bench.store.complete(key, epoch, b"", ok=True, ttl=SHORT)

    async def forgotten() -> bool:
        return await bench.store.get(key) is None

    await bench.until(forgotten, "an answer was not forgotten after its ttl")
    later = await bench.new(key)
    expect(later > epoch, f"the epoch was {epoch}, and then {later}")


@rule("a record outlives its lease, however short its ttl is, also after the lease was renewed")
async def outliving(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    epoch = await bench.new(key, lease=SHORT, ttl=0.001)
    await asyncio.sleep(2 * SHORT)
    record = await bench.store.get(key)
    expect(record is not None and record.epoch == epoch, f"after its lease it was {record}")
    expect(await bench.store.renew(key, epoch, lease=LONG), "it could not be renewed")
    record = await bench.store.get(key)
    expect(record is not None and record.lease_left > LONG / 2, f"renewed, it was {record}")


@rule("get tells what has become of a record, and changes nothing")
async def reading(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    expect(await bench.store.get(key) is None, "there was a record before begin")
    epoch = await bench.new(key)
    held = await bench.store.get(key)
    expect(
        held is not None and 0 < held.lease_left <= LONG and _without_lease(held) == ("running", epoch, b"args", None),
        f"in progress, it was {held}",
    )
    await bench.store.complete(key, epoch, b"answer", ok=False, ttl=LONG)
    for _ in range(2):
        done = await bench.store.get(key)
        expect(done == Record("error", epoch, b"args", 0.0, b"answer"), f"done, it was {done}")
    other = bench.key()
    epoch = await bench.new(other)
    await bench.store.abandon(other, epoch)
    given_up = await bench.store.get(other)
    expect(given_up == Record("abandoned", epoch, b"args", 0.0, None), f"abandoned, it was {given_up}")


@rule("what was deleted is forgotten, and whoever held it holds nothing any more")
async def deleting(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    expect(await bench.store.delete(key) is False, "a record was deleted that there was not")
    epoch = await bench.new(key)
    expect(await bench.store.delete(key) is True, "a record could not be deleted")
    expect(await bench.store.get(key) is None, "a deleted record could be read")
    await _refused(bench, key, epoch)
    later = await bench.new(key, fingerprint=b"other")
    expect(later > epoch, f"the epoch was {epoch}, and then {later}")
    await _refused(bench, key, epoch)


async def _refused(bench: Bench, key: RecordKey, epoch: int) -> None:
    asked: dict[str, Callable[[], Coroutine[Any, Any, bool]]] = {
        "renew": lambda: bench.store.renew(key, epoch, lease=LONG),
        "complete": lambda: bench.store.complete(key, epoch, b"stolen", ok=True, ttl=LONG),
        "abandon": lambda: bench.store.abandon(key, epoch),
    }
    for name, ask in asked.items():
        said = await ask()
        expect(said is False, f"{name}() of an epoch that does not hold the record returned {said!r}")


def _without_lease(record: Record) -> tuple[Any, ...]:
    return record.progress, record.epoch, record.fingerprint, record.payload
