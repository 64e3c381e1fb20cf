from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.chain import Chain, compose
from resilient_rpc.errors import (
    EXECUTED,
    NOT_EXECUTED,
    UNKNOWN,
    ApplicationError,
    BulkheadFull,
    Certainty,
    CircuitOpen,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    InvalidParams,
    NotConnected,
    Overloaded,
    RpcError,
    UsageError,
)
from resilient_rpc.events import PolicyEvent
from resilient_rpc.hub import Events
from resilient_rpc.policies import Deadline, Fallback
from resilient_rpc.policies.fallback import FallbackFailed, FallbackSuppressed, FallbackUsed
from resilient_rpc.policy import Handler
from tests.runtimes import Bench

ANSWERS_OF_THE_APPLICATION = [ApplicationError("no"), InvalidParams("x is not a number")]
NO_ANSWERS = [
    NotConnected("away"),
    ConnectionLost("cut"),
    CircuitOpen("open"),
    BulkheadFull("full"),
    DeadlineExceeded("late"),
    Overloaded("busy"),
]


class Heard:
    """The events of policies, in order."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.events = Events()
        self.events.on(PolicyEvent, self.all.append)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def failing(error: BaseException) -> Handler:
    async def handler(_: Call) -> Reply:
        raise error

    return handler


def by_service(**answers: Any) -> Handler:
    """Answers, or fails, by the service that is called."""

    async def handler(call: Call) -> Reply:
        answer = answers[call.target]
        if isinstance(answer, BaseException):
            raise answer
        return Reply(result=answer(call) if callable(answer) else answer)

    return handler


def test_an_answer_passes_as_it_is(runtime: Bench, heard: Heard) -> None:
    reply = runtime.call(compose([Fallback(value=0)], by_service(orders=5)), events=heard.events)
    assert (reply.result, reply.degraded) == (5, False)
    assert heard.all == []


@pytest.mark.parametrize("error", NO_ANSWERS, ids=repr)
def test_a_value_stands_in_where_there_is_no_answer(runtime: Bench, heard: Heard, error: RpcError) -> None:
    error.attempts = 3
    reply = runtime.call(compose([Fallback(value=[])], failing(error)), events=heard.events)
    assert (reply.result, reply.degraded, reply.attempts) == ([], True, 3)
    (used,) = heard.all
    assert used == FallbackUsed(policy="Fallback", method="orders.create", target="orders", source="value", error=error)


def test_none_is_a_value(runtime: Bench) -> None:
    reply = runtime.call(compose([Fallback(value=None)], failing(NotConnected(""))))
    assert (reply.result, reply.degraded) == (None, True)


@pytest.mark.parametrize("error", ANSWERS_OF_THE_APPLICATION, ids=repr)
def test_an_answer_of_the_application_comes_out(runtime: Bench, heard: Heard, error: RpcError) -> None:
    with pytest.raises(type(error)) as info:
        runtime.call(compose([Fallback(value=0)], failing(error)), events=heard.events)
    assert info.value is error
    assert heard.all == []


@pytest.mark.parametrize("error", [ConfigurationError("bad"), UsageError("closed")], ids=repr)
def test_a_mistake_of_the_program_is_never_hidden(runtime: Bench, error: RpcError) -> None:
    with pytest.raises(type(error)):
        runtime.call(compose([Fallback(value=0, on=Exception)], failing(error)))


def test_an_error_that_is_none_of_this_library_comes_out_unless_it_is_listed(runtime: Bench) -> None:
    with pytest.raises(KeyError):
        runtime.call(compose([Fallback(value=0)], failing(KeyError("x"))))
    reply = runtime.call(compose([Fallback(value=0, on=KeyError)], failing(KeyError("x"))))
    assert (reply.result, reply.attempts) == (0, 1)


@pytest.mark.parametrize("on", [ApplicationError, [KeyError, ApplicationError], lambda error: error.code == -32000])
def test_which_errors_can_be_chosen(runtime: Bench, on: Any) -> None:
    chain = compose([Fallback(value="instead", on=on)], failing(ApplicationError("no")))
    assert runtime.call(chain).result == "instead"


def test_only_the_chosen_errors_are_hidden(runtime: Bench) -> None:
    with pytest.raises(NotConnected):
        runtime.call(compose([Fallback(value=0, on={ApplicationError})], failing(NotConnected("away"))))


def test_each_caller_gets_a_value_of_its_own(runtime: Bench) -> None:
    given = {"items": [1]}
    chain = compose([Fallback(value=given)], failing(NotConnected("")))
    given["items"].append(2)
    first = runtime.call(chain).result
    first["items"].clear()
    assert runtime.call(chain).result == {"items": [1]}


def test_a_handler_makes_a_value_from_the_call_and_its_error(runtime: Bench, heard: Heard) -> None:
    def instead(call: Call, error: Exception) -> str:
        return f"{call.method} {error}"

    chain = compose([Fallback(handler=instead)], failing(NotConnected("away")))
    reply = runtime.call(chain, "orders.price", events=heard.events)
    assert (reply.result, reply.degraded) == ("orders.price away", True)
    assert heard.all[0].source == "handler"


def test_a_handler_that_fails_leaves_the_error_of_the_call(runtime: Bench, heard: Heard) -> None:
    def broken(call: Call, error: Exception) -> Any:
        raise KeyError("x")

    error = NotConnected("away")
    with pytest.raises(NotConnected) as info:
        runtime.call(compose([Fallback(handler=broken, name="prices")], failing(error)), events=heard.events)
    assert info.value is error
    assert isinstance(info.value.__context__, KeyError)
    assert info.value.certainty is NOT_EXECUTED
    (failed,) = heard.all
    assert isinstance(failed, FallbackFailed)
    assert (failed.policy, failed.source, failed.error) == ("prices", "handler", error)
    assert isinstance(failed.failure, KeyError)


def test_a_predicate_that_fails_leaves_the_error_of_the_call(runtime: Bench) -> None:
    with pytest.raises(NotConnected) as info:
        runtime.call(compose([Fallback(value=0, on=lambda error: error.unknown)], failing(NotConnected("away"))))  # type: ignore[attr-defined]
    assert isinstance(info.value.__context__, AttributeError)


def test_a_handler_that_returns_a_coroutine_is_named(runtime: Bench) -> None:
    async def late() -> int:
        return 1

    with pytest.raises(NotConnected) as info:
        runtime.call(compose([Fallback(handler=lambda call, error: late())], failing(NotConnected("away"))))
    assert "coroutine" in str(info.value.__context__)


def test_a_second_target_is_asked_the_same(runtime: Bench, heard: Heard) -> None:
    def asked(call: Call) -> Any:
        return call.method, call.params, call.key, call.deadline - call.runtime.now()

    chain = compose([Fallback(target="orders2")], by_service(orders=NotConnected("away"), orders2=asked))
    reply = runtime.call(chain, "orders.price.net", params=[1], key="k", timeout=20, events=heard.events)
    assert (reply.result, reply.degraded) == (("orders2.price.net", [1], "k", 20.0), True)
    (used,) = heard.all
    assert (used.method, used.target, used.source) == ("orders.price.net", "orders", "target")


def test_a_second_target_has_what_is_left_of_the_time(runtime: Bench) -> None:
    async def handler(call: Call) -> Reply:
        if call.target == "orders2":
            return Reply(result=call.remaining())
        await call.runtime.sleep(call.remaining())
        raise DeadlineExceeded("late", certainty=NOT_EXECUTED)

    chain = Chain([Fallback(target="orders2"), Deadline(limit=4)], handler)
    assert runtime.call(chain.handler, timeout=5).result == 1.0
    assert runtime.call(chain.handler, timeout=20).result == 4.0


def test_a_second_target_is_not_asked_when_time_is_up(runtime: Bench, heard: Heard) -> None:
    async def handler(call: Call) -> Reply:
        await call.runtime.sleep(call.remaining())
        raise DeadlineExceeded("late", certainty=NOT_EXECUTED)

    with pytest.raises(DeadlineExceeded) as info:
        runtime.call(compose([Fallback(target="orders2")], handler), timeout=5, events=heard.events)
    (suppressed,) = heard.all
    assert suppressed == FallbackSuppressed(
        policy="Fallback", method="orders.create", target="orders", reason="deadline", error=info.value
    )


def test_a_service_is_no_fallback_for_itself(runtime: Bench, heard: Heard) -> None:
    calls: list[str] = []

    async def handler(call: Call) -> Reply:
        calls.append(call.method)
        raise NotConnected("away")

    with pytest.raises(NotConnected):
        runtime.call(compose([Fallback(target="orders")], handler), events=heard.events)
    assert calls == ["orders.create"]
    assert heard.all[0].reason == "itself"


@pytest.mark.parametrize(
    ("certainty", "safety", "asked"),
    [
        (NOT_EXECUTED, Safety.UNSAFE, True),
        (NOT_EXECUTED, Safety.DEDUP, True),
        (UNKNOWN, Safety.READ_ONLY, True),
        (UNKNOWN, Safety.IDEMPOTENT, True),
        (UNKNOWN, Safety.DEDUP, False),  # the second service has no record of the key
        (UNKNOWN, Safety.UNSAFE, False),
        (EXECUTED, Safety.READ_ONLY, False),
    ],
)
def test_a_second_target_is_asked_only_where_nothing_can_take_effect_twice(
    runtime: Bench, heard: Heard, certainty: Certainty, safety: Safety, asked: bool
) -> None:
    chain = compose([Fallback(target="orders2")], by_service(orders=ConnectionLost("", certainty=certainty), orders2=2))
    if asked:
        assert runtime.call(chain, safety=safety).result == 2
    else:
        with pytest.raises(ConnectionLost):
            runtime.call(chain, safety=safety, events=heard.events)
        assert [event.reason for event in heard.all] == ["unsafe"]


def test_an_error_of_another_kind_says_nothing_about_execution(runtime: Bench) -> None:
    chain = compose([Fallback(target="orders2", on=KeyError)], by_service(orders=KeyError("x"), orders2=2))
    with pytest.raises(KeyError):
        runtime.call(chain, safety=Safety.READ_ONLY)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (NotConnected("away too"), NOT_EXECUTED),
        (ConnectionLost("cut"), UNKNOWN),
        (ApplicationError("no"), EXECUTED),
        (ValueError("bug"), UNKNOWN),
    ],
    ids=repr,
)
def test_when_both_targets_fail_the_first_error_comes_out_and_is_honest(
    runtime: Bench, second: Exception, expected: Certainty
) -> None:
    first = NotConnected("away")
    with pytest.raises(NotConnected) as info:
        runtime.call(compose([Fallback(target="orders2")], by_service(orders=first, orders2=second)))
    assert info.value is first
    assert info.value.__context__ is second
    assert info.value.certainty is expected


def test_cancellation_is_no_failure(runtime: Bench, heard: Heard) -> None:
    with pytest.raises(asyncio.CancelledError):
        runtime.call(compose([Fallback(value=0)], failing(asyncio.CancelledError())), events=heard.events)
    assert heard.all == []


def test_cancellation_of_the_second_target_comes_out(runtime: Bench) -> None:
    chain = compose([Fallback(target="orders2")], by_service(orders=NotConnected(""), orders2=asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        runtime.call(chain)


class _Twofold:
    role = "retry"

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        try:
            return await proceed(call)
        except NotConnected:
            return await proceed(call)


def test_stands_outside_of_everything() -> None:
    with pytest.raises(ConfigurationError, match="must stand before"):
        Chain([Deadline(limit=5), Fallback(value=0)], by_service())
    with pytest.raises(ConfigurationError, match="nothing to retry"):
        Chain([_Twofold(), Fallback(value=0)], by_service())
    Chain([Fallback(value=0), Fallback(target="orders2"), Deadline(limit=5), _Twofold()], by_service())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"value": 1, "target": "orders2"},
        pytest.param({"value": None, "handler": lambda call, error: 1}, id="both value and handler"),
        {"handler": 5},
        {"target": "orders.price"},
        {"target": ""},
        {"target": 3},
        pytest.param({"value": threading.Lock()}, id="a lock"),
        {"value": 1, "on": ()},
        {"value": 1, "on": "NotConnected"},
        {"value": 1, "on": 5},
        {"value": 1, "on": asyncio.CancelledError},
        {"value": 1, "on": [NotConnected, ConfigurationError]},
        {"value": 1, "on": int},
    ],
    ids=repr,
)
def test_a_wrong_setting_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Fallback"):
        Fallback(**settings)


async def _coroutine(*_: Any) -> bool:
    return True


@pytest.mark.parametrize("settings", [{"handler": _coroutine}, {"value": 1, "on": _coroutine}])
def test_what_would_have_to_be_awaited_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="plain function"):
        Fallback(**settings)


def test_a_partial_function_is_a_handler(runtime: Bench) -> None:
    def instead(answer: int, call: Call, error: Exception) -> int:
        return answer

    handler: Callable[[Call, Exception], int] = functools.partial(instead, 7)
    assert runtime.call(compose([Fallback(handler=handler)], failing(NotConnected("")))).result == 7
