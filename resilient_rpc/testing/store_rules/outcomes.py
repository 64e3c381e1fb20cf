"""What begin answers. See `resilient_rpc.stores.base` for what the rules are for."""

from __future__ import annotations

import asyncio
import inspect

from resilient_rpc.stores import Busy, Mismatch, Replay, TakenOver, Unknown
from resilient_rpc.testing.lab import expect
from resilient_rpc.testing.store_rules.bench import CROWD, LONG, PAYLOAD, Bench, rule


@rule("it has the methods of the port, and they are coroutines")
async def port(bench: Bench) -> None:
    """See `Store`."""
    for name in ("begin", "renew", "complete", "abandon", "get", "delete", "close"):
        method = getattr(bench.store, name, None)
        expect(inspect.iscoroutinefunction(method), f"{name} is {method!r}")


@rule("the first begin of a key is New, those after it are Busy while the lease lasts")
async def first(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    epoch = await bench.new(key)
    expect(epoch > 0, f"its epoch is {epoch!r}")
    second = await bench.begin(key)
    expect(isinstance(second, Busy) and 0 < second.lease_left <= LONG, f"the second begin was answered with {second}")


@rule("what was completed is replayed, byte for byte, as an answer or as an error")
async def replay(bench: Bench) -> None:
    """See `Store`."""
    for ok, payload in ((True, PAYLOAD), (False, b"error"), (True, b""), (True, PAYLOAD * 1024)):
        key = bench.key()
        epoch = await bench.new(key)
        done = await bench.store.complete(key, epoch, payload, ok=ok, ttl=LONG)
        expect(done is True, f"complete() of the one who holds the record returned {done!r}")
        for _ in range(2):
            again = await bench.begin(key)
            expect(again == Replay(payload, ok), f"{len(payload)} bytes, ok={ok}, became {again!r:.200}")


@rule("another fingerprint is a Mismatch, whatever has become of the first call")
async def mismatch(bench: Bench) -> None:
    """See `Store`."""
    running, done, abandoned, over = (bench.key() for _ in range(4))
    await bench.new(running)
    await bench.store.complete(done, await bench.new(done), b"", ok=True, ttl=LONG)
    await bench.store.abandon(abandoned, await bench.new(abandoned))
    await bench.outlived(over)
    for what, key in {"running": running, "done": done, "abandoned": abandoned, "lost": over}.items():
        began = await bench.begin(key, fingerprint=b"other")
        expect(began == Mismatch(), f"for a call that is {what}, it was answered with {began}")


@rule("an abandoned record is New to the next, with a larger epoch, whatever they make of a takeover")
async def abandon(bench: Bench) -> None:
    """See `Store`."""
    for on_takeover in ("rerun", "fail_unknown"):
        key = bench.key()
        epoch = await bench.new(key)
        given_up = await bench.store.abandon(key, epoch)
        expect(given_up is True, f"abandon() of the one who holds the record returned {given_up!r}")
        later = await bench.new(key, on_takeover=on_takeover)
        expect(later > epoch, f"the epoch was {epoch}, and then {later}")


@rule("a record whose lease is over is taken over, with a larger epoch, by one of all who ask at once")
async def takeover(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    epoch = await bench.outlived(key)
    began = await asyncio.gather(*[bench.begin(key) for _ in range(CROWD)])
    taken = [one for one in began if isinstance(one, TakenOver)]
    expect(len(taken) == 1, f"{len(taken)} of {CROWD} took it over")
    expect(taken[0].epoch > epoch, f"the epoch was {epoch}, and then {taken[0].epoch}")
    others = [one for one in began if not isinstance(one, TakenOver | Busy)]
    expect(not others, f"another one was answered with {others[:1]}")


@rule("who must not repeat what was cut short is told Unknown, each time")
async def unknown(bench: Bench) -> None:
    """See `Store`."""
    key = bench.key()
    await bench.outlived(key)
    for _ in range(2):
        began = await bench.begin(key, on_takeover="fail_unknown")
        expect(began == Unknown(), f"begin with fail_unknown was answered with {began}")
