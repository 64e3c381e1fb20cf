"""Waiting for a condition, server processes, and what a process holds."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from resilient_rpc import Client


def eventually(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Wait until it holds; fail, naming `what`, if it does not."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, f"{what} did not come about within {seconds} s"
        pause.wait(0.01)


@contextlib.contextmanager
def server_process(url: str, service: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tests.faults.victim`, ready to serve."""
    process = subprocess.Popen([sys.executable, "-m", "tests.faults.victim", url, service, str(folder)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_servers(url: str, service: str, count: int) -> None:
    """Until so many processes answer."""
    seen: set[int] = set()
    wrong: list[Exception] = []

    def ask() -> bool:
        try:
            seen.update(client.map(f"{service}.whoami", [()] * (4 * count), timeout=2.0))
        except Exception as error:
            wrong.append(error)
        return len(seen) >= count

    with Client(url, batching=None, policies=[]) as client:  # a circuit would open while they start
        try:
            eventually(ask, f"{count} servers", 30.0)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen}, {wrong[-5:]}") from None


def holdings() -> dict[str, int]:
    """What this process holds: threads, sockets and files, objects of ours by their number."""
    gc.collect()
    process = psutil.Process(os.getpid())
    ours = sum(1 for thing in gc.get_objects() if str(type(thing).__module__).startswith("resilient_rpc."))
    return {"threads": process.num_threads(), "descriptors": process.num_fds(), "objects": ours}
