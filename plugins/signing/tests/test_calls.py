"""Signed calls from end to end, in memory and over RabbitMQ."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from resilient_rpc import Certainty, Client, Context, FilterRefused, Refused, Server
from resilient_rpc.registry import filters
from resilient_rpc_signing import Signing
from tests.waiting import until

A, B, OTHER = (secrets.token_bytes(32) for _ in range(3))


@pytest.fixture(params=["memory", pytest.param("amqp", marks=pytest.mark.broker)])
def url(request: pytest.FixtureRequest, service: str) -> str:
    found: str = f"memory://{service}" if request.param == "memory" else request.getfixturevalue("amqp_url")
    return found


@pytest.fixture
def served(url: str, service: str) -> Iterator[list[int]]:
    ran: list[int] = []
    server = Server(url, service=service, filters=[Signing({"a": A, "b": B}, signs="a")])

    @server.method
    async def who(ctx: Context, number: int) -> list[object]:
        ran.append(number)
        return [number, ctx.principal]

    server.start()
    yield ran
    server.stop()


def test_each_tenant_is_known_by_its_key_and_reads_replies_with_it(url: str, service: str, served: list[int]) -> None:
    with Client(url, filters=[Signing({"a": A})]) as a, Client(url, filters=[Signing({"b": B})]) as b:
        for number in range(3):
            assert a.call(f"{service}.who", [number]) == [number, "a"]
            assert b.call(f"{service}.who", [number]) == [number, "b"]
        results = b.map(f"{service}.who", [[number] for number in range(100)])
        assert results == [[number, "b"] for number in range(100)]


def test_an_unsigned_call_is_not_executed(url: str, service: str, served: list[int]) -> None:
    with Client(url) as client, pytest.raises(Refused, match="Signing: the request is not signed") as refused:
        client.call(f"{service}.who", [1])
    assert refused.value.certainty is Certainty.NOT_EXECUTED
    assert served == []


def test_a_call_with_a_key_of_the_same_name_is_not_executed_and_its_refusal_not_believed(
    url: str, service: str, served: list[int]
) -> None:
    with Client(url, filters=[Signing({"a": OTHER})]) as client, pytest.raises(FilterRefused) as refused:
        client.call(f"{service}.who", [1])
    assert refused.value.certainty is Certainty.UNKNOWN  # it cannot know who has answered
    assert served == []


def test_a_reply_that_is_not_signed_is_not_believed(url: str, service: str) -> None:
    server = Server(url, service=service)

    @server.method
    async def who(number: int) -> int:
        return number

    server.start()
    try:
        with (
            Client(url, filters=[Signing({"a": A})]) as client,
            pytest.raises(FilterRefused, match="the reply is not signed"),
        ):
            client.call(f"{service}.who", [1])
    finally:
        server.stop()


def test_it_is_found_by_its_name() -> None:
    assert filters.load("signing") is Signing


@pytest.mark.parametrize("key", ["a", "b"])
def test_who_signed_a_call_cancels_it_before_and_after_a_beat(url: str, service: str, key: str) -> None:
    begun, cancelled = list[str](), list[str]()
    server = Server(url, service=service, filters=[Signing({"a": A, "b": B}, signs="a")])

    @server.method
    async def wait(name: str) -> None:
        begun.append(name)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    server.start()
    with Client(url, liveness=1.0, filters=[Signing({key: {"a": A, "b": B}[key]})]) as client:
        early = client.submit(f"{service}.wait", ["early"], timeout=60)
        until(lambda: begun == ["early"])
        early.cancel()
        until(lambda: cancelled == ["early"])
        late = client.submit(f"{service}.wait", ["late"], timeout=60)
        assert client._caller is not None
        assert client._caller.pool is not None
        liveness = client._caller.pool.links[0]._control._liveness
        until(lambda: len(liveness))
        late.cancel()
        until(lambda: cancelled == ["early", "late"])
    server.stop()
