"""What the tests of the commands share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from resilient_rpc import Server
from resilient_rpc.cli import app
from resilient_rpc.errors import ApplicationError, Draining, Interrupted

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("RESILIENT_RPC_URL", raising=False)
    return lambda *args, **options: CliRunner().invoke(app, args, **options)


@pytest.fixture
def url(service: str) -> Iterator[str]:
    """A bus with a running service named `shop`."""
    url = f"memory://{service}"
    server = Server(url, service="shop")

    @server.method
    def add(a: int, b: int = 0) -> dict[str, int]:
        return {"sum": a + b}

    @server.method
    def greet(name: str) -> str:
        return f"Grüß Gott, {name}"

    @server.method
    def nothing() -> None: ...

    @server.method
    def decline() -> None:
        raise ApplicationError("the card\nwas declined")

    @server.method
    def drain() -> None:
        raise Draining("stopping")

    @server.method
    def interrupt() -> None:
        raise Interrupted("began and lost")

    @server.method
    async def sleep() -> None:
        await asyncio.sleep(30)

    server.start()
    yield url
    server.stop()
