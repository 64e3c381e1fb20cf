"""`ping` and `health`: 0 or 1, for containers and monitors; in this process and, on a broker, for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_rpc import Client, Server
from tests.cli.conftest import Run
from tests.faults.tools import eventually
from tests.waiting import PATIENCE


@pytest.fixture
def fleet(service: str) -> Iterator[str]:
    """A bus with two servers of `shop`; the first one is busy with all that it can do."""
    url = f"memory://{service}"
    gate, entered = threading.Event(), threading.Semaphore(0)
    servers = [Server(url, service="shop", name=name, concurrency=1) for name in ("one", "two")]
    for server in servers:

        @server.method
        def hold() -> None:
            entered.release()
            gate.wait(PATIENCE)

        server.start()
    with Client(url) as client:
        held = [client.submit("shop.hold") for _ in range(2)]
        for _ in held:
            assert entered.acquire(timeout=PATIENCE)
        yield url
        gate.set()
        for future in held:
            future.result(PATIENCE)
    for server in servers:
        server.stop()


def test_ping_says_who_answered(run: Run, fleet: str) -> None:
    result = run("ping", "shop", "--url", fleet)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.partition(" answered in ")[0] in {"one", "two"}
    result = run("ping", "shop", "--json", "--url", fleet)
    found = json.loads(result.stdout)
    assert found.keys() == {"service", "server", "version", "seconds"}
    assert 0 < found["seconds"] < PATIENCE


def test_health_tells_of_all_servers(run: Run, fleet: str) -> None:
    result = run("health", "shop", "--expect", "2", "--url", fleet)
    assert (result.exit_code, result.stderr) == (0, "")
    one, two = result.stdout.splitlines()
    assert one.startswith("one: healthy, 1 of 1 slots taken, 0 waiting here, ")
    assert two.startswith("two: healthy")
    found = json.loads(run("health", "shop", "--expect", "2", "--json", "--url", fleet).stdout)
    assert [(each["server"], each["consuming"], each["pid"]) for each in found] == [
        ("one", True, os.getpid()), ("two", True, os.getpid()),
    ]  # fmt: skip


def test_health_of_one_server_and_of_one_host(run: Run, fleet: str) -> None:
    result = run("health", "shop", "--server", "two", "--timeout", "0.5", "--url", fleet)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    result = run("health", "shop", "--server", "three", "--timeout", "0.5", "--url", fleet)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: shop: 0 healthy of 0 that answered, 1 expected\n"
    result = run("health", "shop", "--here", "--timeout", "0.5", "--url", fleet)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 2)
    result = run("health", "shop", "--expect", "3", "--timeout", "0.5", "--url", fleet)
    assert (result.exit_code, result.stdout.count("\n")) == (1, 2)


def test_servers_on_other_hosts_are_not_here(run: Run, fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_rpc.cli.probes.socket", SimpleNamespace(gethostname=lambda: "elsewhere"))
    assert run("health", "shop", "--here", "--timeout", "0.5", "--url", fleet).exit_code == 1


def test_health_shows_how_many_events_wait(run: Run, service: str) -> None:
    url = f"memory://{service}"
    server, gate, entered = Server(url, service="shop", concurrency=1, prefetch=1), threading.Event(), threading.Event()

    @server.on("orders.created")
    def created() -> None:
        entered.set()
        gate.wait(PATIENCE)

    server.start()
    try:
        with Client(url) as client:
            for _ in range(4):
                assert client.publish("orders.created")
            assert entered.wait(PATIENCE)
        eventually(lambda: server.health()["event_backlog"] == 3, "three that nobody has yet")
        assert run("health", "shop", "--url", url).stdout.endswith(" 0 in the queue, 3 events\n")
    finally:
        gate.set()
        server.stop()


@pytest.mark.parametrize("command", ["ping", "health"])
@pytest.mark.parametrize(
    ("service", "more", "code"),
    [("nobody", [], 1), ("a b", [], 2), ("shop", ["--timeout", "0"], 2), ("shop", ["--url", "http://x"], 2)],
)
def test_what_goes_wrong_is_one_line_and_a_number(
    run: Run, fleet: str, command: str, service: str, more: list[str], code: int
) -> None:
    result = run(command, service, "--url", fleet, *more)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_at_least_one_server_is_expected(run: Run, fleet: str) -> None:
    assert run("health", "shop", "--expect", "0", "--url", fleet).exit_code == 2


def test_a_foreign_server_is_no_healthy_one(run: Run, service: str) -> None:
    url = f"memory://{service}"
    server = Server(url, service="shop")
    server.method(name="x")(lambda: None)
    server.start()
    try:
        answers: Any = server._serving._introspection._methods_of_all  # type: ignore[union-attr]
        for name in answers:
            answers[name] = lambda _: {"pong": True}
        assert run("ping", "shop", "--url", url).exit_code == 1
        assert run("health", "shop", "--timeout", "0.5", "--url", url).exit_code == 1
        answers.clear()
        assert run("ping", "shop", "--url", url).exit_code == 1
        assert run("health", "shop", "--timeout", "0.5", "--url", url).exit_code == 1
    finally:
        server.stop()


SERVER = """
import os
from resilient_rpc import Server

server = Server(os.environ["RESILIENT_RPC_URL"], service=os.environ["SERVICE"])

@server.method(safety="read_only")
def price(sku: str) -> float:
    return 9.5
"""


@pytest.mark.broker
@pytest.mark.slow
def test_the_commands_on_a_broker(amqp_url: str, service: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SERVER)
    environment = {**os.environ, "RESILIENT_RPC_URL": amqp_url, "SERVICE": service}
    command = [sys.executable, "-m", "resilient_rpc.cli"]
    settings: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True, "stdout": subprocess.PIPE}

    def ask(*args: str) -> tuple[int, str]:
        done = subprocess.run([*command, *args], stderr=subprocess.PIPE, check=False, **settings)
        return done.returncode, done.stdout

    assert ask("ping", service)[0] == ask("health", service)[0] == 1
    with subprocess.Popen([*command, "serve", "shop:server"], stderr=subprocess.DEVNULL, **settings) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == f"ready: {service}\n"
        assert ask("ping", service)[0] == 0
        code, shown = ask("health", service, "--here", "--json", "--timeout", "2")
        assert (code, [each["pid"] for each in json.loads(shown)]) == (0, [server.pid])
        assert "price(sku: str) -> float  [read_only]" in ask("discover", service)[1]
        assert "def price(self, sku: str) -> float: ..." in ask("stub", service)[1]
        server.terminate()
        assert server.wait(PATIENCE) == 0
    assert ask("ping", service)[0] == ask("health", service)[0] == 1
