from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from resilient_rpc import ApplicationError, Context, Refused, Server
from resilient_rpc.call import Safety
from resilient_rpc.errors import NOT_EXECUTED, ConfigurationError, DependencyUnavailable, MethodNotFound, Overloaded
from resilient_rpc.events import RequestRefused
from resilient_rpc.policies import Idempotency
from resilient_rpc.serving.access import check_access, check_allow
from resilient_rpc.stores import MemoryStore
from tests.serving.bench import bench, call

CONTEXT = Context("price", 1.0, Safety.UNSAFE, tags={"role": "buyer"}, principal="shop-1")


def raises(error: BaseException) -> Callable[[Context], bool]:
    def allow(_: Context) -> bool:
        raise error

    return allow


def refusal(*guards: Any) -> Any:
    with pytest.raises(Exception) as info:
        check_access(guards, CONTEXT)
    return info.value


def test_who_is_allowed_by_all_passes() -> None:
    check_access((), CONTEXT)
    check_access((lambda ctx: ctx.tags["role"] == "buyer", lambda ctx: ctx.principal), CONTEXT)


@pytest.mark.parametrize("answer", [False, None, 0, "", []])
def test_whatever_is_false_refuses(answer: object) -> None:
    error = refusal(lambda _: True, lambda _: answer)
    assert type(error) is Refused
    assert (error.certainty, error.retryable) == (NOT_EXECUTED, False)


def test_what_fails_refuses_and_only_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    error = refusal(raises(KeyError("the secret of the table")))
    assert type(error) is Refused
    assert "secret" not in str(error)
    assert "the secret of the table" in caplog.text


@pytest.mark.parametrize(
    "error", [Refused("only for buyers"), Overloaded("later", retry_after=3.0), DependencyUnavailable("no directory")]
)
def test_an_error_of_the_library_is_what_the_caller_is_told(error: Exception) -> None:
    assert refusal(raises(error)) is error


@pytest.mark.parametrize("error", [ApplicationError("not yours"), MethodNotFound("x")])
def test_no_error_can_say_that_the_call_was_executed(error: Any) -> None:
    told = refusal(raises(error))
    assert told.certainty is NOT_EXECUTED


def test_one_that_came_from_another_server_is_not_passed_on() -> None:
    error = Refused("theirs")
    error.received = True
    assert refusal(raises(error)) is not error


async def _waits(_: Context) -> bool:
    return True


class _Object:
    async def __call__(self, _: Context) -> bool:
        return True


@pytest.mark.parametrize("allow", [_waits, _Object(), functools.partial(_waits), "yes", 1])
def test_what_cannot_decide_at_once_is_refused_when_it_is_registered(allow: Any) -> None:
    server = Server("memory://access", service="shop")
    with pytest.raises(ConfigurationError, match="allow="):
        server.method(name="price", allow=allow)
    with pytest.raises(ConfigurationError, match="allow="):
        Server("memory://access", service="shop", allow=allow)
    assert check_allow(None) is None


def test_a_coroutine_that_nobody_awaits_does_not_open_the_door(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert type(refusal(_waits)) is Refused
    assert "coroutine" in caplog.text


def test_a_refused_call_is_neither_decoded_nor_recorded() -> None:
    async def main() -> None:
        async with bench() as made:
            store, seen = MemoryStore(), []

            def allow(ctx: Context) -> bool:
                seen.append((ctx.method, ctx.key, dict(ctx.tags), ctx.principal, ctx.priority))
                return len(seen) > 1

            made.method(made.note, "guarded", safety=Safety.DEDUP, allow=(allow,))
            serving = await made.serve(policies=(Idempotency(store),))
            made_of = {"key": "k", "safety": "dedup", "tags": {"role": "x"}}
            told = await made.ask(call("guarded", {"nonsense": 1}, **made_of), priority=200)
            assert told["error"]["code"] == -32008
            assert told["error"]["data"]["executed"] is False
            assert seen == [("guarded", "k", {"role": "x"}, None, 9)]
            assert [type(event) for event in made.events if isinstance(event, RequestRefused)] == [RequestRefused]
            assert serving.health()["refused"] == 1
            assert (await made.ask(call("guarded", {"value": 5}, **made_of)))["result"] == 5
            assert made.ran == [5]

    asyncio.run(main())


def test_the_servers_word_and_the_methods_must_both_allow_it() -> None:
    asked: list[str] = []

    def of_server(ctx: Context) -> bool:
        asked.append(f"server {ctx.method}")
        return ctx.tags.get("role") != "stranger"

    def of_method(ctx: Context) -> bool:
        asked.append(f"method {ctx.method}")
        return False

    server = Server("memory://access", service="shop", allow=of_server)

    @server.method(allow=of_method)
    def price() -> int:
        return 1

    @server.method
    def stock() -> int:
        return 2

    methods = cast("Any", server)._methods
    assert methods.find("price").allow == (of_server, of_method)
    assert methods.find("stock").allow == (of_server,)
    with pytest.raises(Refused):
        check_access(methods.find("price").allow, CONTEXT)
    assert asked == ["server price", "method price"]
