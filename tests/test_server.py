from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient_rpc import Client, ConfigurationError, Context, Limits, MethodNotFound, Safety, Server
from resilient_rpc.errors import Draining, RemoteError, UsageError
from resilient_rpc.events import ConnectionStateChanged
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.memory import Bus
from tests.waiting import PATIENCE, turns, until

_numbers = itertools.count(1)


@pytest.fixture
def bus() -> Iterator[Bus]:
    made = Bus.named(f"server-{next(_numbers)}")
    yield made
    until(lambda: made.connections == [])


def server(bus: Bus, **settings: Any) -> Server:
    made = Server(f"memory://{bus.name}", service="shop", **settings)

    @made.method
    async def echo(value: Any = None) -> Any:
        return value

    return made


def ask(bus: Bus, *args: Any, **how: Any) -> Any:
    with Client(f"memory://{bus.name}") as client:
        return client.call(*args, **how)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("rpc-server", "rpc-rpc"))]


# -- registering


class Shop:
    def price(self, sku: str) -> str:
        return sku

    async def later(self, sku: str) -> str:
        return sku

    def __call__(self, sku: str) -> str:
        return sku


class Later:
    async def __call__(self, sku: str) -> str:
        await asyncio.sleep(0)
        return sku


async def coroutine(prefix: str, sku: str) -> str:
    return prefix + sku


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (Shop().price, "A"), (Shop().later, "A"), (Shop(), "A"), (Later(), "A"),
        (functools.partial(coroutine, "p-"), "p-A"), (functools.partial(Shop().later), "A"),
    ],
)  # fmt: skip
def test_whatever_can_be_called_can_be_served(bus: Bus, function: Any, result: Any) -> None:
    made = server(bus)
    made.method(name="it")(function)
    made.start()
    try:
        assert ask(bus, "shop.it", {"sku": "A"}) == result
    finally:
        made.stop()


def test_a_decorator_gives_the_function_back(bus: Bus) -> None:
    made = server(bus)

    def one() -> int:
        return 1

    assert made.method(one) is one
    assert made.method(name="two", safety="read_only", timeout=1.0)(one) is one
    made.start()
    try:
        assert ask(bus, "shop.one") == ask(bus, "shop.two") == 1
        with pytest.raises(MethodNotFound):
            ask(bus, "shop.three")
    finally:
        made.stop()


@pytest.mark.parametrize(
    ("function", "how"),
    [
        (lambda: 1, {}), (lambda: 1, {"name": "_x"}), (lambda: 1, {"name": ""}), (lambda: 1, {"name": "a b"}),
        (lambda: 1, {"name": 5}), (functools.partial(int), {}), (lambda: 1, {"name": "x", "safety": "perhaps"}),
        (lambda: 1, {"name": "x", "timeout": 0}), (lambda: 1, {"name": "x", "timeout": "1"}),
        (lambda: 1, {"name": "echo"}),
        (lambda: 1, {"name": "shop.echo"}), ("text", {"name": "x"}), (None, {"name": 5}), (dict, {"name": "x"}),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_found_when_it_is_registered(bus: Bus, function: Any, how: dict[str, Any]) -> None:
    made = server(bus)
    with pytest.raises(ConfigurationError):
        made.method(**how)(function) if how else made.method(function)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"concurrency": 0}, "concurrency"), ({"prefetch": 0}, "prefetch"), ({"grace": 0}, "grace"),
        ({"prefix": 5}, "prefix"),
        ({"prefix": "x" * 300}, "prefix"), ({"batching": 5}, "batching"), ({"limits": 5}, "limits"),
        ({"service": "a.b"}, "service"),
        ({"service": ""}, "service"), ({"name": 5}, "name"), ({"reply_prefixes": "rpc.reply."}, "reply_prefixes"),
        ({"reply_prefixes": [""]}, "reply_prefixes"), ({"reply_prefixes": [5]}, "reply_prefixes"),
    ],
)  # fmt: skip
def test_a_setting_that_is_wrong_is_found_when_it_is_made(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Server("memory://x", **{"service": "shop", **settings})


@pytest.mark.parametrize("url", ["", "http://x", None])
def test_a_url_that_is_none_is_found_when_it_is_made(url: Any) -> None:
    with pytest.raises(ConfigurationError):
        Server(url, service="shop")


def test_it_says_what_it_is(bus: Bus) -> None:
    made = server(bus, name="one")
    assert repr(made) == "Server(service='shop', name='one', methods=['echo'])"
    assert server(bus).name != server(bus).name


def test_the_servers_word_on_safety_rules(bus: Bus) -> None:
    made = server(bus)
    seen: list[Safety] = []

    @made.method(safety="read_only")
    async def look(ctx: Context) -> None:
        seen.append(ctx.safety)

    made.start()
    try:
        ask(bus, "shop.look", safety="unsafe")
        assert seen == [Safety.READ_ONLY]
    finally:
        made.stop()


# -- running


def test_it_serves_from_start_to_stop_and_again(bus: Bus) -> None:
    made = server(bus)
    assert made.health() == {"service": "shop", "server": made.name, "consuming": False}
    for _ in range(2):
        made.start()
        health = made.health()
        assert health["consuming"]
        assert (health["running"], health["waiting"], health["slots"], health["unacked"]) == (0, 0, 64, 0)
        assert ask(bus, "shop.echo", [1]) == 1
        made.stop()
        assert not made.health()["consuming"]
        assert bus.connections == []
        assert threads() == []


def test_it_starts_once(bus: Bus) -> None:
    made = server(bus)
    made.start()
    try:
        with pytest.raises(UsageError, match="running already"):
            made.start()

        async def second() -> None:
            async with made:
                raise AssertionError

        with pytest.raises(UsageError, match="running already"):
            asyncio.run(second())
        assert ask(bus, "shop.echo", [1]) == 1, "the first one goes on"
    finally:
        made.stop()


def test_stopping_is_idempotent_and_may_come_from_several_threads(bus: Bus) -> None:
    made = server(bus)
    made.stop()
    made.start()
    stoppers = [threading.Thread(target=made.stop) for _ in range(4)]
    for thread in stoppers:
        thread.start()
    for thread in stoppers:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    made.stop()
    until(lambda: threads() == [])


def test_a_server_without_methods_does_not_start(bus: Bus) -> None:
    made = Server(f"memory://{bus.name}", service="shop")
    with pytest.raises(ConfigurationError, match="no methods"):
        made.start()
    assert threads() == []
    made.stop()


def test_what_keeps_it_from_serving_is_raised_by_start_and_leaves_nothing(bus: Bus) -> None:
    with bus.broker.turn:
        bus.broker.declare(QueueSpec(name="rpc.shop", service="shop", arguments={"x-max-length": 5}))
    made = server(bus)
    with pytest.raises(ConfigurationError, match="x-max-length"):
        made.start()
    assert bus.connections == []
    assert threads() == []
    bus.delete("rpc.shop")
    made.start()
    assert ask(bus, "shop.echo", [1]) == 1
    made.stop()


def test_what_keeps_it_from_serving_is_raised_where_it_is_entered_and_leaves_nothing(bus: Bus) -> None:
    with bus.broker.turn:
        bus.broker.declare(QueueSpec(name="rpc.shop", service="shop", arguments={"x-max-length": 5}))
    made = server(bus)

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="x-max-length"):
            async with made:
                raise AssertionError
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        bus.delete("rpc.shop")
        async with made:
            assert made.health()["consuming"]

    asyncio.run(main())


def test_a_broker_that_is_down_is_waited_for_and_named(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_rpc.server.STARTED_WITHIN", 0.2)
    bus.down()
    made = server(bus)
    with pytest.raises(TimeoutError, match="the bus is down"):
        made.start()
    assert threads() == []
    bus.up()
    made.start()
    assert ask(bus, "shop.echo", [1]) == 1
    made.stop()


def test_serve_runs_until_it_is_cancelled_and_drains(bus: Bus) -> None:
    async def main() -> None:
        made = server(bus)
        gate, begun = asyncio.Event(), asyncio.Event()

        @made.method
        async def wait() -> str:
            begun.set()
            await gate.wait()
            return "finished"

        serving = asyncio.create_task(made.serve())
        with Client(f"memory://{bus.name}") as client:
            await turns(lambda: made.health()["consuming"])
            future = client.submit("shop.wait")
            await begun.wait()
            serving.cancel()
            await turns(lambda: not made.health()["consuming"])
            gate.set()
            assert await asyncio.wrap_future(future) == "finished"
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(main())


def test_stopping_finishes_what_runs_and_tells_the_rest(bus: Bus) -> None:
    made = server(bus, concurrency=1)
    release, begun = threading.Event(), threading.Event()

    @made.method
    def block(number: int) -> int:
        begun.set()
        release.wait(PATIENCE)
        return number

    made.start()
    with Client(f"memory://{bus.name}", policies=[]) as client:
        first = client.submit("shop.block", [1])
        assert begun.wait(PATIENCE)
        second = client.submit("shop.block", [2])
        until(lambda: made.health()["waiting"] == 1)
        stopper = threading.Thread(target=made.stop)
        stopper.start()
        with pytest.raises(Draining):
            second.result(PATIENCE)
        release.set()
        assert first.result(PATIENCE) == 1
        stopper.join(PATIENCE)
        assert not stopper.is_alive()


def test_its_events_can_be_listened_to(bus: Bus) -> None:
    made = server(bus)
    states: list[str] = []
    stop = made.on(ConnectionStateChanged, lambda event: states.append(event.state))
    made.start()
    assert states == ["connected"]
    bus.drop_connections()
    until(lambda: states == ["connected", "lost", "connected"])
    stop()
    made.stop()


def test_several_servers_share_the_work(bus: Bus) -> None:
    servers = [server(bus, name=f"server-{n}", concurrency=1, prefetch=1) for n in range(3)]
    for made in servers:
        made.start()
    try:
        with Client(f"memory://{bus.name}", batching=None) as client:
            names = {client.submit("shop.echo", [n]).result(PATIENCE) for n in range(10)}
            assert names == set(range(10))
            seen = {client.request("shop.echo").server for _ in range(30)}
            assert seen == {"server-0", "server-1", "server-2"}
    finally:
        for made in servers:
            made.stop()


def test_its_limits_are_its_own(bus: Bus) -> None:
    made = server(bus, limits=Limits(max_body=300))
    made.start()
    try:
        with pytest.raises(Exception, match="over the limit of 300"):
            ask(bus, "shop.echo", ["x" * 300])
        assert ask(bus, "shop.echo", [1]) == 1
    finally:
        made.stop()


def test_a_handler_that_hangs_does_not_keep_the_server_from_stopping(bus: Bus) -> None:
    made = server(bus, grace=0.1)
    begun = threading.Event()

    @made.method
    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    made.start()
    with Client(f"memory://{bus.name}") as client:
        future = client.submit("shop.hang")
        assert begun.wait(PATIENCE)
        made.stop()
        with pytest.raises(RemoteError) as caught:
            future.result(PATIENCE)
        assert caught.value.code == -32010


RUN = """
import asyncio, json, os, signal, sys, threading
from resilient_rpc import Client, Server

server = Server("memory://run", service="shop", grace=20)
release = threading.Event()

@server.method
def block():
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    if sys.argv[2] == "twice":
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        release.wait(20)
    release.wait(0.2)
    return "finished"

def call():
    with Client("memory://run") as client:
        while not server.health()["consuming"]:
            release.wait(0.01)
        print(json.dumps(client.call("shop.block")), flush=True)

thread = threading.Thread(target=call, daemon=True)
thread.start()
server.run()
thread.join(10)
print("drained", flush=True)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("times", ["once", "twice"])
def test_a_signal_drains_and_a_second_one_ends_at_once(name: str, times: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(RUN), name, times],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    if times == "once":
        assert (done.returncode, done.stdout.split()) == (0, [json.dumps("finished"), "drained"]), done.stderr
    else:
        assert (done.returncode, done.stdout) == (130, ""), done.stderr


def test_run_ends_with_what_will_never_let_it_serve(bus: Bus) -> None:
    with bus.broker.turn:
        bus.broker.declare(QueueSpec(name="rpc.shop", service="shop", arguments={"x-max-length": 5}))
    before = signal.signal(signal.SIGTERM, mine := lambda *_: None)
    try:
        with pytest.raises(ConfigurationError, match="x-max-length"):
            server(bus).run()
        assert signal.getsignal(signal.SIGTERM) is mine, "the user's own handlers are put back"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert bus.connections == []
