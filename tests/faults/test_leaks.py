"""After everything that can happen to calls, a process holds what it held before."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from resilient_rpc import AsyncClient, Client, RpcError, Server
from tests.faults.tools import eventually, holdings


def _server(url: str, service: str) -> Server:
    server = Server(url, service=service)

    @server.method
    async def echo(n: int) -> int:
        return n

    @server.method
    async def nap(seconds: float) -> None:
        await asyncio.sleep(seconds)

    return server


def _round(url: str, service: str) -> None:
    """Calls that succeed, fail, time out, are cancelled and left behind by a closed client, in both colours."""
    server = _server(url, service)
    server.start()
    with Client(url) as client:
        assert client.map(f"{service}.echo", [[n] for n in range(50)]) == list(range(50))
        with contextlib.suppress(RpcError):
            client.call(f"{service}.nap", [0.6], timeout=0.05)
        with contextlib.suppress(RpcError):
            client.call(f"{service}.nobody")
        client.submit(f"{service}.nap", [0.6]).cancel()
        left = client.submit(f"{service}.nap", [0.6])
    with contextlib.suppress(RpcError):
        left.result(5.0)
    asyncio.run(_async_round(url, service))
    server.stop()


async def _async_round(url: str, service: str) -> None:
    async with AsyncClient(url) as client:
        await asyncio.gather(*[client.call(f"{service}.echo", [n]) for n in range(50)])
        task = client.submit(f"{service}.nap", [0.6])
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(RpcError):
            await client.call(f"{service}.nap", [0.6], timeout=0.05)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["memory", "amqp"])
def test_objects_threads_and_sockets_return_to_what_they_were(
    kind: str, request: pytest.FixtureRequest, service: str
) -> None:
    url = "memory://leaks" if kind == "memory" else request.getfixturevalue("amqp_url")
    for _ in range(2):  # what is made once for the process: the I/O loop, the callback thread, caches
        _round(url, service)
    before = holdings()
    for _ in range(3):
        _round(url, service)
    after: dict[str, int] = {}

    def settled() -> bool:
        after.update(holdings())
        return all(after[name] <= before[name] + (20 if name == "objects" else 0) for name in before)

    eventually(settled, f"{before} again", 10.0) if not settled() else None
    assert settled(), (before, after)
