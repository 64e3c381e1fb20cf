"""What a client process does with its clock: warm up, say so, call for some seconds, report."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

WARM_UP = 200


def say(**what: Any) -> None:
    """Tell the parent process, in a line of JSON."""
    print(json.dumps(what), flush=True)


def report(laps: list[float], wall: float, cpu: float) -> None:
    """Say what the calls took; `laps` in seconds, one for each."""
    laps.sort()
    count = len(laps)
    say(
        event="done",
        calls=count,
        calls_per_s=count / wall,
        p50_us=laps[count // 2] * 1e6,
        p99_us=laps[int(count * 0.99)] * 1e6,
        client_cpu_us=cpu / count * 1e6,
    )


def check(answer: Any, number: int) -> None:
    """An echo that is not one ends the benchmark."""
    assert answer == {"n": number}, answer


async def drive_tasks(call: Callable[[int], Awaitable[Any]], window: int, seconds: float) -> None:
    """`window` tasks that call one after the other."""
    for number in range(WARM_UP):
        check(await call(number), number)
    say(event="begin")
    laps: list[float] = []
    cpu, begin = time.process_time(), time.perf_counter()
    end = begin + seconds

    async def work() -> None:
        number = 0
        while (start := time.perf_counter()) < end:
            number += 1
            check(await call(number), number)
            laps.append(time.perf_counter() - start)

    await asyncio.gather(*[work() for _ in range(window)])
    report(laps, time.perf_counter() - begin, time.process_time() - cpu)


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
