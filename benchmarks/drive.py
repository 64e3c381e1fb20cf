"""What a client process does with its clock: warm up, say so, call for some seconds, report."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

WARM_UP = 200
QUANTILES = {"p50_us": 0.5, "p95_us": 0.95, "p99_us": 0.99, "p999_us": 0.999}


def say(**what: Any) -> None:
    """Tell the parent process, in a line of JSON."""
    print(json.dumps(what), flush=True)


def report(laps: list[float], wall: float, cpu: float, **more: float) -> None:
    """Say what the calls took; `laps` in seconds, one for each."""
    laps.sort()
    count = len(laps)
    quantiles = {name: laps[min(int(count * share), count - 1)] * 1e6 for name, share in QUANTILES.items()}
    say(
        event="done",
        calls=count,
        calls_per_s=count / wall,
        **quantiles,
        max_us=laps[-1] * 1e6,
        client_cpu_us=cpu / count * 1e6,
        **more,
    )


def check(answer: Any, number: int) -> None:
    """An echo that is not one ends the benchmark."""
    assert answer == {"n": number}, answer


async def drive_tasks(
    call: Callable[[int], Awaitable[Any]], window: int, seconds: float, sent: Callable[[], int] | None = None
) -> None:
    """`window` tasks that call one after the other; `sent`: how many messages were, if that is counted."""
    for number in range(WARM_UP):
        check(await call(number), number)
    say(event="begin")
    laps: list[float] = []
    before = sent() if sent is not None else 0
    cpu, begin = time.process_time(), time.perf_counter()
    end = begin + seconds

    async def work() -> None:
        number = 0
        while (start := time.perf_counter()) < end:
            number += 1
            check(await call(number), number)
            laps.append(time.perf_counter() - start)

    await asyncio.gather(*[work() for _ in range(window)])
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    messages = sent() - before if sent is not None else 0
    report(laps, wall, cpu, **({"calls_a_message": len(laps) / messages} if messages else {}))


def drive_threads(call: Callable[[int], Any], count: int, seconds: float) -> None:
    """`count` threads that call one after the other."""
    for number in range(WARM_UP):
        check(call(number), number)
    say(event="begin")
    laps: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    end = begin + seconds

    def work() -> None:
        number = 0
        while (start := time.perf_counter()) < end:
            number += 1
            check(call(number), number)
            laps.append(time.perf_counter() - start)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report(laps, time.perf_counter() - begin, time.process_time() - cpu)


async def drive_at_rate(call: Callable[[int], Awaitable[Any]], rate: float, seconds: float) -> None:
    """`rate` calls a second, begun by the clock whether or not others have ended: an open loop.

    The time of a call counts from the moment at which it was due. So a pause, of whatever part, is paid by all calls
    that were due in it, as by users; a closed loop would wait politely and count it once (coordinated omission).
    """
    for number in range(WARM_UP):
        check(await call(number), number)
    laps: list[float] = []
    under_way: set[asyncio.Task[None]] = set()
    total = max(int(rate * seconds), 1)
    say(event="begin")
    cpu, begin = time.process_time(), time.perf_counter()

    async def one(number: int) -> None:
        check(await call(number), number)
        laps.append(time.perf_counter() - begin - number / rate)

    sent = 0
    while sent < total:
        due = min(int((time.perf_counter() - begin) * rate) + 1, total)
        for number in range(sent, due):
            task = asyncio.create_task(one(number))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        sent = max(due, sent)
        await asyncio.sleep(max(begin + sent / rate - time.perf_counter(), 0))
    while under_way:
        await asyncio.gather(*under_way)
    assert len(laps) == total, f"{total - len(laps)} of {total} calls had no answer"
    report(laps, time.perf_counter() - begin, time.process_time() - cpu)
