"""How often a second something can be done: by one thread, or by many. Only the standard library: peers run it too."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

WARM_UP = 50


def by_threads(work: Callable[[int], object], numbers: Iterator[int], seconds: float, threads: int) -> float:
    """Calls of `work` a second. `numbers` says what to work on; each is taken once."""
    for number in itertools.islice(numbers, WARM_UP):
        work(number)
    lock, done, errors = threading.Lock(), [0], [None]
    start = threading.Barrier(threads + 1)
    until = [0.0]

    def take() -> int:
        with lock:
            return next(numbers)

    def run() -> None:
        count = 0
        start.wait()
        try:
            while time.perf_counter() < until[0]:
                work(take())
                count += 1
        except BaseException as error:
            errors[0] = error  # type: ignore[call-overload]
        with lock:
            done[0] += count

    crowd = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    begin = time.perf_counter()
    until[0] = begin + seconds
    start.wait()
    for thread in crowd:
        thread.join()
    if errors[0] is not None:
        raise errors[0]
    return done[0] / (time.perf_counter() - begin)
