"""Many keys, callers, loops and processes. See `resilient_rpc.stores.base` for what the rules are for."""

from __future__ import annotations

import asyncio
import functools
import math
import secrets
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores import Began, Busy, New, RecordKey, Replay
from resilient_rpc.testing.lab import expect
from resilient_rpc.testing.rules.forked import in_child
from resilient_rpc.testing.store_rules.bench import CROWD, LONG, Bench, rule


@rule("two keys are the same record only if all their parts are equal, whatever stands in them")
async def keys(bench: Bench) -> None:
    """See `Store`."""
    run = secrets.token_hex(4)
    hostile = [
        "",
        ":",
        "a:b",
        "a",
        "b",
        "{a}",
        "}{",
        "a\n",
        "a\0",
        "%61",
        "A",
        "ä",
        "\ud800",
        "*",
        "a" * 500,
        "a" * 501,
    ]
    found = [
        *(RecordKey(run, "s", "m", part) for part in hostile),
        *(RecordKey(f"{run}{part}", "s", "m", "a") for part in hostile if part),
        RecordKey(run, "s:m", "", "x"),
        RecordKey(run, "s", "m:", "x"),
        RecordKey(run, "s", "m", ":x"),
        RecordKey(run, "sm", "", "x"),
        RecordKey(run, "s", "m", "x"),
        RecordKey(run, "", "sm", "x"),
    ]
    epochs = [await bench.new(key) for key in found]
    for number, (key, epoch) in enumerate(zip(found, epochs, strict=True)):
        await bench.store.complete(key, epoch, b"%d" % number, ok=True, ttl=LONG)
    for number, key in enumerate(found):
        began = await bench.begin(key)
        expect(began == Replay(b"%d" % number, ok=True), f"the record of {key!r:.200} was answered with {began}")


@rule("of many who begin at once, on several loops, one is New")
async def concurrency(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    found: list[Began] = []

    async def crowd() -> None:
        found.extend(await asyncio.gather(*[bench.begin(key) for _ in range(CROWD)]))

    async def guest() -> None:
        await crowd()
        await bench.store.close()

    threads = [threading.Thread(target=functools.partial(_run, guest)) for _ in range(2)]
    for thread in threads:
        thread.start()
    await crowd()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    expect(len(found) == 3 * CROWD, f"{len(found)} of {3 * CROWD} were answered")
    new = [began for began in found if isinstance(began, New)]
    expect(len(new) == 1, f"{len(new)} of {len(found)} were New")
    others = [began for began in found if not isinstance(began, New | Busy)]
    expect(not others, f"another one was answered with {others[:1]}")


@rule("many keys at once do not disturb each other")
async def crowd(bench: Bench) -> None:
    """See `Store`."""
    found = [bench.key() for _ in range(10 * CROWD)]
    epochs = await asyncio.gather(*[bench.new(key) for key in found])
    payloads = [key.key.encode() for key in found]
    done = await asyncio.gather(
        *[
            bench.store.complete(key, epoch, payload, ok=True, ttl=LONG)
            for key, epoch, payload in zip(found, epochs, payloads, strict=True)
        ]
    )
    expect(all(done), "some could not be completed")
    again = await asyncio.gather(*[bench.begin(key) for key in found])
    expect(again == [Replay(payload, ok=True) for payload in payloads], "some got the answer of another")


@rule("a caller that is cancelled leaves nothing behind that keeps others waiting")
async def cancelling(bench: Bench) -> None:
    """See `Store`."""
    found = [bench.key() for _ in range(CROWD)]
    for turns in range(4):
        tasks = [asyncio.create_task(bench.begin(key)) for key in found]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for key, outcome in zip(found, outcomes, strict=True):
            if isinstance(outcome, New):
                await bench.store.abandon(key, outcome.epoch)

    async def free() -> bool:
        began = await asyncio.gather(*[bench.begin(key) for key in found])
        for key, one in zip(found, began, strict=True):
            if isinstance(one, New):
                await bench.store.abandon(key, one.epoch)
        return all(isinstance(one, New) for one in began)

    await bench.until(free, "somebody went on holding a record whose begin had been cancelled")


@rule("what cannot be asked is refused by a ConfigurationError, and makes no record")
async def arguments(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    store = bench.store
    good: dict[str, Any] = {"fingerprint": b"args", "lease": 1.0, "ttl": 1.0}
    wrong: list[dict[str, Any]] = [
        *({name: seconds} for name in ("lease", "ttl") for seconds in (0, -1, math.nan, math.inf, "1", None, True)),
        *({"fingerprint": fingerprint} for fingerprint in (b"", b"x" * 65, "args", None)),
        {"on_takeover": "maybe"},
    ]
    asked: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        *(functools.partial(store.begin, key, **{**good, **settings}) for settings in wrong),
        functools.partial(store.begin, bench.key(key="x" * 1025), **good),
        functools.partial(store.begin, bench.key(tenant=5), **good),  # type: ignore[arg-type]
        functools.partial(store.renew, key, "1", lease=1.0),  # type: ignore[arg-type]
        functools.partial(store.renew, key, 1, lease=0),
        functools.partial(store.complete, key, 1, "text", ok=True, ttl=1.0),  # type: ignore[arg-type]
        functools.partial(store.complete, key, 1, b"", ok=True, ttl=-1),
        functools.partial(store.complete, key, 1.5, b"", ok=True, ttl=1),  # type: ignore[arg-type]
        functools.partial(store.abandon, key, None),  # type: ignore[arg-type]
    ]
    for ask in asked:
        try:
            said = await ask()
        except ConfigurationError:
            continue
        except Exception as error:
            said = error
        expect(holds=False, seen=f"{ask.func.__name__}{ask.args[1:]}, {ask.keywords} ended in {said!r}")  # type: ignore[attr-defined]
    expect(await store.get(key) is None, "one of them made a record")


@rule("it can be used again after close(), and by one loop after another")
async def closing(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    epoch = await bench.new(key)
    for _ in range(2):
        await bench.store.close()
    expect(await bench.store.renew(key, epoch, lease=LONG), "the record was gone after close()")

    async def guest() -> None:
        await bench.new(bench.key())
        await bench.store.close()

    for _ in range(2):
        await asyncio.to_thread(_run, guest)


@rule("the child of a fork may use it at once")
async def fork(bench: Bench) -> None:
    """See `Store`."""
    await bench.new(bench.key())
    key = bench.key()

    async def child() -> None:
        epoch = await bench.new(key)
        expect(await bench.store.complete(key, epoch, b"", ok=True, ttl=LONG), "complete() was refused")
        await bench.store.close()

    waiting = [asyncio.create_task(bench.begin(bench.key())) for _ in range(CROWD)]
    await asyncio.sleep(0)
    said = in_child(lambda: _said(child))()
    began = await asyncio.gather(*waiting)
    expect(not said, f"in the child, {said}")
    expect(all(isinstance(one, New) for one in began), "calls of the parent were disturbed")


def _run(make: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(make())


def _said(make: Callable[[], Coroutine[Any, Any, None]]) -> str:
    # A loop of the parent is running in this thread, and its child has no use for it.
    said: list[str] = []

    def body() -> None:
        try:
            asyncio.run(make())
        except BaseException as error:
            said.append(f"it ended in {error!r}")

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return "".join(said)
