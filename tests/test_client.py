from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from resilient_rpc import (
    ApplicationError,
    AsyncClient,
    Batching,
    Call,
    Certainty,
    Client,
    ConfigurationError,
    ConnectionLost,
    Context,
    DeadlineExceeded,
    Handler,
    InvalidParams,
    Limits,
    MethodNotFound,
    NotConnected,
    RemoteError,
    Reply,
    Safety,
    Server,
    Unroutable,
    current_context,
)
from resilient_rpc.errors import MalformedMessage, TooLarge, UnsupportedContent, UsageError
from resilient_rpc.events import CallEnded, ConnectionStateChanged
from resilient_rpc.runtime import io_loop
from resilient_rpc.transport.memory import Bus
from tests.colours import Colour
from tests.waiting import PATIENCE, turns, until

_numbers = itertools.count(1)


class OutOfStock(ApplicationError):
    type = "out_of_stock"


class Price(msgspec.Struct):
    amount: float
    currency: str = "EUR"


class Shop:
    """A server of its own bus, in a thread, and the bus."""

    def __init__(self) -> None:
        self.name = f"client-{next(_numbers)}"
        self.url = f"memory://{self.name}"
        self.bus = Bus.named(self.name)
        self.release = threading.Event()
        self.seen: list[Any] = []
        self.server = Server(self.url, service="shop", name="server-1", grace=1.0)
        for method in (self.echo, self.price, self.add, self.slow, self.look, self.fail, self.sold_out, self.block):
            self.server.method(method)
        self.server.start()

    async def echo(self, value: Any = None) -> Any:
        return value

    async def price(self, sku: str, qty: int = 1) -> dict[str, Any]:
        return {"amount": 1.5 * qty, "currency": sku}

    def add(self, a: int, b: int) -> int:
        return a + b

    async def slow(self, seconds: float = 60.0) -> str:
        await asyncio.sleep(seconds)
        return "late"

    def block(self) -> None:
        self.release.wait(PATIENCE)

    async def look(self, ctx: Context) -> dict[str, Any]:
        self.seen.append(ctx)
        return {"tags": dict(ctx.tags), "safety": ctx.safety, "attempt": ctx.attempt, "left": ctx.remaining()}

    async def fail(self, text: str = "failed") -> None:
        raise ValueError(text)

    async def sold_out(self) -> None:
        raise OutOfStock("none left", details={"sku": "A1"}, retry_after=2.0)

    def stop(self) -> None:
        self.release.set()
        self.bus.up()
        self.bus.thaw()
        self.bus.unblock()
        self.server.stop()


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.stop()


def pending(client: Any) -> int:
    """What the client's links still know of calls."""
    caller = client._caller
    if caller is None or caller.pool is None:
        return 0
    return sum(
        len(link._calls.entries)
        + len(link._deadlines)
        + sum(not entry.done() for entry in link._queue)
        + len(link._coalescer.inbox)
        for link in caller.pool.links
    )


class TestCalling:
    @pytest.mark.parametrize(
        ("method", "params", "result"),
        [
            ("shop.price", {"sku": "A1"}, {"amount": 1.5, "currency": "A1"}),
            ("shop.price", ["A1", 2], {"amount": 3.0, "currency": "A1"}),
            ("shop.price", ("A1",), {"amount": 1.5, "currency": "A1"}),
            ("shop.price", MappingProxyType({"sku": "A1"}), {"amount": 1.5, "currency": "A1"}),
            ("shop.add", range(1, 3), 3),
            ("shop.echo", None, None),
            ("shop.echo", {}, None),
            ("shop.echo", [], None),
            ("shop.echo", [[]], []),
            ("shop.echo", {"value": "é\u2028\x00"}, "é\u2028\x00"),
        ],
    )
    @pytest.mark.parametrize("codec", ["json", "msgpack"])
    def test_a_call_has_its_result(
        self, colour: Colour, shop: Shop, codec: str, method: str, params: Any, result: Any
    ) -> None:
        client = colour.client(shop.url, codec=codec)
        for _ in range(2):  # to a server that is not known yet, and to one that is
            assert colour.call(client, method, params) == result

    def test_a_request_says_who_answered(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        reply = colour.do(client, "request", "shop.echo", [1])
        assert (reply.result, reply.replayed, reply.degraded, reply.server, reply.attempts) == (
            1,
            False,
            False,
            "server-1",
            1,
        )

    def test_the_result_is_decoded_into_the_declared_type(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        assert colour.call(client, "shop.price", ["X"], returns=Price) == Price(1.5, "X")
        with pytest.raises(MalformedMessage, match="not what was declared") as caught:
            colour.call(client, "shop.price", ["X"], returns=list[int])
        assert caught.value.certainty is Certainty.EXECUTED
        with pytest.raises(ConfigurationError):
            colour.call(client, "shop.echo", [1], returns=dict[str, int] | dict[int, int])
        assert pending(client) == 0

    @pytest.mark.parametrize(
        "method", ["shop", "", ".", "shop.", ".x", "shop._x", "shop.__class__", "sh op.x", "shop.x" * 40, "é.x"]
    )
    def test_a_name_that_is_none_is_refused_before_anything_is_sent(
        self, colour: Colour, shop: Shop, method: str
    ) -> None:
        with pytest.raises(ConfigurationError):
            colour.call(colour.client(shop.url), method)

    @pytest.mark.parametrize("params", ["text", b"x", 5, {1, 2}, object(), iter([1])])
    def test_params_are_a_mapping_or_a_sequence(self, colour: Colour, shop: Shop, params: Any) -> None:
        with pytest.raises(ConfigurationError, match="by name"):
            colour.call(colour.client(shop.url), "shop.echo", params)

    @pytest.mark.parametrize(
        ("how", "error"),
        [
            ({"timeout": 0}, ConfigurationError), ({"timeout": -1}, ConfigurationError),
            ({"timeout": "1"}, ConfigurationError),
            ({"timeout": True}, ConfigurationError), ({"timeout": float("nan")}, ConfigurationError),
            ({"timeout": float("inf")}, ConfigurationError), ({"safety": "perhaps"}, ConfigurationError),
            ({"idempotency_key": ""}, ConfigurationError), ({"idempotency_key": "x" * 256}, ConfigurationError),
            ({"idempotency_key": 5}, ConfigurationError), ({"tags": {"a": 1}}, ConfigurationError),
            ({"tags": {1: "a"}}, ConfigurationError), ({"tags": ["a"]}, ConfigurationError),
            ({"tags": "a"}, ConfigurationError),
            ({"urgency": 1}, TypeError), ({"key": "k"}, TypeError),
            ({"priority": 10}, ConfigurationError),
            ({"priority": -1}, ConfigurationError),
            ({"priority": True}, ConfigurationError),
            ({"priority": "5"}, ConfigurationError),
            ({"priority": None}, ConfigurationError),
        ],
    )  # fmt: skip
    def test_a_keyword_that_is_wrong_is_refused_before_anything_is_sent(
        self, colour: Colour, shop: Shop, how: dict[str, Any], error: type[Exception]
    ) -> None:
        client = colour.client(shop.url)
        with pytest.raises(error):
            colour.call(client, "shop.look", **how)
        assert shop.seen == []

    def test_tags_attempt_and_safety_reach_the_handler(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        for _ in range(2):
            found = colour.call(client, "shop.look", tags={"a": "b"}, safety="read_only", timeout=5)
            assert found["tags"] == {"a": "b"}
            assert (found["safety"], found["attempt"]) == ("read_only", 1)
            assert 4 < found["left"] <= 5.01
        assert colour.call(client, "shop.look")["safety"] == "unsafe"

    @pytest.mark.parametrize(
        ("safety", "expected"),
        [("idempotent", "idempotent"), ({"shop.look": "read_only"}, "read_only"), ({"x.y": "dedup"}, "unsafe")],
    )
    def test_the_clients_word_on_safety_counts_where_the_call_says_nothing(
        self, colour: Colour, shop: Shop, safety: Any, expected: str
    ) -> None:
        client = colour.client(shop.url, safety=safety)
        colour.call(client, "shop.echo")
        assert colour.call(client, "shop.look")["safety"] == expected
        assert colour.call(client, "shop.look", safety=Safety.UNSAFE)["safety"] == "unsafe"

    @pytest.mark.parametrize("how", [{"idempotency_key": "k"}, {"safety": "dedup"}])
    def test_a_keyed_call_to_a_server_without_records_is_refused_and_not_executed(
        self, colour: Colour, shop: Shop, how: dict[str, Any]
    ) -> None:
        client = colour.client(shop.url)
        for _ in range(2):
            with pytest.raises(RemoteError) as caught:
                colour.call(client, "shop.look", **how)
            assert (caught.value.code, caught.value.certainty) == (-32008, Certainty.NOT_EXECUTED)
        assert shop.seen == []

    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({"timeout": 0}, "timeout"), ({"timeout": "1"}, "timeout"), ({"links": 0}, "links"),
            ({"links": True}, "links"),
            ({"codec": "pickle"}, "codec"), ({"safety": "x"}, "safety"), ({"safety": {"a.b": "x"}}, "safety"),
            ({"errors": [ValueError]}, "errors"), ({"errors": [ApplicationError]}, "errors"),
            ({"errors": ["x"]}, "errors"),
            ({"policies": [1]}, "policy"), ({"policies": [Client]}, "Client"), ({"max_pending": 0}, "max_pending"),
            ({"max_pending": "x"}, "max_pending"), ({"app_id": "x" * 300}, "app_id"), ({"app_id": 5}, "app_id"),
            ({"prefix": 5}, "prefix"), ({"prefix": "x" * 300}, "prefix"), ({"batching": 5}, "batching"),
            ({"limits": 5}, "limits"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("kind", [Client, AsyncClient])
    def test_a_setting_that_is_wrong_is_found_when_it_is_made(
        self, kind: Any, settings: dict[str, Any], name: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=name):
            kind("memory://settings", **settings)

    @pytest.mark.parametrize("url", ["", "http://x", None, 5, "memory", "amqp://"])
    @pytest.mark.parametrize("kind", [Client, AsyncClient])
    def test_a_url_that_is_none_is_found_when_it_is_made(self, kind: Any, url: Any) -> None:
        if url == "amqp://":
            kind(url)  # localhost
            return
        with pytest.raises(ConfigurationError):
            kind(url)

    def test_several_links_share_the_calls(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url, links=3)
        colour.call(client, "shop.echo", [0])
        results = colour.together(*[lambda n=n: colour.call(client, "shop.echo", [n]) for n in range(50)])  # type: ignore[misc]
        assert results == list(range(50))

    def test_a_client_connects_when_it_is_entered(self, shop: Shop) -> None:
        states: list[str] = []
        with Client(shop.url) as client:
            client.on(ConnectionStateChanged, lambda event: states.append(event.state))
            until(lambda: client._caller is not None and client._caller.pool.links[0].connected)  # type: ignore[union-attr]
            assert client.call("shop.echo", [1]) == 1

        async def main() -> None:
            async with AsyncClient(shop.url) as client:
                await turns(lambda: client._caller.pool.links[0].connected)  # type: ignore[union-attr]
                assert await client.call("shop.echo", [1]) == 1

        asyncio.run(main())

    def test_many_methods_do_not_fill_the_memory(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resilient_rpc.caller.MAX_METHODS", 5)
        with Client(shop.url) as client:
            for number in range(12):
                with pytest.raises(MethodNotFound):
                    client.call(f"shop.m{number}")
            assert len(client._caller.pool.links[0].routes) <= 5  # type: ignore[union-attr]


class TestErrors:
    def test_an_error_has_the_servers_word_on_it(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url, errors=[OutOfStock])
        with pytest.raises(ApplicationError, match=r"^failed$") as failed:
            colour.call(client, "shop.fail")
        assert (failed.value.type, failed.value.certainty, failed.value.retryable) == (
            "ValueError",
            Certainty.EXECUTED,
            False,
        )
        with pytest.raises(OutOfStock, match="none left") as sold:
            colour.call(client, "shop.sold_out")
        assert (sold.value.details, sold.value.retry_after) == ({"sku": "A1"}, 2.0)
        with pytest.raises(MethodNotFound):
            colour.call(client, "shop.nope")
        with pytest.raises(InvalidParams, match=r"\$\.qty"):
            colour.call(client, "shop.price", {"sku": "A", "qty": "x"})
        assert pending(client) == 0

    def test_a_service_that_nobody_serves_is_unroutable_at_once(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        begin = time.monotonic()
        with pytest.raises(Unroutable) as caught:
            colour.call(client, "nobody.x", timeout=20)
        assert caught.value.certainty is Certainty.NOT_EXECUTED
        assert time.monotonic() - begin < 5
        assert pending(client) == 0

    def test_a_bus_that_is_down_is_not_connected_at_the_deadline(self, colour: Colour, shop: Shop) -> None:
        shop.bus.down()
        client = colour.client(shop.url)
        begin = time.monotonic()
        with pytest.raises(NotConnected, match="down") as caught:
            colour.call(client, "shop.echo", timeout=0.15)
        assert 0.14 < time.monotonic() - begin < 3
        assert caught.value.certainty is Certainty.NOT_EXECUTED
        assert pending(client) == 0
        shop.bus.up()
        assert colour.call(client, "shop.echo", [1], timeout=PATIENCE) == 1

    def test_a_call_ends_by_its_deadline_and_leaves_nothing(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        colour.call(client, "shop.echo")
        begin = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            colour.call(client, "shop.slow", timeout=0.1)
        assert 0.09 < time.monotonic() - begin < 1
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.certainty is Certainty.UNKNOWN
        assert caught.value.stage == "reply"
        assert pending(client) == 0
        until(lambda: shop.server.health()["running"] == 0)

    def test_many_calls_end_by_their_deadlines(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        colour.call(client, "shop.echo")
        errors = colour.together(*[lambda: colour.call(client, "shop.slow", timeout=0.2) for _ in range(20)])
        assert [type(error) for error in errors] == [DeadlineExceeded] * 20
        assert pending(client) == 0

    def test_a_lost_connection_ends_what_was_on_its_way_and_the_next_call_works(
        self, colour: Colour, shop: Shop
    ) -> None:
        client = colour.client(shop.url)
        colour.call(client, "shop.echo")
        timer = threading.Timer(0.1, shop.bus.drop_connections)
        timer.start()
        with pytest.raises(ConnectionLost) as caught:
            colour.call(client, "shop.slow", timeout=PATIENCE)
        timer.join()
        assert caught.value.certainty is Certainty.UNKNOWN
        assert colour.call(client, "shop.echo", [1], timeout=PATIENCE) == 1

    @pytest.mark.parametrize("codec", ["json", "msgpack"])
    def test_what_cannot_be_sent_is_refused_and_not_executed(self, colour: Colour, shop: Shop, codec: str) -> None:
        client = colour.client(shop.url, codec=codec, limits=Limits(max_body=1000))
        for params, kind in (
            ([object()], UnsupportedContent),
            (["\ud800"], UnsupportedContent),
            (["x" * 1000], TooLarge),
        ):
            with pytest.raises(kind) as caught:
                colour.call(client, "shop.echo", params)
            assert caught.value.certainty is Certainty.NOT_EXECUTED
        assert colour.call(client, "shop.echo", [1]) == 1
        assert pending(client) == 0

    def test_a_result_that_is_nested_too_deeply_is_refused_and_was_executed(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url, limits=Limits(max_depth=3))
        assert colour.call(client, "shop.echo", [[[[1]]]]) == [[[1]]]
        with pytest.raises(TooLarge) as caught:
            colour.call(client, "shop.echo", [[[[[1]]]]])
        assert caught.value.certainty is Certainty.EXECUTED


class TestNumbersAndEvents:
    def test_every_call_is_counted_once(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        ended: list[CallEnded] = []
        stop = client.on(CallEnded, ended.append)
        for _ in range(3):
            colour.call(client, "shop.echo")
        colour.do(client, "request", "shop.echo")
        with pytest.raises(ApplicationError):
            colour.call(client, "shop.fail")
        with pytest.raises(DeadlineExceeded):
            colour.do(client, "request", "shop.slow", timeout=0.05)
        stop()
        colour.call(client, "shop.echo")
        found = client.stats()
        assert (found.total, found.pending, found.completed, found.failed, found.timed_out) == (7, 0, 5, 2, 1)
        assert dict(found.errors) == {"ApplicationError": 1, "DeadlineExceeded": 1}
        assert [event.method for event in ended] == [*["shop.echo"] * 4, "shop.fail", "shop.slow"]
        assert [type(event.error) for event in ended] == [*[type(None)] * 4, ApplicationError, DeadlineExceeded]

    def test_a_hook_that_fails_breaks_no_call(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)

        def bad(_: Any) -> None:
            raise ValueError

        client.on(CallEnded, bad)
        client.on(ConnectionStateChanged, bad)
        assert colour.call(client, "shop.echo", [1]) == 1

    def test_a_reply_that_came_too_late_is_counted(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        colour.call(client, "shop.echo")
        address = next(iter(shop.bus.broker.addresses))
        assert shop.bus.publish(address, b"{}", correlation_id="forged")
        colour.call(client, "shop.echo")
        until(lambda: client.stats().unknown_replies == 1)


class Recording:
    """A policy."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        self.calls.append(call)
        return await proceed(call)


class TestPolicies:
    def test_a_call_passes_them_and_they_see_it(self, colour: Colour, shop: Shop) -> None:
        policy = Recording()
        client = colour.client(shop.url, policies=[policy])
        colour.call(client, "shop.echo", [1], timeout=5, tags={"a": "b"}, safety="idempotent")
        [call] = policy.calls
        assert (call.method, call.params, call.timeout, call.tags, call.safety) == (
            "shop.echo", [1], 5, {"a": "b"}, Safety.IDEMPOTENT,
        )  # fmt: skip

    def test_one_may_answer_itself(self, colour: Colour, shop: Shop) -> None:
        async def answer(call: Call, proceed: Handler, /) -> Reply:
            return Reply(result="mine", degraded=True)

        client = colour.client(shop.url, policies=[answer])
        assert colour.do(client, "request", "shop.nope").degraded

    def test_a_repeat_inside_is_another_attempt(self, colour: Colour, shop: Shop) -> None:
        async def twice(call: Call, proceed: Handler, /) -> Reply:
            await proceed(call)
            return await proceed(call.replace(attempt=2))

        client = colour.client(shop.url, policies=[twice])
        assert colour.do(client, "request", "shop.look").attempts == 2
        assert [context.attempt for context in shop.seen] == [1, 2]


class TestMap:
    def test_results_stand_in_the_order_of_the_params(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        assert colour.do(client, "map", "shop.echo", ([n] for n in range(500))) == list(range(500))
        assert pending(client) == 0

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_a_few(self, colour: Colour, shop: Shop, count: int) -> None:
        assert colour.do(colour.client(shop.url), "map", "shop.echo", [[n] for n in range(count)]) == list(range(count))

    def test_with_errors_in_their_places(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        params: list[Any] = [[1, 2], [1], "bad", [3, 4], {"a": 1, "b": 2}]
        found = colour.do(client, "map", "shop.add", params, return_errors=True)
        assert [found[0], found[3], found[4]] == [3, 7, 3]
        assert [type(found[1]), type(found[2])] == [InvalidParams, ConfigurationError]

    @pytest.mark.parametrize("at", [0, 5, 50])
    def test_else_the_first_error_ends_it_all_and_nothing_is_left(self, colour: Colour, shop: Shop, at: int) -> None:
        client = colour.client(shop.url)
        params: list[Any] = [[n, n] for n in range(100)]
        params[at] = ["x", 1]
        with pytest.raises(InvalidParams):
            colour.do(client, "map", "shop.add", params)
        until(lambda: pending(client) == 0)
        assert client.stats().pending == 0

    def test_no_more_are_under_way_than_the_window(self, colour: Colour, shop: Shop) -> None:
        running = most = 0

        async def watch(call: Call, proceed: Handler, /) -> Reply:
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                return await proceed(call)
            finally:
                running -= 1

        client = colour.client(shop.url, policies=[watch])
        assert len(colour.do(client, "map", "shop.echo", [[n] for n in range(100)], window=7)) == 100
        assert most == 7

    @pytest.mark.parametrize("window", [0, -1, 1.5, None, True])
    def test_a_window_is_a_whole_number(self, colour: Colour, shop: Shop, window: Any) -> None:
        with pytest.raises(ConfigurationError, match="window"):
            colour.do(colour.client(shop.url), "map", "shop.echo", [[1]], window=window)

    def test_the_params_are_taken_where_the_caller_stands(self, shop: Shop) -> None:
        """They may come from a generator that blocks, or makes calls itself."""
        threads = set()

        def params(client: Client) -> Iterator[list[int]]:
            for number in range(3):
                threads.add(threading.current_thread())
                yield [client.call("shop.add", [number, 1])]

        with Client(shop.url) as client:
            assert client.map("shop.echo", params(client)) == [1, 2, 3]
        assert threads == {threading.current_thread()}

    def test_a_wrong_keyword_is_refused(self, colour: Colour, shop: Shop) -> None:
        with pytest.raises(TypeError, match="urgency"):
            colour.do(colour.client(shop.url), "map", "shop.echo", [[1]], urgency=1)


class TestSubmit:
    def test_a_future_has_the_result_or_the_error(self, shop: Shop) -> None:
        with Client(shop.url) as client:
            good, bad = client.submit("shop.echo", [1]), client.submit("shop.fail")
            assert good.result(PATIENCE) == 1
            assert isinstance(bad.exception(PATIENCE), ApplicationError)
            with pytest.raises(ApplicationError):
                bad.result(PATIENCE)
            with pytest.raises(TypeError):
                client.submit("shop.echo", urgency=1)  # type: ignore[call-arg]

    def test_a_future_that_is_cancelled_leaves_nothing(self, shop: Shop) -> None:
        with Client(shop.url) as client:
            client.call("shop.echo")
            future = client.submit("shop.slow")
            until(lambda: shop.server.health()["running"] == 1)
            assert future.cancel()
            assert future.cancelled()
            with pytest.raises(CancelledError):
                future.result(PATIENCE)
            until(lambda: pending(client) == 0 and client.stats().pending == 0)
            assert client.stats().errors == {"CancelledError": 1}
            assert future.cancel(), "as concurrent.futures has it"

    def test_a_future_that_is_done_is_not_cancelled(self, shop: Shop) -> None:
        with Client(shop.url) as client:
            future = client.submit("shop.echo", [1])
            future.result(PATIENCE)
            assert not future.cancel()

    def test_callbacks_run_on_a_thread_of_their_own_where_calls_may_be_made(self, shop: Shop) -> None:
        found: list[Any] = []
        done = threading.Event()
        with Client(shop.url) as client:

            def callback(future: Any) -> None:
                found.extend([threading.current_thread().name, future.result(), client.call("shop.echo", [2])])
                done.set()

            client.submit("shop.echo", [1]).add_done_callback(callback)
            assert done.wait(PATIENCE)
        assert found == ["resilient-rpc-callbacks", 1, 2]

    def test_the_chain_runs_on_the_io_loop(self, shop: Shop) -> None:
        threads: list[str] = []

        async def where(call: Call, proceed: Handler, /) -> Reply:
            threads.append(threading.current_thread().name)
            return await proceed(call)

        with Client(shop.url, policies=[where]) as client:
            client.submit("shop.echo").result(PATIENCE)
            client.call("shop.echo")
        assert threads == ["resilient-rpc-io", threading.current_thread().name]

    def test_a_task_of_the_running_loop(self, shop: Shop) -> None:
        async def main() -> None:
            async with AsyncClient(shop.url) as client:
                task = client.submit("shop.echo", [1])
                assert isinstance(task, asyncio.Task)
                assert await task == 1
                slow = client.submit("shop.slow")
                await turns(lambda: shop.server.health()["running"] == 1)
                slow.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await slow
                await turns(lambda: pending(client) == 0)

        asyncio.run(main())

    def test_a_cancelled_call_leaves_nothing(self, shop: Shop) -> None:
        async def main() -> None:
            async with AsyncClient(shop.url) as client:
                await client.call("shop.echo")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.call("shop.slow")
                await turns(lambda: pending(client) == 0)
                assert client.stats().pending == 0
                mapping = asyncio.create_task(client.map("shop.slow", [[60.0]] * 5))
                await turns(lambda: pending(client) > 0)
                mapping.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await mapping
                await turns(lambda: pending(client) == 0)

        asyncio.run(main())


class TestServices:
    def test_methods_are_attributes(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        service = client.service("shop")

        def get(method: str, *args: Any, **kwargs: Any) -> Any:
            return colour.do(service, method, *args, **kwargs)

        assert get("price", sku="A") == {"amount": 1.5, "currency": "A"}
        assert get("add", 1, 2) == 3
        assert get("echo") is None
        tagged = service.with_(tags={"a": "b"}, timeout=5).with_(safety="read_only")
        found = colour.do(tagged, "look")
        assert (found["tags"], found["safety"]) == ({"a": "b"}, "read_only")
        assert found["left"] < 5.01


class TestMisuse:
    def test_a_blocking_call_on_a_running_loop_is_refused_and_names_the_way(self, shop: Shop) -> None:
        async def main() -> None:
            with Client(shop.url) as client:
                for act in (
                    lambda: client.call("shop.echo"),
                    lambda: client.request("shop.echo"),
                    lambda: client.map("shop.echo", [[1]]),
                    lambda: client.cast("shop.echo"),
                    lambda: client.broadcast("shop.echo"),
                    lambda: client.call_raw("queue", b""),
                ):
                    with pytest.raises(UsageError, match="AsyncClient") as caught:
                        act()
                    assert caught.value.certainty is Certainty.NOT_EXECUTED
                assert await asyncio.wrap_future(client.submit("shop.echo", [1])) == 1

        asyncio.run(main())

    def test_unless_it_is_allowed(self, shop: Shop) -> None:
        async def main() -> None:
            with Client(shop.url, blocking_ok=True) as client:
                assert client.call("shop.echo", [1]) == 1
                assert client.request("shop.echo", [1]).result == 1
                assert client.map("shop.echo", [[1]]) == [1]
                client.cast("shop.echo", [1])
                [(_, echoed)] = client.broadcast("shop.echo", [1], expect=1)
                assert echoed == 1
                with pytest.raises(Unroutable):
                    client.call_raw("nobody", b"")

        asyncio.run(main())

    def test_a_blocking_call_on_the_io_thread_is_refused(self, shop: Shop) -> None:
        with Client(shop.url, blocking_ok=True) as client:
            client.call("shop.echo")

            async def wrong(what: Any) -> None:
                with pytest.raises(UsageError, match="I/O thread"):
                    what()

            io_loop().run(lambda: wrong(lambda: client.call("shop.echo", timeout=1)), PATIENCE)
            io_loop().run(lambda: wrong(lambda: client.map("shop.echo", [[1]])), PATIENCE)
            io_loop().run(lambda: wrong(lambda: client.cast("shop.echo", timeout=1)), PATIENCE)
            io_loop().run(lambda: wrong(lambda: client.broadcast("shop.echo", timeout=1)), PATIENCE)
            until(lambda: pending(client) == 0)
            assert client.call("shop.echo", [1]) == 1

    def test_a_closed_client_is_closed(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        colour.call(client, "shop.echo")
        colour.do(client, "close") if colour.name == "asyncio" else client.close()
        for act in ("call", "request"):
            with pytest.raises(UsageError, match="closed"):
                colour.do(client, act, "shop.echo")
        with pytest.raises(UsageError, match="closed"):
            colour.do(client, "map", "shop.echo", [[1]])
        with pytest.raises(UsageError, match="closed"):
            colour.do(client, "submit", "shop.echo")
        colour.do(client, "close") if colour.name == "asyncio" else client.close()
        assert client.stats().completed == 1

    def test_one_that_was_never_used_can_be_closed_and_is_closed_then(self, colour: Colour, shop: Shop) -> None:
        client = colour.client(shop.url)
        colour.do(client, "close") if colour.name == "asyncio" else client.close()
        with pytest.raises(UsageError, match="closed"):
            colour.call(client, "shop.echo")

    def test_closing_ends_what_waits(self, shop: Shop) -> None:
        client = Client(shop.url)
        client.call("shop.echo")
        futures = [client.submit("shop.slow") for _ in range(3)]
        errors: list[BaseException] = []

        def call() -> None:
            try:
                client.call("shop.slow")
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        until(lambda: shop.server.health()["running"] == 4)
        client.close()
        thread.join(PATIENCE)
        assert [type(error) for error in errors] == [ConnectionLost]
        for future in futures:
            with pytest.raises((ConnectionLost, asyncio.CancelledError, CancelledError)):
                future.result(PATIENCE)
        until(lambda: shop.bus.connections == ["server-1", "server-1"])

    def test_an_async_client_on_a_second_loop_that_lives_is_refused(self, shop: Shop) -> None:
        client = AsyncClient(shop.url)
        with asyncio.Runner() as first:
            assert first.run(client.call("shop.echo", [1])) == 1
            with asyncio.Runner() as second, pytest.raises(UsageError, match="another event loop"):
                second.run(client.call("shop.echo", [1]))
            assert first.run(client.call("shop.echo", [2])) == 2
            first.run(client.close())

    def test_after_its_loop_has_ended_it_begins_anew_on_another(self, shop: Shop) -> None:
        client = AsyncClient(shop.url)
        assert asyncio.run(client.call("shop.echo", [1])) == 1

        async def last() -> None:
            assert await client.call("shop.echo", [2]) == 2
            await client.close()

        asyncio.run(last())
        gc.collect()

    def test_an_async_client_without_a_loop_is_refused(self, shop: Shop) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            AsyncClient(shop.url).submit("shop.echo")


class TestInsideHandlers:
    """A handler that calls on: what its calls inherit."""

    @pytest.fixture(params=["coroutine", "thread"])
    def front(self, request: pytest.FixtureRequest, shop: Shop) -> Iterator[Client]:
        """A second service whose handlers call the first one."""
        server = Server(shop.url, service="front")
        # Without the default chain, which would limit an attempt to 10 seconds.
        inner, blocking = AsyncClient(shop.url, policies=[]), Client(shop.url, policies=[])

        if request.param == "coroutine":

            @server.method
            async def ask(detached: bool = False) -> Any:
                assert current_context() is not None
                return await inner.call("shop.look", tags={"mine": "1"}, timeout=20, detached=detached)

            @server.method
            async def fail() -> None:
                await inner.call("shop.nope")

        else:

            @server.method
            def ask(detached: bool = False) -> Any:  # type: ignore[misc]
                assert current_context() is not None
                return blocking.call("shop.look", tags={"mine": "1"}, timeout=20, detached=detached)

            @server.method
            def fail() -> None:  # type: ignore[misc]
                blocking.call("shop.nope")

        server.start()
        with Client(shop.url, policies=[]) as client:
            client.call("shop.echo")
            yield client
        server.stop()
        blocking.close()

    def test_they_inherit_tags_and_the_smaller_deadline(self, front: Client) -> None:
        for _ in range(2):
            found = front.call("front.ask", tags={"outer": "2", "mine": "0"}, timeout=5)
            assert found["tags"] == {"outer": "2", "mine": "1"}
            assert 3 < found["left"] <= 5
        assert 19 < front.call("front.ask", timeout=60)["left"] <= 20

    def test_unless_they_are_detached(self, front: Client) -> None:
        front.call("front.ask", timeout=5)
        found = front.call("front.ask", [True], tags={"outer": "2"}, timeout=5)
        assert found["tags"] == {"mine": "1"}
        assert 19 < found["left"] <= 20

    def test_their_errors_say_nothing_of_the_outer_call(self, front: Client) -> None:
        with pytest.raises(ApplicationError) as caught:
            front.call("front.fail")
        assert caught.value.certainty is Certainty.EXECUTED


FORK = """
import os, sys, threading
from resilient_rpc import AsyncClient, Client, Server
import asyncio

def serve():
    server = Server("memory://fork", service="shop")
    @server.method
    async def echo(value):
        return value
    server.start()
    return server

server = serve()
client, other = Client("memory://fork"), AsyncClient("memory://fork")
assert client.call("shop.echo", [1]) == 1
assert asyncio.run(other.call("shop.echo", [1])) == 1
future = client.submit("shop.echo", [2])
pid = os.fork()
if pid == 0:
    mine = serve()  # the bus of a child is empty
    assert client.call("shop.echo", [3], timeout=10) == 3
    assert client.submit("shop.echo", [4], timeout=10).result(10) == 4
    assert client.map("shop.echo", [[5], [6]], timeout=10) == [5, 6]
    assert asyncio.run(other.call("shop.echo", [7])) == 7
    assert client.stats().total == 4, client.stats()
    client.close()
    mine.stop()
    os._exit(0)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert future.result(10) == 2
assert client.call("shop.echo", [8], timeout=10) == 8
client.close()
server.stop()
print("both are well")
"""


def test_a_forked_child_has_connections_of_its_own_and_its_parent_keeps_its() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(FORK)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "both are well"), done.stderr


def test_a_client_is_used_by_many_threads_and_tasks_at_once(shop: Shop) -> None:
    with Client(shop.url) as client:
        results: list[Any] = []

        def work(number: int) -> None:
            results.extend(client.call("shop.echo", [number * 100 + n]) for n in range(100))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(results) == list(range(1600))
        assert client.stats().completed == 1600
        assert pending(client) == 0


def test_concurrent_calls_to_a_known_server_travel_in_few_messages(shop: Shop) -> None:
    async def main() -> None:
        async with AsyncClient(shop.url) as client:
            await client.call("shop.echo")
            link = client._caller.pool.links[0]  # type: ignore[union-attr]
            before = link.messages
            assert await asyncio.gather(*[client.call("shop.echo", [n]) for n in range(64)]) == list(range(64))
            assert link.messages - before <= 4

        async with AsyncClient(shop.url, batching=None) as client:
            await client.call("shop.echo")
            link = client._caller.pool.links[0]  # type: ignore[union-attr]
            await asyncio.gather(*[client.call("shop.echo", [n]) for n in range(64)])
            assert link.messages == 65

        async with AsyncClient(shop.url, batching=Batching(max_calls=5)) as client:
            await client.call("shop.echo")
            link = client._caller.pool.links[0]  # type: ignore[union-attr]
            before = link.messages
            await asyncio.gather(*[client.call("shop.echo", [n]) for n in range(20)])
            assert link.messages - before == 4

    asyncio.run(main())
