"""How a process ends whose server runs in its main thread: each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from resilient_rpc import Client, Server
from tests.waiting import PATIENCE

RUN = """
import asyncio, atexit, os, signal, sys, threading, time
from resilient_rpc import Client, Server
from resilient_rpc.serving import foreground

foreground.MARGIN = 0.2
server = Server("memory://run", service="shop", grace=0.2)
HANG = threading.Event()

@server.method
def thread():
    begun(); HANG.wait(30)

@server.method
async def to_thread():
    begun(); await asyncio.to_thread(HANG.wait, 30)

@server.method
async def stubborn():
    begun()
    while True:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            pass

@server.method
async def obedient():
    begun(); await asyncio.sleep(30)

def begun():
    os.kill(os.getpid(), signal.SIGTERM)

def call():
    with Client("memory://run") as client:
        while not server.health()["consuming"]:
            time.sleep(0.01)
        try:
            client.call("shop." + sys.argv[1])
        except Exception as error:
            print(type(error).__name__, flush=True)

caller = threading.Thread(target=call, daemon=True)
caller.start()
try:
    server.run()
finally:
    caller.join(5)
    print("ended", flush=True)
"""


@pytest.mark.parametrize(
    ("method", "code", "said"),
    [
        ("thread", 75, "Interrupted ended"),
        ("to_thread", 75, "Interrupted"),
        ("stubborn", 75, ""),
        ("obedient", 0, "Interrupted ended"),
    ],
)
def test_what_hangs_does_not_keep_the_process(method: str, code: int, said: str) -> None:
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", RUN, method],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert (done.returncode, done.stdout.split()) == (code, said.split()), done.stderr
    assert time.monotonic() - begin < 20
    if method == "thread":
        assert "thread did not end in the 0.2 s of grace: leaving it undone, with code 75" in done.stderr
    elif code:
        assert "the process does not end" in done.stderr


def served(url: str) -> Server:
    server = Server(url, service="shop")
    server.method(name="echo")(lambda value: value)
    return server


def test_it_drains_when_it_is_asked_however_often(service: str) -> None:
    server = served(f"memory://{service}")
    heard: list[int] = []

    def ask() -> None:
        with Client(f"memory://{service}") as client:
            heard.append(client.call("shop.echo", [1], timeout=PATIENCE))
        for _ in range(3):
            server.drain()

    for _ in range(2):
        asking = threading.Thread(target=ask)
        asking.start()
        server.run()
        asking.join()
    assert heard == [1, 1]
    assert not server.health()["consuming"]
    assert not [thread for thread in threading.enumerate() if thread.name == "rpc-last-resort" and not _ends(thread)]


def _ends(thread: threading.Thread) -> bool:
    thread.join(PATIENCE)
    return not thread.is_alive()


def test_one_that_was_asked_before_it_ran_ends_as_it_begins(service: str) -> None:
    server = served(f"memory://{service}")
    server.drain()
    before = signal.getsignal(signal.SIGTERM)
    server.run()
    assert signal.getsignal(signal.SIGTERM) is before


FROZEN = """
import gc, threading
from resilient_rpc import Client, Server

server = Server("memory://frozen", service="shop")

@server.method
def frozen() -> int:
    return gc.get_freeze_count()

def call():
    with Client("memory://frozen") as client:
        print(client.call("shop.frozen") > 1000)
    server.drain()

caller = threading.Thread(target=call)
caller.start()
server.run()
caller.join()
print(gc.get_freeze_count())
"""


def test_no_collection_goes_through_what_was_there_before_the_server_ran() -> None:
    done = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "0"]), done.stderr
