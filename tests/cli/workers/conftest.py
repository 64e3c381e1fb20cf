"""`serve` with workers, in processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

Start = Callable[..., "subprocess.Popen[str]"]
SHOP = """
import os, threading, time
from pathlib import Path
from resilient_rpc import Server
from resilient_rpc.events import ConnectionStateChanged

Path(f"imported.{os.getpid()}").touch()
url, service, grace = (os.environ[name] for name in ("SHOP_URL", "SHOP_SERVICE", "GRACE"))
server = Server(url, service=service, concurrency=4, grace=float(grace))

@server.method(safety="read_only")
async def pid() -> int:
    return os.getpid()

@server.method
def hold(name: str, seconds: float) -> int:
    Path(f"{name}.{os.getpid()}").touch()
    time.sleep(seconds)
    return os.getpid()

@server.method(safety="idempotent")
def slow() -> int:
    time.sleep(0.1)
    return os.getpid()

@server.method
async def hang(name: str) -> None:
    Path(f"{name}.{os.getpid()}").touch()
    time.sleep(600)  # on the loop

def crashing() -> Server:
    server.on(ConnectionStateChanged, lambda _: os._exit(3))
    return server
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


@pytest.fixture
def start(folder: Path, service: str) -> Iterator[Start]:
    """Start `serve` with these arguments in a session of its own; nothing of it is left after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, url: str = "memory://x", grace: float = 10.0) -> subprocess.Popen[str]:
        with (folder / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "resilient_rpc.cli", "serve", *args],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONSAFEPATH": "1",
                    "SHOP_URL": url,
                    "SHOP_SERVICE": service,
                    "GRACE": str(grace),
                },
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        left = [each.pid for each in children(process)]
        process.kill()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.communicate()


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers that there are."""
    try:
        return list(psutil.Process(process.pid).children())
    except psutil.NoSuchProcess:
        return []


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all have ended."""
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def line(process: subprocess.Popen[str]) -> str:
    """The next one on stdout."""
    assert process.stdout is not None
    return process.stdout.readline()
