"""N: nameko, its service runner with the default ten workers, and its ClusterRpcProxy with ``call_async``."""

from __future__ import annotations

import itertools
import time
from argparse import Namespace
from collections import deque
from typing import Any

from benchmarks.drive import WARM_UP, check, report, say


def server(options: Namespace) -> None:
    import eventlet  # noqa: PLC0415 - in its own environment alone

    eventlet.monkey_patch()
    from nameko.rpc import rpc  # noqa: PLC0415
    from nameko.runners import ServiceRunner  # noqa: PLC0415

    class Service:
        name = options.service

        @rpc
        def echo(self, n: int) -> dict[str, int]:
            return {"n": n}

    runner = ServiceRunner({"AMQP_URI": options.url})
    runner.add_service(Service)
    runner.start()
    say(event="ready")
    runner.wait()


def client(options: Namespace) -> None:
    import eventlet  # noqa: PLC0415

    eventlet.monkey_patch()
    from nameko.standalone.rpc import ClusterRpcProxy  # noqa: PLC0415

    with ClusterRpcProxy({"AMQP_URI": options.url}, timeout=30) as proxy:
        echo, numbers = getattr(proxy, options.service).echo, itertools.count()
        waiting: deque[tuple[int, float, Any]] = deque()

        def send() -> None:
            number = next(numbers)
            waiting.append((number, time.perf_counter(), echo.call_async(n=number)))

        def settle() -> float:
            number, begin, answer = waiting.popleft()
            check(answer.result(), number)
            return time.perf_counter() - begin

        for _ in range(WARM_UP):
            send()
            settle()
        say(event="begin")
        laps: list[float] = []
        cpu, begin = time.process_time(), time.perf_counter()
        end = begin + options.seconds
        while time.perf_counter() < end:
            while len(waiting) < options.window:
                send()
            laps.append(settle())
        while waiting:
            laps.append(settle())
        report(laps, time.perf_counter() - begin, time.process_time() - cpu)
