"""One connection to Redis, against servers that say what a test has them say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError, TryAgainError

from resilient_rpc.stores.stream import Endpoint, Garbled, Lost, Stream, Unwelcome, pack

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def with_server(talk: Talk, work: Callable[[Endpoint], Awaitable[None]]) -> None:
    """Run `work` against a server that treats each connection as `talk` says."""

    async def main() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            await work(Endpoint(host=host, port=port))

    asyncio.run(asyncio.wait_for(main(), 10))


def saying(*answers: bytes) -> Talk:
    """Answers each piece that comes with the next text, then closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(1000)
            writer.write(answer)
        await reader.read(1000)
        writer.close()

    return talk


def test_answers_come_in_the_order_of_the_commands_in_whatever_pieces() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(pack("A", b"1", 2)) + len(pack("B")))
        for byte in b"*2\r\n$1\r\na\r\n:7\r\n$-1\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
        await reader.read()
        writer.close()

    async def work(endpoint: Endpoint) -> None:
        stream = Stream(endpoint)
        assert not stream.usable
        await stream.connect()
        assert stream.usable
        assert await stream.exchange([pack("A", b"1", 2), pack("B")], 2) == [[b"a", 7], None]
        await stream.aclose()
        assert not stream.usable
        with pytest.raises(Lost, match="closed"):
            await stream.exchange([pack("A")], 1)

    with_server(talk, work)


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        (b"-ERR no\r\n", ResponseError, "ERR no"),
        (b"-NOSCRIPT none\r\n", NoScriptError, "NOSCRIPT none"),
        (b"-TRYAGAIN soon\r\n", TryAgainError, "TRYAGAIN soon"),
        (b"-MOVED 7 h:1\r\n", MovedError, "7 h:1"),
        (b"-ASK 7 h:1\r\n", AskError, "7 h:1"),
        (b"-MOVED nowhere\r\n", ResponseError, "MOVED nowhere"),
        (b"-ERR " + b"x" * 9000 + b"\r\n", ResponseError, "ERR " + "x" * 508),
    ],
)
def test_an_error_of_redis_is_an_answer(said: bytes, kind: type, text: str) -> None:
    async def work(endpoint: Endpoint) -> None:
        stream = Stream(endpoint)
        await stream.connect()
        (answer,) = await stream.exchange([pack("A")], 1)
        assert type(answer) is kind
        assert str(answer) == text
        assert await stream.exchange([pack("A")], 1) == [b"OK"]
        await stream.aclose()

    with_server(saying(said, b"+OK\r\n"), work)


def test_what_is_no_resp_ends_the_connection() -> None:
    async def work(endpoint: Endpoint) -> None:
        stream = Stream(endpoint)
        await stream.connect()
        with pytest.raises(Garbled):
            await stream.exchange([pack("A")], 1)
        assert not stream.usable

    with_server(saying(b"?what\r\n"), work)


def test_a_connection_that_redis_is_about_to_close_is_not_used_again() -> None:
    async def work(endpoint: Endpoint) -> None:
        stream = Stream(endpoint)
        await stream.connect()
        (answer,) = await stream.exchange([pack("A")], 1)
        assert "Protocol error" in str(answer)
        assert not stream.usable

    with_server(saying(b"-ERR Protocol error: unauthenticated multibulk length\r\n"), work)


def test_what_nobody_has_asked_for_ends_the_connection() -> None:
    hung_up: asyncio.Queue[bytes] = asyncio.Queue()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+PONG\r\n")
        await hung_up.put(await reader.read())
        writer.close()

    async def work(endpoint: Endpoint) -> None:
        stream = Stream(endpoint)
        await stream.connect()
        assert await hung_up.get() == b""
        assert not stream.usable

    with_server(talk, work)


def test_whoever_waits_is_told_that_the_connection_ended() -> None:
    async def work(endpoint: Endpoint) -> None:
        stream = Stream(endpoint)
        await stream.connect()
        assert await stream.exchange([pack("A")], 1) == [1]
        with pytest.raises(Lost, match="ended"):
            await stream.exchange([pack("A")], 1)
        assert not stream.usable

    with_server(saying(b":1\r\n"), work)


def test_who_is_cancelled_in_an_exchange_leaves_the_connection_closed() -> None:
    async def work(endpoint: Endpoint) -> None:
        stream = Stream(endpoint)
        await stream.connect()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.exchange([pack("A")], 2), 0.01)
        assert not stream.usable

    with_server(saying(b":1\r\n"), work)


def test_a_greeting_that_is_refused_ends_the_connection() -> None:
    async def work(endpoint: Endpoint) -> None:
        stream = Stream(Endpoint(host=endpoint.host, port=endpoint.port, greeting=(("AUTH", "p"), ("SELECT", "1"))))
        with pytest.raises(Unwelcome, match="WRONGPASS"):
            await stream.connect()
        assert not stream.usable

    with_server(saying(b"-WRONGPASS no\r\n+OK\r\n"), work)


def test_a_socket_in_the_file_system_is_connected_to(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        async with await asyncio.start_unix_server(saying(b"+OK\r\n"), path):
            stream = Stream(Endpoint(host=path, port=0))
            await stream.connect()
            assert await stream.exchange([pack("A")], 1) == [b"OK"]
            await stream.aclose()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_nobody_listening_is_an_error_of_the_system() -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="onnect"):
            await Stream(Endpoint(host="127.0.0.1", port=1)).connect()

    asyncio.run(main())
