from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_rpc import events
from resilient_rpc.call import Safety
from resilient_rpc.context import Context
from resilient_rpc.errors import ApplicationError, ConfigurationError, DeadlineExceeded, InvalidParams, Overloaded
from resilient_rpc.serving import core, letters
from resilient_rpc.serving.deadletters import DeadLetters
from resilient_rpc.serving.options import ServingOptions
from resilient_rpc.transport.base import QueueSpec
from resilient_rpc.transport.memory import MemoryTransport
from resilient_rpc.transport.memory.consumer import MemoryConsumer
from resilient_rpc.transport.memory.publisher import MemoryPublisher
from resilient_rpc.transport.properties import decode_headers
from resilient_rpc.wire.codec import MSGPACK
from resilient_rpc.wire.compression import Compression
from resilient_rpc.wire.limits import Limits
from tests.serving.bench import OURS, QUEUE, Bench, bench, call, notification
from tests.waiting import turns


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with bench() as made:
            await scenario(made)

    asyncio.run(main())


def code(reply: Any) -> int:
    assert set(reply) <= {"jsonrpc", "id", "error", "meta"}
    return int(reply["error"]["code"])


class TestOurs:
    def test_a_call_is_answered_with_what_the_client_wants_to_know(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve("one", concurrency=8)
            b.send(call("echo", [5], 7, ttl=1000), OURS)
            [delivery] = await b.received(1)
            reply = json.loads(delivery.body)
            assert (reply["jsonrpc"], reply["id"], reply["result"]) == ("2.0", 7, 5)
            assert reply["meta"]["server"] == "one"
            assert reply["meta"]["t"] > 0
            assert 0 <= reply["meta"]["room"] <= 8
            assert delivery.properties["correlation_id"] == "token.1"
            assert delivery.properties["content_type"] == "application/json"
            assert delivery.properties["type"] == "rpc.reply"
            assert decode_headers(delivery.properties["headers"])["rpc-version"] == "1"
            await b.settled()

        run(scenario)

    def test_the_name_may_carry_the_service(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            assert (await b.ask(call("shop.echo", [1])))["result"] == 1

        run(scenario)

    def test_messagepack_is_answered_in_messagepack(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send(MSGPACK.encode(call("echo", [b"\xff"])), OURS, content_type="application/msgpack")
            [delivery] = await b.received(1)
            assert delivery.properties["content_type"] == "application/msgpack"
            assert MSGPACK.anything.decode(delivery.body)["result"] == b"\xff"

        run(scenario)

    def test_replies_of_one_tick_to_one_link_share_a_message(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            for number in range(20):
                b.send(call("echo", [number], number), OURS, correlation_id=f"token.{number}")
            await turns(lambda: len(items(b)) == 20)
            assert len(b.replies.deliveries) < 5
            assert sorted(item["id"] for item in items(b)) == list(range(20))
            assert all(d.properties["correlation_id"].startswith("token.") for d in b.replies.deliveries)
            await b.settled()

        run(scenario)

    def test_replies_to_two_links_do_not(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            for number in range(20):
                b.send(call("echo", [number], number), OURS, correlation_id=f"token{number % 2}.{number}")
            await turns(lambda: len(items(b)) == 20)
            for delivery in b.replies.deliveries:
                link = int(delivery.properties["correlation_id"][5])
                found = json.loads(delivery.body)
                assert {item["id"] % 2 for item in (found if isinstance(found, list) else [found])} == {link}

        run(scenario)

    def test_without_batching_every_reply_travels_alone(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve(batching=None)
            b.send([call("echo", [n], n) for n in range(10)], OURS)
            assert [json.loads(d.body)["id"] for d in await b.received(10)] == list(range(10))

        run(scenario)

    def test_large_replies_do_not_share_a_message(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send([call("echo", ["x" * 100_000], n) for n in range(6)], OURS)
            await turns(lambda: len(items(b)) == 6)
            assert max(len(d.body) for d in b.replies.deliveries) <= 256 * 1024 + 1000
            await b.settled()

        run(scenario)

    def test_each_call_of_a_batch_has_its_own_answer_and_the_ack_waits_for_all(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send([call("wait", [1], 1), call("echo", [2], 2), call("nope", [], 3), call("add", ["x"], 4)], OURS)
            await turns(lambda: len(items(b)) == 3)
            assert b.unacked == 1
            b.gate.set()
            await turns(lambda: len(items(b)) == 4)
            found = {item["id"]: item for item in items(b)}
            assert (found[1]["result"], found[2]["result"]) == (1, 2)
            assert (code(found[3]), code(found[4])) == (-32601, -32602)
            await b.settled()

        run(scenario)


def items(b: Bench) -> list[Any]:
    found: list[Any] = []
    for delivery in b.replies.deliveries:
        body = json.loads(delivery.body)
        found.extend(body if isinstance(body, list) else [body])
    return found


class TestPlainSpeakers:
    """Requests without rpc-version: the tutorials of RabbitMQ, and every other JSON-RPC client."""

    @pytest.mark.parametrize("id_", [1, 0, -1, "a", "", None, 1.5, 2**70])
    def test_one_call_has_one_reply_and_no_meta(self, id_: Any) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            assert await b.ask(call("echo", [5], id_)) == {"jsonrpc": "2.0", "id": id_, "result": 5}
            assert b.replies.deliveries[0].properties["correlation_id"] == "token.1"

        run(scenario)

    def test_a_batch_has_one_array_when_all_are_done(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send([call("wait", ["late"], 1), call("echo", [2], 2), 5, notification("note", [1]), call("_x", [], "c")])
            await turns(lambda: b.ran == ["late", 1])
            assert b.replies.deliveries == []
            b.gate.set()
            found = await b.reply()
            assert {item["id"]: item.get("result", item.get("error", {}).get("code")) for item in found} == {
                1: "late", 2: 2, None: -32600, "c": -32601,
            }  # fmt: skip
            await b.settled()
            assert len(b.replies.deliveries) == 1

        run(scenario)

    def test_a_batch_of_one_is_answered_by_an_array_of_one(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            assert await b.ask([call("echo", [1])]) == [{"jsonrpc": "2.0", "id": 1, "result": 1}]
            assert [code(item) for item in await b.ask([call("nope")])] == [-32601]
            assert [code(item) for item in await b.ask([1])] == [-32600]

        run(scenario)

    @pytest.mark.parametrize(
        "body",
        [
            notification("note", [1]),
            [notification("note", [1])],
            [notification("note", [1]), notification("nope"), notification("add", ["x"]), notification("fail")],
        ],
    )
    def test_notifications_alone_are_run_and_not_answered(self, body: Any) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send(body)
            await turns(lambda: b.ran == [1])
            await b.settled()
            assert await b.ask(call("echo", [1])) == {"jsonrpc": "2.0", "id": 1, "result": 1}

        run(scenario)

    def test_a_request_without_correlation_id_is_answered_without_one(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            assert (await b.ask(call("echo", [1]), correlation_id=None))["result"] == 1
            assert not b.replies.deliveries[0].properties.get("correlation_id")

        run(scenario)

    def test_the_same_correlation_id_twice_is_answered_twice(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send(call("wait", [1], 1), correlation_id="same")
            b.send(call("echo", [2], 2), correlation_id="same")
            await b.received(1)
            b.gate.set()
            assert sorted(item["id"] for item in (json.loads(d.body) for d in await b.received(2))) == [1, 2]
            await b.settled()

        run(scenario)

    def test_a_request_without_reply_to_is_run_and_not_answered(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            for body in (call("note", [1]), [call("note", [1]), call("nope")], call("nope"), b"garbage", call("fail")):
                b.send(body, reply_to=None)
            await b.settled()
            assert b.ran == [1, 1]
            assert sorted(b.dead()) == ["failed", "malformed", "refused", "refused"]

        run(scenario)

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["echo", "note", "add", "fail", "nope", "bad", "tell", "tell nope"]),
            min_size=1,
            max_size=12,
        )
    )
    def test_any_batch_has_one_reply_with_an_item_for_each_that_wants_one(self, kinds: list[str]) -> None:
        def item(number: int, kind: str) -> Any:
            match kind:
                case "tell":
                    return notification("note", [number])
                case "tell nope":
                    return notification("nope")
                case "bad":
                    return {"jsonrpc": "2.0", "id": number}
                case _:
                    return call(kind, [number, 1] if kind == "add" else [] if kind == "fail" else [number], number)

        async def scenario(b: Bench) -> None:
            await b.serve(concurrency=3)
            b.send([item(number, kind) for number, kind in enumerate(kinds)])
            wanted = [number for number, kind in enumerate(kinds) if not kind.startswith("tell")]
            if wanted:
                assert sorted(entry["id"] for entry in await b.reply()) == wanted
            await b.settled()
            assert len(b.replies.deliveries) == bool(wanted)

        run(scenario)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "reply_to", ["amq.rabbitmq.reply-to.junk", "rpc.shop", "other", "amq.topic", "rpc.reply.a b", "x" * 255]
    )
    @pytest.mark.parametrize("headers", [None, OURS])
    def test_a_forged_reply_to_is_refused_before_execution(self, reply_to: str, headers: Any) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send(call("note", [1]), headers, reply_to=reply_to)
            await b.settled()
            assert b.ran == []
            [event] = [event for event in b.events if isinstance(event, events.ReplyRefused)]
            assert event.reply_to == reply_to[:80]
            assert (await b.ask(call("echo", [1])))["result"] == 1

        run(scenario)

    @pytest.mark.parametrize(
        ("body", "properties", "expected"),
        [
            (b"garbage", {}, -32700), (b"", {}, -32700), (b"\xff\xfe", {}, -32700), (b"[]", {}, -32600),
            (b"5", {}, -32600), (b'"x"', {}, -32600), (b"{}", {}, -32600), (b"null", {}, -32600),
            (b"[" * 100_000, {}, -32700),
            (call("echo"), {"content_type": "text/plain"}, -32007),
            (call("echo"), {"content_type": "application/x-python-serialize"}, -32007),
            (call("echo"), {"content_encoding": "gzip"}, -32007),
            ({**call("echo"), "jsonrpc": "1.0"}, {}, -32600), ({**call("echo"), "method": 5}, {}, -32600),
            (call("nope"), {}, -32601), (call("__class__"), {}, -32601), (call("echo.__init__"), {}, -32601),
            (call("x" * 10_240), {}, -32601), (call(""), {}, -32601), (call("\u0435cho"), {}, -32601),
            (call("add", [1]), {}, -32602), (call("add", {"a": 1, "b": "x"}), {}, -32602),
            (call("add", "x"), {}, -32602),
            (call("echo", [1], ttl=0), {}, -32002), (call("echo", [1], key="k"), {}, -32008),
            (call("echo", [1], ttl=-1), {}, -32600), (call("echo", [1], at=10**400), {}, -32600),
            (call("echo", [1], ttl=10**400), {}, -32600), (call("echo", [1], tags={"a": 1}), {}, -32600),
            (call("echo", [1], safety="perhaps"), {}, -32600),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("headers", [None, OURS], ids=["plain", "ours"])
    def test_bad_input_has_an_error_reply_and_the_server_goes_on(
        self, body: Any, properties: dict[str, Any], expected: int, headers: Any
    ) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            reply = await b.ask(body, headers, **properties)
            assert code(reply) == expected
            assert reply["error"]["data"]["executed"] is False
            assert len(reply["error"]["message"]) < 2001
            assert (await b.ask(call("echo", [1])))["result"] == 1

        run(scenario)

    def test_the_path_of_the_bad_argument_is_named(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            reply = await b.ask(call("add", {"a": 1, "b": "x"}))
            assert "$.b" in reply["error"]["message"]

        run(scenario)

    def test_limits_are_refused_from_one_over(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve(limits=Limits(max_body=400, max_headers=40, max_items=3, max_depth=2))
            good = call("echo", [[1]])
            assert (await b.ask(good, correlation_id="a.1"))["result"] == [1]
            assert code(await b.ask(call("echo", [[[1]]]))) == -32006
            assert code(await b.ask(call("echo", ["x" * 400]))) == -32006
            assert code(await b.ask(call("echo", [1]), {"a": "x" * 40})) == -32006
            assert len(await b.ask([call("echo", [], n) for n in range(3)])) == 3
            assert code(await b.ask([call("echo", [], n) for n in range(4)])) == -32006

        run(scenario)

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=60), st.booleans(), st.booleans())
    def test_no_bytes_stop_the_server(self, body: bytes, packed: bool, ours: bool) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            content_type = "application/msgpack" if packed else "application/json"
            b.send(body, OURS if ours else None, content_type=content_type)
            b.send(call("echo", ["alive"], "last"), correlation_id="x.2")
            await turns(lambda: any(b'"last"' in d.body for d in b.replies.deliveries))
            await b.settled()

        run(scenario)

    def test_json_that_calls_itself_messagepack_is_refused_in_messagepack(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send(call("note"), content_type="application/msgpack")
            [delivery] = await b.received(1)
            assert MSGPACK.anything.decode(delivery.body)["error"]["code"] in {-32600, -32700}
            assert b.ran == []

        run(scenario)

    @pytest.mark.parametrize("params", [0, 9, 10, 13, 32, 127, b"", "", [], {}, None, 1.5])
    def test_params_of_any_kind_are_survived_in_messagepack(self, params: Any) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            item = {"jsonrpc": "2.0", "method": "echo", "id": 1, "params": params}
            b.send(MSGPACK.encode(item), content_type="application/msgpack")
            [delivery] = await b.received(1)
            reply = MSGPACK.anything.decode(delivery.body)
            assert "result" in reply or reply["error"]["code"] == -32602
            await b.settled()

        run(scenario)


class Half(msgspec.Struct):
    x: int


def half() -> Half:
    found = Half(1)
    del found.x
    return found


class Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def inner_error(kind: type[Any], **fields: Any) -> Any:
    error = kind("inner")
    for name, value in fields.items():
        setattr(error, name, value)
    return error


class TestHandlers:
    @pytest.mark.parametrize(
        "result",
        [object(), {1, object()}, "\ud800", half, {(1, 2): 3}, 10**5000],
        ids=["object", "set", "surrogate", "struct", "key", "number"],
    )
    @pytest.mark.parametrize("headers", [None, OURS], ids=["plain", "ours"])
    def test_a_result_that_cannot_be_encoded_is_an_error_that_was_executed(self, result: Any, headers: Any) -> None:
        async def bad() -> Any:
            return result() if result is half else result

        async def scenario(b: Bench) -> None:
            b.method(bad)
            await b.serve()
            reply = await b.ask(call("bad"), headers)
            assert code(reply) == -32603
            assert "bad" in reply["error"]["message"]
            assert reply["error"]["data"]["executed"] is True
            assert (await b.ask(call("echo", [1])))["result"] == 1

        run(scenario)

    def test_a_result_over_the_limit_is_an_error_that_was_executed(self) -> None:
        async def large() -> str:
            return "x" * 1000

        async def scenario(b: Bench) -> None:
            b.method(large)
            await b.serve(limits=Limits(max_body=500))
            reply = await b.ask(call("large"))
            assert code(reply) == -32006
            assert reply["error"]["data"]["executed"] is True

        run(scenario)

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("plain"), ValueError("\ud800"), ValueError("x" * 1_000_000), ValueError(object()), Unshowable(),
            ApplicationError("details", details=object()), ApplicationError("details", details={"a": "\ud800"}),
            ApplicationError("type", type="\ud800"), ApplicationError("type", type=object()),  # type: ignore[arg-type]
            ApplicationError("details", details=["x" * 5_000_000]), ApplicationError("code", code="x"),  # type: ignore[arg-type]
            ApplicationError("wait", retry_after=float("nan")), ApplicationError("wait", retry_after=object()),  # type: ignore[arg-type]
            ApplicationError("certainty", certainty="perhaps"),  # type: ignore[arg-type]
            SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(),
            ExceptionGroup("g", [ValueError()]),
        ],
        ids=range(19),
    )  # fmt: skip
    @pytest.mark.parametrize("headers", [None, OURS], ids=["plain", "ours"])
    @pytest.mark.parametrize("colour", ["coroutine", "thread"])
    def test_whatever_a_handler_raises_has_an_error_reply_and_the_server_goes_on(
        self, error: BaseException, headers: Any, colour: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def raises() -> None:
            raise error

        def raises_in_thread() -> None:
            raise error

        async def scenario(b: Bench) -> None:
            b.method(raises if colour == "coroutine" else raises_in_thread, "raises")
            await b.serve(concurrency=1)
            reply = await b.ask(call("raises"), headers)
            assert isinstance(code(reply), int)
            assert reply["error"]["data"]["executed"] is not False
            assert (await b.ask(call("echo", [1])))["result"] == 1

        run(scenario)

    def test_the_error_of_a_call_that_a_handler_made_is_not_its_own(self) -> None:
        """A caller that reads "not executed" tries again, and what the handler did before is done twice."""
        errors = [
            inner_error(Overloaded, received=True),
            inner_error(InvalidParams, received=True),
            DeadlineExceeded("inner"),
            ConfigurationError("inner"),
        ]

        async def outer(number: int) -> None:
            raise errors[number]

        async def scenario(b: Bench) -> None:
            b.method(outer)
            await b.serve()
            for number, error in enumerate(errors):
                reply = await b.ask(call("outer", [number]))
                assert code(reply) == -32000
                assert reply["error"]["data"]["executed"] is True
                assert reply["error"]["data"]["type"] == type(error).__name__

        run(scenario)

    def test_an_error_that_a_handler_chose_is_its_answer(self) -> None:
        async def busy() -> None:
            raise Overloaded("later", retry_after=3.0)

        async def scenario(b: Bench) -> None:
            b.method(busy)
            await b.serve()
            reply = await b.ask(call("busy"))
            assert code(reply) == -32001
            assert reply["error"]["data"] == {"executed": False, "retry_after": 3.0}

        run(scenario)

    def test_a_handler_sees_what_came_with_its_call(self) -> None:
        seen: list[Context] = []

        async def look(ctx: Context) -> None:
            seen.append(ctx)

        async def scenario(b: Bench) -> None:
            b.method(look)
            await b.serve()
            meta = {
                "ttl": 5000,
                "attempt": 3,
                "safety": "idempotent",
                "tags": {"a": "b"},
                "trace": {"traceparent": "x"},
            }
            await b.ask(call("look", id_=1, **meta), OURS)
            await b.ask(call("look"), expiration="7000")
            await b.ask(call("look"))
            first, second, third = seen
            assert (first.method, first.attempt, first.safety) == ("look", 3, Safety.IDEMPOTENT)
            assert (first.tags, first.trace, first.key, first.redelivered) == (
                {"a": "b"},
                {"traceparent": "x"},
                None,
                False,
            )
            assert 4 < first.remaining() <= 5
            assert 6 < second.remaining() <= 7
            assert third.remaining() == float("inf")
            assert (third.safety, third.attempt, third.tags, third.trace) == (Safety.UNSAFE, 1, {}, None)
            assert repr(first) == "Context(method='look', attempt=3, safety=<Safety.IDEMPOTENT: 'idempotent'>)"

        run(scenario)

    @pytest.mark.parametrize("expiration", ["0", "9" * 12])
    def test_an_expiration_is_a_deadline(self, expiration: str) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send(call("note", [1]), expiration=expiration)
            b.send(call("echo", [1], "last"))
            await turns(lambda: any(b"last" in d.body for d in b.replies.deliveries))
            assert b.ran == ([] if expiration == "0" else [1])

        run(scenario)

    @pytest.mark.parametrize("colour", ["coroutine", "thread"])
    def test_a_method_may_have_a_limit_of_its_own(self, colour: str) -> None:
        release = threading.Event()

        async def hangs() -> None:
            await asyncio.Event().wait()

        def blocks() -> None:
            release.wait(10)

        async def scenario(b: Bench) -> None:
            b.method(hangs if colour == "coroutine" else blocks, "slow", timeout=0.03)
            serving = await b.serve()
            reply = await b.ask(call("slow", ttl=60_000), OURS)
            assert code(reply) == -32010
            assert reply["error"]["data"]["executed"] is None
            release.set()
            await turns(lambda: serving.health()["running"] == 0)

        run(scenario)

    def test_a_call_whose_caller_has_given_up_is_not_answered(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send(call("wait", [1], ttl=30), OURS)
            await turns(lambda: b.ran == [1])
            await b.settled()
            assert b.replies.deliveries == []

        run(scenario)


class TestRedelivery:
    @pytest.mark.parametrize("declared", [None, Safety.UNSAFE])
    def test_an_unsafe_call_that_may_have_been_begun_is_not_run_again(self, declared: Safety | None) -> None:
        async def scenario(b: Bench) -> None:
            async def once() -> None:
                b.ran.append("once")

            b.method(once, safety=declared)
            await b.as_redelivered(call("once"))
            await b.serve()
            reply = await b.reply()
            assert code(reply) == -32010
            assert reply["error"]["data"]["executed"] is None
            assert b.ran == []
            await b.settled()

        run(scenario)

    @pytest.mark.parametrize("how", ["declared", "meta", "header"])
    def test_a_repeatable_one_is(self, how: str) -> None:
        async def scenario(b: Bench) -> None:
            async def again(ctx: Context) -> bool:
                return ctx.redelivered

            b.method(again, safety=Safety.IDEMPOTENT if how == "declared" else None)
            meta = {"safety": "read_only"} if how == "meta" else {}
            headers = {**OURS, **({"rpc-safety": "read_only"} if how == "header" else {})}
            await b.as_redelivered(call("again", **meta), headers)
            await b.serve()
            assert (await b.reply())["result"] is True
            await b.settled()

        run(scenario)

    @pytest.mark.parametrize("safety", ["perhaps", 5, None, "DEDUP", b"\xff"])
    def test_a_header_that_says_nothing_makes_nothing_safe(self, safety: Any) -> None:
        async def scenario(b: Bench) -> None:
            await b.as_redelivered(call("note"), {**OURS, "rpc-safety": safety})
            await b.serve()
            assert code(await b.reply()) == -32010

        run(scenario)

    @pytest.mark.parametrize("headers", [OURS, None], ids=["ours", "plain"])
    @pytest.mark.parametrize("safety", ["unsafe", "read_only"])
    def test_a_copy_of_a_running_call_is_adopted_and_not_run_again(self, headers: Any, safety: str) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send(call("wait", [1], safety=safety), headers)
            await turns(lambda: b.ran == [1])
            b.drop(MemoryConsumer)
            await turns(lambda: b.unacked == 1 and b.bus.queue(QUEUE).consumers == 1)
            b.gate.set()
            assert (await b.reply())["result"] == 1
            await b.settled()
            assert b.ran == [1]
            assert len(b.replies.deliveries) == 1

        run(scenario)

    def test_a_copy_of_an_answered_call_is_acked_and_not_run_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            with monkeypatch.context() as patch:
                patch.setattr(MemoryConsumer, "ack", lambda *_: None)
                b.send(call("note", [1], safety="read_only"), OURS)
                await b.received(1)
                await asyncio.sleep(0.01)
            b.drop(MemoryConsumer)
            await b.settled()
            assert b.ran == [1]
            assert len(b.replies.deliveries) == 1

        run(scenario)

    def test_what_is_remembered_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(letters, "REMEMBERED", 5)

        async def scenario(b: Bench) -> None:
            serving = await b.serve()
            for number in range(20):
                b.send(call("echo"), OURS, correlation_id=f"t.{number}")
            await b.settled()
            assert len(serving._letters._recent) == 5
            assert serving.letters == {}

        run(scenario)


class TestTheWayOut:
    def test_a_reply_that_was_not_confirmed_is_sent_again_on_the_next_connection(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve()
            await turns(lambda: serving.outbox._sessions.session is not None)
            b.bus.freeze()
            b.bus.broker.frozen = False  # only what the server publishes is held
            for session in list(b.bus.broker.sessions):
                if session is b.client or isinstance(session, MemoryConsumer):
                    session.gate(False)
            b.send(call("echo", [1], ttl=60_000), OURS)
            await turns(lambda: serving.health()["unconfirmed_replies"] == 1 and serving.outbox._unconfirmed)
            assert b.unacked == 1
            b.drop(MemoryPublisher)
            assert (await b.reply())["result"] == 1
            await b.settled()

        run(scenario)

    @pytest.mark.parametrize("body", [call("nope", ttl=60_000), call("add", [1], ttl=60_000), b"garbage"])
    def test_an_error_reply_too(self, body: Any) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve()
            await turns(lambda: serving.outbox._sessions.session is not None)
            b.bus.freeze()
            b.bus.broker.frozen = False
            for session in list(b.bus.broker.sessions):
                if session is b.client or isinstance(session, MemoryConsumer):
                    session.gate(False)
            b.send(body, OURS)
            await turns(lambda: serving.outbox._unconfirmed)
            b.drop(MemoryPublisher)
            assert code(await b.reply()) < 0
            await b.settled()

        run(scenario)

    def test_in_an_alarm_replies_wait_and_their_requests_stay_unacked(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve()
            b.send(call("wait", [1]), OURS)
            await turns(lambda: b.ran == [1])
            b.bus.block()
            await turns(lambda: serving.outbox._blocked)
            b.gate.set()
            await turns(lambda: serving.health()["unconfirmed_replies"] == 1)
            assert b.unacked == 1
            b.bus.unblock()
            assert (await b.reply())["result"] == 1
            await b.settled()

        run(scenario)

    def test_a_reply_that_the_broker_refuses_is_given_up_after_some_tries(self) -> None:
        async def scenario(b: Bench) -> None:
            full = QueueSpec(
                name="rpc.reply.full",
                service="x",
                arguments={"x-max-length": 0, "x-overflow": "reject-publish"},
                dead_letters=False,
            )
            with b.bus.broker.turn:
                b.bus.broker.declare(full)
            await b.serve()
            b.send(call("note", [1]), OURS, reply_to="rpc.reply.full")
            await turns(lambda: b.ran == [1])
            await b.settled()
            assert (await b.ask(call("echo", [1])))["result"] == 1

        run(scenario)

    def test_a_caller_that_is_gone_holds_nothing_up(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.send(call("note", [1]), OURS, reply_to="rpc.reply.nobody")
            await turns(lambda: b.ran == [1])
            await b.settled()

        run(scenario)


class TestDrain:
    def test_what_runs_is_finished_and_answered(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve()
            b.send(call("wait", [1]), OURS)
            await turns(lambda: b.ran == [1])
            drain = asyncio.create_task(serving.drain())
            await turns(lambda: b.bus.queue(QUEUE).consumers == 0)
            assert not serving.health()["consuming"]
            assert not drain.done()
            b.gate.set()
            assert await drain
            assert (await b.reply())["result"] == 1
            assert (b.depth, b.unacked) == (0, 0)

        run(scenario)

    def test_what_has_not_begun_goes_back_if_a_repeat_is_harmless_and_is_told_else(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve(concurrency=1, prefetch=10)
            b.send(call("wait", [0]), OURS, correlation_id="t.0")
            await turns(lambda: b.ran == [0])
            b.send(call("note", [1], 1, safety="read_only"), OURS, correlation_id="t.1")
            b.send(call("note", [2], 2), OURS, correlation_id="t.2")
            b.send([call("note", [3], 3, safety="idempotent"), call("note", [4], 4)], OURS, correlation_id="t.3")
            await turns(lambda: serving.health()["waiting"] == 4)
            drain = asyncio.create_task(serving.drain())
            await turns(lambda: len(items(b)) == 3)
            assert {item["id"]: code(item) for item in items(b)} == {2: -32009, 3: -32009, 4: -32009}
            assert {item["error"]["data"]["executed"] for item in items(b)} == {False}
            assert {item["error"]["data"]["retry_after"] for item in items(b)} == {0.0}
            assert b.depth == 1
            b.gate.set()
            assert await drain
            await b.serve("another")
            await turns(lambda: b.ran == [0, 1])
            await b.settled()

        run(scenario)

    @pytest.mark.parametrize("safety", ["read_only", "idempotent", "unsafe"])
    def test_of_a_batch_that_has_begun_those_that_have_not_are_told(self, safety: str) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve(concurrency=1)
            b.send([call("wait", [1], 1), *(call("note", [n], n, safety=safety) for n in (2, 3))], OURS)
            await turns(lambda: b.ran == [1])
            drain = asyncio.create_task(serving.drain())
            await turns(lambda: len(items(b)) == 2)
            assert {item["id"]: code(item) for item in items(b)} == {2: -32009, 3: -32009}
            b.gate.set()
            assert await drain
            assert items(b)[2]["result"] == 1
            assert (b.ran, b.depth, b.unacked, b.dead()) == ([1], 0, 0, [])

        run(scenario)

    def test_casts_of_a_batch_that_has_begun_go_back_without_it(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve(concurrency=1)
            body = [
                notification("wait", [1]),
                call("note", [2], 2),
                notification("note", [3]),
                notification("note", [4]),
            ]
            b.send(body, OURS, message_id="m")
            await turns(lambda: b.ran == [1])
            drain = asyncio.create_task(serving.drain())
            await turns(lambda: b.depth == 1)
            assert not drain.done()
            b.gate.set()
            assert await drain
            assert [code(item) for item in items(b)] == [-32009]
            assert (b.ran, b.unacked) == ([1], 0)
            await b.serve("another")
            await b.settled()
            assert (b.ran, b.dead()) == ([1, 3, 4], [])

        run(scenario)

    def test_casts_that_no_queue_takes_back_are_dead_letters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve(concurrency=1)
            b.send([notification("wait", [1]), notification("note", [2])], OURS)
            await turns(lambda: b.ran == [1])
            returned = DeadLetters.return_calls
            monkeypatch.setattr(DeadLetters, "return_calls", lambda *args: args[-1](False))
            drain = asyncio.create_task(serving.drain())
            await turns(lambda: serving.health()["refused"] == 1)
            monkeypatch.setattr(DeadLetters, "return_calls", returned)
            b.gate.set()
            assert await drain
            assert (b.ran, b.dead(), b.unacked) == ([1], ["refused"], 0)

        run(scenario)

    def test_casts_that_cannot_be_cut_out_of_what_was_filtered_are_dead_letters(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve(concurrency=1, filters=(Compression(),))
            b.send([notification("wait", [1]), notification("note", [2])], OURS)
            await turns(lambda: b.ran == [1])
            drain = asyncio.create_task(serving.drain())
            await turns(lambda: serving.health()["refused"] == 1)
            b.gate.set()
            assert await drain
            assert (b.ran, b.dead(), b.depth, b.unacked) == ([1], ["refused"], 0, 0)

        run(scenario)

    def test_what_arrives_meanwhile_goes_back_too(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve()
            hold = asyncio.Event()
            consumer: Any = serving.session
            cancel = consumer.cancel

            async def slow_cancel() -> None:
                await hold.wait()
                await cancel()

            consumer.cancel = slow_cancel
            drain = asyncio.create_task(serving.drain())
            await asyncio.sleep(0)
            b.send(call("note", [1], 1, safety="read_only"), OURS, correlation_id="t.1")
            b.send(call("note", [2], 2), OURS, correlation_id="t.2")
            assert code(await b.reply()) == -32009
            hold.set()
            assert await drain
            assert b.ran == []
            await b.serve("another")
            await turns(lambda: b.ran == [1])
            await b.settled()

        run(scenario)

    def test_what_does_not_end_in_the_time_of_grace_is_cancelled_and_its_caller_told(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve(grace=0.05)
            b.send(call("wait", [1], 1), OURS, correlation_id="t.1")
            b.send(call("wait", [2], 2), correlation_id="t.2")
            await turns(lambda: b.ran == [1, 2])
            assert not await serving.drain()
            assert {item["id"]: code(item) for item in items(b)} == {1: -32010, 2: -32010}
            assert (b.depth, b.unacked) == (0, 0)

        run(scenario)

    def test_a_thread_that_does_not_end_is_answered_for(self) -> None:
        release = threading.Event()

        async def scenario(b: Bench) -> None:
            def blocks() -> None:
                b.ran.append(1)
                release.wait(10)

            b.method(blocks)
            serving = await b.serve(grace=0.05)
            b.send(call("blocks"), OURS)
            await turns(lambda: b.ran == [1])
            assert not await serving.drain()
            release.set()
            assert code(await b.reply()) == -32010
            assert (b.depth, b.unacked) == (0, 0)

        run(scenario)

    def test_a_handler_that_will_not_be_cancelled_does_not_hold_the_end_up(self) -> None:
        async def scenario(b: Bench) -> None:
            release = asyncio.Event()

            async def stubborn() -> None:
                b.ran.append(1)
                while not release.is_set():
                    try:
                        await release.wait()
                    except asyncio.CancelledError:
                        b.ran.append("no")

            b.method(stubborn)
            serving = await b.serve(grace=0.02)
            b.send(call("stubborn"), OURS)
            await turns(lambda: b.ran == [1])
            assert not await asyncio.wait_for(serving.drain(), 5)
            assert "no" in b.ran
            assert b.depth == 1, "another server may answer for it"
            release.set()

        run(scenario)

    def test_a_connection_that_has_just_ended_does_not_hold_the_end_up(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve(grace=5.0)
            b.send(call("wait", [1]), OURS)
            await turns(lambda: b.ran == [1])
            consumer: Any = serving.session

            async def cancel() -> None:
                raise ConnectionError("it has just ended")

            consumer.cancel = cancel
            b.gate.set()
            assert await serving.drain()
            assert (await b.reply())["result"] == 1

        run(scenario)

    def test_a_broker_that_does_not_answer_does_not_hold_the_end_up(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve(grace=0.1)
            b.bus.freeze()
            async with asyncio.timeout(8):
                await serving.drain()

        run(scenario)

    def test_while_the_way_out_is_blocked_the_drain_waits_for_its_replies(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve()
            b.bus.block()
            await turns(lambda: serving.outbox._blocked)
            b.bus.publish(QUEUE, json.dumps(call("echo", [1])).encode(), reply_to=b.client.reply_to)
            await turns(lambda: serving.health()["unconfirmed_replies"] == 1)
            drain = asyncio.create_task(serving.drain())
            await turns(lambda: b.bus.queue(QUEUE).consumers == 0)
            assert not drain.done()
            b.bus.unblock()
            assert await drain
            assert (await b.reply())["result"] == 1

        run(scenario)


class TestConnecting:
    def test_a_queue_with_other_arguments_is_told_at_once_and_served_when_mended(self) -> None:
        async def scenario(b: Bench) -> None:
            other = QueueSpec(name=QUEUE, service="shop", arguments={"x-max-length": 5})
            with b.bus.broker.turn:
                b.bus.broker.declare(other)
            with pytest.raises(ConfigurationError, match="x-max-length"):
                await b.serve()
            b.bus.delete(QUEUE)
            await turns(lambda: QUEUE in b.bus.queues and b.bus.queue(QUEUE).consumers == 1)

        run(scenario)

    def test_a_broker_that_is_down_is_said_to_be(self) -> None:
        async def scenario(b: Bench) -> None:
            b.bus.broker.refusing = True
            serving = core.Serving(
                MemoryTransport(b.bus.name),
                QueueSpec(name=QUEUE, service="shop"),
                b.methods,
                ServingOptions(),
                b.hub,
                "s",
            )
            serving.start()
            with pytest.raises(TimeoutError, match="the bus is down"):
                await serving.ready(0.05)
            b.bus.up()
            await serving.ready(10)
            await serving.close()
            states = [event.state for event in b.events if isinstance(event, events.ConnectionStateChanged)]
            assert set(states) >= {"failed", "connected"}

        run(scenario)

    def test_a_queue_that_is_deleted_is_declared_again(self) -> None:
        async def scenario(b: Bench) -> None:
            await b.serve()
            b.bus.delete(QUEUE)
            await turns(lambda: QUEUE in b.bus.queues and b.bus.queue(QUEUE).consumers == 1)
            assert (await b.ask(call("echo", [1])))["result"] == 1

        run(scenario)

    @pytest.mark.parametrize("name", ["concurrency", "prefetch"])
    @pytest.mark.parametrize("value", [0, -1, 65_536, True, 1.5, "1"])
    def test_a_number_that_is_none_is_a_configuration_error(self, name: str, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=name):
            ServingOptions(**{name: value})

    def test_no_more_messages_are_taken_than_the_prefetch(self) -> None:
        async def scenario(b: Bench) -> None:
            serving = await b.serve(concurrency=2, prefetch=3)
            for number in range(6):
                b.send(call("wait", [number], number), OURS, correlation_id=f"t.{number}")
            await turns(lambda: b.unacked == 3 and len(b.ran) == 2)
            assert b.depth == 3
            health = serving.health()
            assert (health["running"], health["waiting"], health["slots"], health["unacked"]) == (2, 1, 2, 3)
            b.gate.set()
            await b.settled()
            assert len(items(b)) == 6

        run(scenario)
