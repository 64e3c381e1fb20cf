"""A worker's end of the channel, in this process."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest

from resilient_rpc import Server
from resilient_rpc.cli.workers.channel import DRAIN, Report, decode, encode
from resilient_rpc.cli.workers.pulse import Pulse
from resilient_rpc.cli.workers.worker import Link, report_of
from tests.waiting import PATIENCE, until


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The supervisor's end, and the worker's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("how", ["told", "gone"])
def test_it_drains_when_it_is_told_and_when_nobody_is_there(
    ends: tuple[socket.socket, socket.socket], service: str, how: str
) -> None:
    ours, theirs = ends
    server = Server(f"memory://{service}", service="shop")
    server.method(name="echo")(lambda: None)
    link = Link(theirs)
    link.drains(server)
    link.listen()
    link.say_again(server, 0.01)
    threading.Timer(0.2, lambda: ours.send(DRAIN) if how == "told" else ours.close()).start()
    server.run()
    until(lambda: not [each for each in threading.enumerate() if each.name.startswith("rpc-worker")], PATIENCE)


def test_it_reports_how_busy_it_is(ends: tuple[socket.socket, socket.socket], service: str) -> None:
    ours, theirs = ends
    server = Server(f"memory://{service}", service="shop", concurrency=7)
    server.method(name="echo")(lambda: None)
    link = Link(theirs)
    link.drains(server)
    server.start()
    link.say_again(server, 0.01)
    link.listen()
    lines = ours.makefile("rb")
    until(lambda: decode(lines.readline()) == Report(backlog=0, busy=0, slots=7))
    ours.send(DRAIN)
    lines.close()
    server.stop()


def test_a_report_says_what_waits_and_what_runs() -> None:
    health = {"running": 2, "waiting": 3, "slots": 8, "backlog": 40, "consuming": True}
    assert report_of(health) == Report(backlog=40, busy=5, slots=8)
    assert report_of({**health, "event_backlog": 2}).backlog == 42
    assert report_of({**health, "event_backlog": None}).backlog == 40
    assert report_of({"consuming": False}) == Report()
    assert decode(encode(Report(ready="shop", grace=1.5))) == Report(ready="shop", grace=1.5)
    with pytest.raises(msgspec.MsgspecError):
        decode(b'{"ready": ')


def test_a_sign_of_life_waits_for_nobody(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    link = Link(theirs)
    link.beat()
    assert decode(ours.recv(100)) == Report(alive=True)
    with link._lock:  # somebody else is about to report
        link.beat()
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(100)
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        while theirs.send(b" " * 4096):
            pass
    theirs.setblocking(True)
    link.beat()  # there is no room for it
    ours.close()
    link.beat()


def test_a_pulse_beats_as_long_as_its_loop_turns() -> None:
    async def scenario() -> None:
        beats: asyncio.Queue[float] = asyncio.Queue()
        pulse = Pulse(lambda: beats.put_nowait(time.monotonic()), 0.01)
        pulse.begin()
        pulse.begin()
        assert beats.qsize() == 1, "it has begun once"
        times = [await beats.get() for _ in range(4)]
        assert times[-1] - times[0] >= 0.03 - 0.001

    asyncio.run(scenario())


def test_nobody_who_hears_a_report_is_no_trouble(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    ours.close()
    Link(theirs).say(Report(busy=1))
