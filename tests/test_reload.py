"""`reload` and `describe` of both clients, over the bus in memory."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_rpc import AsyncClient, Call, Client, ConfigurationError, Handler, Reply, RpcError, Server
from resilient_rpc.errors import PolicyFailed, UsageError
from resilient_rpc.events import AttemptEnded, CallEnded, ChainReloaded, PolicyFaulted, ReloadFailed
from resilient_rpc.policies import AttemptTimeout, Deadline, for_
from tests.colours import Colour


class Count:
    """Counts calls, and stamps them; keeps its count over a reload."""

    def __init__(self, stamp: str, *, broken: bool = False) -> None:
        self.stamp, self.broken, self.state = stamp, broken, [0]

    def adopt(self, old: Count) -> None:
        if self.broken:
            raise RuntimeError("no")
        self.state = old.state

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        self.state[0] += 1
        reply = await proceed(call)
        return Reply(result=f"{self.stamp}{reply.result}")

    def __repr__(self) -> str:
        return f"Count({self.stamp!r})"


@pytest.fixture
def shop(service: str) -> Iterator[Server]:
    """A server of its own bus."""
    server = Server(f"memory://{service}", service="shop")

    @server.method
    def echo(value: str = "x") -> str:
        return value

    @server.method
    def fail() -> str:
        raise ValueError("no")

    server.start()
    yield server
    server.stop()


@pytest.fixture
def url(shop: Server, service: str) -> str:
    return f"memory://{service}"


def test_calls_go_through_the_new_chain_and_state_is_kept(colour: Colour, url: str) -> None:
    first, second = Count("a"), Count("b")
    client = colour.client(url, policies=[first])
    heard: list[ChainReloaded] = []
    client.on(ChainReloaded, heard.append)
    assert colour.call(client, "shop.echo") == "ax"
    client.reload([Deadline(limit=9), second])
    assert colour.call(client, "shop.echo") == "bx"
    assert second.state == [2]
    assert client.describe() == ["Deadline(limit=9)", "Count('b')"]
    assert heard == [ChainReloaded(before=("Count('a')",), after=("Deadline(limit=9)", "Count('b')"))]


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ([AttemptTimeout(), Deadline(limit=5)], "Deadline must stand before"),
        ([Deadline], "Deadline is a class"),
        (Deadline(limit=1), r"policies=Deadline\(limit=1\): give a list of policies"),
        ([for_("shop", without=("retry",))], "no policy of the chain has the role"),
        ([Count("b", broken=True)], r"Count could not adopt .* RuntimeError\('no'\)"),
    ],
)
def test_a_wrong_chain_is_refused_and_the_old_one_kept(colour: Colour, url: str, policies: Any, message: str) -> None:
    client = colour.client(url, policies=[Count("a")])
    heard: list[ReloadFailed] = []
    client.on(ReloadFailed, heard.append)
    with pytest.raises(ConfigurationError, match=message) as caught:
        client.reload(policies)
    assert heard == [ReloadFailed(error=caught.value, kept=("Count('a')",))]
    assert client.describe() == ["Count('a')"]
    assert colour.call(client, "shop.echo") == "ax"


def test_it_works_before_the_first_call(colour: Colour, url: str) -> None:
    client = colour.client(url, policies=[Count("a")])
    client.reload([Count("b")])
    assert colour.call(client, "shop.echo") == "bx"


def test_none_is_the_default_chain(colour: Colour, url: str) -> None:
    client, default = colour.client(url, policies=[Count("a")]), colour.client(url)
    client.reload()
    assert client.describe() == default.describe()
    assert colour.call(client, "shop.echo") == "x"


def test_overrides_are_described_and_work(colour: Colour, url: str) -> None:
    client = colour.client(url, policies=[for_("shop.echo", Count("o")), for_("other", Count("p"))])
    assert client.describe() == ["for_('shop.echo', Count('o'))", "for_('other', Count('p'))"]
    assert client.describe("shop.echo") == ["Count('o')"]
    assert client.describe("shop.fail") == []
    assert colour.call(client, "shop.echo") == "ox"


def test_a_call_under_way_ends_on_the_chain_that_it_began_with(url: str) -> None:
    inside, gate = threading.Event(), threading.Event()

    class Held(Count):
        async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
            inside.set()
            assert gate.wait(10)
            return await super().__call__(call, proceed)

    results: list[str] = []
    with Client(url, policies=[Held("old")]) as client:
        thread = threading.Thread(target=lambda: results.append(client.call("shop.echo")))
        thread.start()
        assert inside.wait(10)
        client.reload([Count("new")])
        assert client.call("shop.echo") == "newx"
        gate.set()
        thread.join(10)
    assert results == ["oldx"]


def test_an_async_client_is_reloaded_from_another_thread(url: str) -> None:
    async def main() -> None:
        async with AsyncClient(url, policies=[Count("a")]) as client:
            assert await client.call("shop.echo") == "ax"
            await asyncio.to_thread(client.reload, [Count("b")])
            assert await client.call("shop.echo") == "bx"

    asyncio.run(main())


def test_a_closed_client_is_not_reloaded(url: str) -> None:
    client = Client(url)
    client.close()
    with pytest.raises(UsageError, match="closed"):
        client.reload([])


@pytest.mark.parametrize("use", ["call", "request"])
def test_a_policy_that_raises_is_named_in_the_error_the_events_and_the_statistics(
    colour: Colour, url: str, use: str
) -> None:
    class Wrong(Count):
        async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
            raise KeyError("oh")

    heard: list[Any] = []
    client = colour.client(url, policies=[Wrong("w")])
    client.on(PolicyFaulted, heard.append)
    client.on(CallEnded, heard.append)
    with pytest.raises(PolicyFailed, match=r"shop\.echo: the policy Wrong raised KeyError\('oh'\)") as caught:
        colour.do(client, use, "shop.echo")
    fault, ended = heard
    assert fault.error is ended.error is caught.value
    assert client.stats().errors == {"PolicyFailed": 1}


@pytest.mark.parametrize("use", ["call", "request"])
def test_a_policy_of_ours_that_raises_is_named_too(colour: Colour, url: str, use: str) -> None:
    bad = Deadline(limit=1)
    object.__setattr__(bad, "limit", "soon")
    client = colour.client(url, policies=[Deadline(limit=9), bad])
    with pytest.raises(PolicyFailed, match="the policy Deadline raised TypeError"):
        colour.do(client, use, "shop.echo")
    assert client.stats().errors == {"PolicyFailed": 1}


@pytest.mark.parametrize("policies", [[], [Count("a")]])
def test_an_error_that_the_core_raises_itself_is_no_policy_s(colour: Colour, url: str, policies: list[Any]) -> None:
    client = colour.client(url, policies=policies)
    client.on(PolicyFaulted, pytest.fail)
    with pytest.raises(RpcError) as caught:
        colour.call(client, "shop.echo", {"value": object()})
    assert not isinstance(caught.value, PolicyFailed)


class TwoTries:
    """Sends each call twice."""

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        with contextlib.suppress(RpcError):
            await proceed(call)
        return await proceed(call.replace(attempt=2))


def test_every_attempt_is_announced_with_how_it_ended(colour: Colour, url: str) -> None:
    heard: list[AttemptEnded] = []
    client = colour.client(url, policies=[TwoTries()])
    ended = client.on(AttemptEnded, heard.append)
    assert colour.call(client, "shop.echo") == "x"
    with pytest.raises(RpcError, match="no") as caught:
        colour.call(client, "shop.fail")
    assert [(one.method, one.target, one.attempt, one.error is None) for one in heard] == [
        ("shop.echo", "shop", 1, True),
        ("shop.echo", "shop", 2, True),
        ("shop.fail", "shop", 1, False),
        ("shop.fail", "shop", 2, False),
    ]
    assert heard[-1].error is caught.value
    assert all(0 <= one.seconds < 10 for one in heard)
    ended()
    colour.call(client, "shop.echo")
    assert len(heard) == 4
