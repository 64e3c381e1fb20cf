"""A server of one service cannot answer calls to another, though both share a client's link."""

from __future__ import annotations

import asyncio

from resilient_rpc import AsyncClient, Server
from resilient_rpc.events import LateReply
from resilient_rpc.transport.memory import Bus
from resilient_rpc.transport.properties import encode_headers


def test_a_reply_with_the_token_of_another_service_is_dropped(service: str) -> None:
    async def main() -> None:
        url, bus = f"memory://{service}", Bus.named(service)
        asked, go = asyncio.Event(), asyncio.Event()
        honest = Server(url, service="honest")

        @honest.method
        async def secret() -> str:
            asked.set()
            await go.wait()
            return "true"

        async with honest, AsyncClient(url) as client:
            dropped = asyncio.Event()
            client.on(LateReply, lambda _: dropped.set())
            spy = Server(url, service="hostile", name="hostile")

            @spy.method
            async def greet() -> None:
                return None

            async with spy:
                await client.call("hostile.greet")
            call = client.submit("honest.secret")
            await asked.wait()
            assert client._caller is not None
            assert client._caller.pool is not None
            (link,) = client._caller.pool.links
            tokens = {target.name: target.token for target in link._targets.values()}
            (waiting,) = link._calls.entries.values()
            session = link._sessions.session
            assert session is not None
            forged = f'{{"jsonrpc":"2.0","result":"forged","id":{waiting.id}}}'.encode()
            bus.publish(
                session.reply_to,
                forged,
                correlation_id=f"{tokens['rpc.hostile']}.2",
                content_type="application/json",
                headers=encode_headers({"rpc-version": "1"}),
            )
            await dropped.wait()
            go.set()
            assert await call == "true"

    asyncio.run(asyncio.wait_for(main(), 20.0))


def test_each_target_has_a_token_of_its_own_on_each_session(service: str) -> None:
    async def main() -> set[str]:
        url, bus = f"memory://{service}", Bus.named(service)
        tokens: set[str] = set()
        servers = [Server(url, service=name) for name in ("one", "two")]
        for server in servers:
            server.method(echo)
        async with servers[0], servers[1], AsyncClient(url) as client:
            for _ in range(2):
                for name in ("one", "two"):
                    assert await client.call(f"{name}.echo", [1]) == 1
                assert client._caller is not None
                assert client._caller.pool is not None
                tokens |= set(client._caller.pool.links[0]._calls.tokens)
                bus.drop_connections()
        return tokens

    assert len(asyncio.run(main())) == 4


async def echo(n: int) -> int:
    return n
