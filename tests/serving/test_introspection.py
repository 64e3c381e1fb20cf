"""Messages to `rpc.ping` and `rpc.discover` that no client of ours would send; and handlers that hold the loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from resilient_rpc.events import LoopBlocked
from tests.serving.bench import OURS, Bench, bench, call, notification


def serving(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with bench() as made:
            await scenario(made)

    asyncio.run(main())


def test_a_message_of_many_questions_gets_one_description() -> None:
    async def main(b: Bench) -> None:
        await b.serve()
        found = await b.ask([call("rpc.discover", id_=n) for n in range(100)])
        described = [each for each in found if "result" in each]
        assert len(described) == 1
        assert {each["error"]["code"] for each in found if "error" in each} == {-32008}
        assert (await b.ask(call("shop.rpc.discover")))["result"]["info"]["title"] == "shop"
        assert (await b.ask(call("shop.rpc.discover")))["result"]["info"]["title"] == "shop"

    serving(main)


def test_plain_speakers_get_plain_answers_and_ours_the_version() -> None:
    async def main(b: Bench) -> None:
        await b.serve(name="one")
        plain = await b.ask(call("rpc.ping"))
        assert set(plain) == {"jsonrpc", "result", "id"}
        version = plain["result"]["version"]
        for body in (call("rpc.ping"), call("echo"), call("nothing"), call("add", ["x"]), call("fail")):
            assert (await b.ask(body, OURS))["meta"]["v"] == version

    serving(main)


def test_an_answer_that_nobody_waits_for_is_not_sent() -> None:
    async def main(b: Bench) -> None:
        await b.serve()
        late = await b.ask(call("rpc.ping", at=0, ttl=0))
        assert late["error"]["code"] == -32002
        b.send(notification("rpc.ping"))
        b.send(call("rpc.ping"), reply_to=None)
        await b.settled()
        assert len(b.replies.deliveries) == 1

    serving(main)


@pytest.mark.parametrize(
    "params", [b"[[[[[[[[]]]]]]]]", b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", b"5", b'"x"', b"null", b'["\xff"]']
)
def test_params_of_any_kind_are_no_trouble(params: bytes) -> None:
    async def main(b: Bench) -> None:
        await b.serve()
        found = await b.ask(b'{"jsonrpc":"2.0","method":"rpc.ping","id":1,"params":' + params + b"}")
        if params == b"null":
            assert "result" in found
        else:
            assert found["error"]["code"] in {-32602, -32600, -32006}

    serving(main)


class TestBlocked:
    def test_a_handler_that_holds_the_loop_is_named(self, caplog: pytest.LogCaptureFixture) -> None:
        async def hold(seconds: float) -> None:
            time.sleep(seconds)  # noqa: ASYNC251 - that is what is to be noticed

        async def hold_later(seconds: float) -> None:
            await asyncio.sleep(0)
            time.sleep(seconds)  # noqa: ASYNC251
            await asyncio.sleep(0)

        async def hold_first(seconds: float) -> None:
            time.sleep(seconds)  # noqa: ASYNC251
            await asyncio.sleep(0)

        async def main(b: Bench) -> None:
            for function in (hold, hold_later, hold_first):
                b.method(function)
            await b.serve()
            for name in ("hold", "hold_later", "hold_first"):
                await b.ask(call(name, [0.12]))
                await b.ask(call(name, [0.01]))
            found = [event for event in b.events if isinstance(event, LoopBlocked)]
            assert [event.what.partition(":")[0] for event in found] == [
                "shop.hold",
                "shop.hold_later",
                "shop.hold_first",
            ]
            assert all(event.seconds > 0.1 for event in found)

        with caplog.at_level(logging.WARNING):
            serving(main)
        assert sum("shop.hold" in record.getMessage() for record in caplog.records) == 3
