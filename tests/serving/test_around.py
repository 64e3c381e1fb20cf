"""The policies of a server, around handlers of both kinds."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from resilient_rpc import Server
from resilient_rpc.binder import Binder
from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.context import Context, current_context
from resilient_rpc.errors import (
    Certainty,
    CircuitOpen,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    DependencyUnavailable,
    RemoteError,
    TooLarge,
)
from resilient_rpc.events import CallServed, PolicyFaulted, RequestRefused
from resilient_rpc.policies import for_
from resilient_rpc.policy import Handler
from resilient_rpc.runtime import AsyncioRuntime
from resilient_rpc.serving.job import Job
from resilient_rpc.wire.codec import CODECS, JSON
from tests.serving.bench import OURS, Bench, bench, call
from tests.waiting import PATIENCE, turns

Scenario = Callable[[Bench], Awaitable[None]]


def run(scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), bench() as made:
            await scenario(made)

    asyncio.run(main())


class Notes:
    """Passes everything on, and keeps what it saw."""

    def __init__(self, name: str = "", log: list[str] | None = None) -> None:
        self.name, self.log = name, log if log is not None else []
        self.calls: list[Call] = []
        self.ends: list[object] = []

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        self.calls.append(call)
        self.log.append(f"{self.name} in")
        try:
            reply = await proceed(call)
        except BaseException as error:
            self.ends.append(error)
            raise
        self.ends.append(reply.result)
        self.log.append(f"{self.name} out")
        return reply


class Raises:
    """Raises, before or after the handler."""

    def __init__(self, error: BaseException, *, after: bool = False) -> None:
        self.error, self.after = error, after

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        if self.after:
            await proceed(call)
        raise self.error


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        answer: Reply = self.answer
        return answer


class Changes:
    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        return await proceed(call.replace(**self.changes))


class Narrows:
    """Leaves the handler so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        return await proceed(call.replace(deadline=call.runtime.now() + self.seconds))


class Twice:
    """Has it done again after an error."""

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        try:
            return await proceed(call)
        except (ValueError, DeadlineExceeded):
            return await proceed(call.replace(attempt=call.attempt + 1))


def plain(value: Any = None) -> Any:
    return [value, threading.current_thread() is not threading.main_thread()]


async def add_async(a: int, b: int = 1) -> int:
    return a + b


def test_calls_pass_the_chain_in_order_around_handlers_of_both_kinds() -> None:
    async def scenario(made: Bench) -> None:
        log: list[str] = []
        made.method(plain)
        await made.serve(policies=(Notes("outer", log), Notes("inner", log)))
        for method, result in (("plain", [5, True]), ("note_quickly", 5), ("note", 5)):
            assert (await made.ask(call(method, [5])))["result"] == result
            assert log == ["outer in", "inner in", "inner out", "outer out"], method
            log.clear()

    run(scenario)


def test_a_policy_sees_what_was_sent() -> None:
    async def scenario(made: Bench) -> None:
        notes = Notes()
        made.method(add_async, safety=Safety.READ_ONLY)

        async def with_context(a: int, ctx: Context, *, b: int = 2) -> int:
            assert ctx is current_context()
            return a + b

        made.method(with_context)
        serving = await made.serve(policies=(notes,))
        reply = await made.ask(
            call("add_async", {"a": 1}, attempt=3, ttl=5_000, trace={"traceparent": "00-1"}, tags={"tenant": "acme"}),
            OURS,
        )
        assert reply["result"] == 2
        [seen] = notes.calls
        assert (seen.method, seen.target) == ("shop.add_async", "shop")
        assert seen.params == {"a": 1}
        assert (seen.attempt, seen.safety, seen.key) == (3, Safety.READ_ONLY, None)
        assert (seen.trace, seen.tags) == ({"traceparent": "00-1"}, {"tenant": "acme"})
        assert 0 < seen.remaining() <= 5
        assert 0 < seen.timeout <= 5
        assert isinstance(seen.runtime, AsyncioRuntime)
        assert seen.runtime.loop is asyncio.get_running_loop()
        assert seen.events is made.hub
        assert (await made.ask(call("with_context", [1])))["result"] == 3
        assert (await made.ask(call("with_context", {"a": 1, "b": 3})))["result"] == 4
        assert [notes.calls[1].params, notes.calls[2].params] == [{"a": 1}, {"a": 1, "b": 3}]
        assert notes.ends == [2, 3, 4]
        assert serving.health()["running"] == 0

    run(scenario)


def test_the_deadline_of_a_method_is_that_of_its_policies() -> None:
    async def scenario(made: Bench) -> None:
        notes = Notes()
        made.method(add_async, "slow", timeout=2.0)
        await made.serve(policies=(notes,))
        await made.ask(call("slow", [1]))
        assert 0 < notes.calls[0].timeout <= 2

    run(scenario)


def test_a_policy_may_wait_and_start_work() -> None:
    class Works:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            async def work(_: Any) -> int:
                await asyncio.sleep(0)
                return 41

            await call.runtime.sleep(0.001)
            started = call.runtime.start(work)
            assert await call.runtime.wait([started], 5) is started
            reply = await proceed(call)
            return Reply(result=[started.result(), reply.result])

    async def scenario(made: Bench) -> None:
        made.method(plain)
        await made.serve(policies=(Works(),))
        assert (await made.ask(call("plain", [1])))["result"] == [41, [1, True]]
        assert (await made.ask(call("note_quickly", [1])))["result"] == [41, 1]

    run(scenario)


def test_a_policy_may_answer_by_itself_and_say_that_it_is_a_replay() -> None:
    async def scenario(made: Bench) -> None:
        await made.serve(policies=(Answers(Reply(result="kept", replayed=True)),))
        reply = await made.ask(call("note", [1]), OURS)
        assert reply["result"] == "kept"
        assert reply["meta"]["replayed"] is True
        assert made.ran == []
        [served] = [event for event in made.events if isinstance(event, CallServed)]
        assert served.replayed

    run(scenario)


def test_a_policy_may_have_the_handler_begin_again() -> None:
    async def scenario(made: Bench) -> None:
        async def flaky() -> int:
            made.ran.append(1)
            if len(made.ran) == 1:
                raise ValueError
            return len(made.ran)

        made.method(flaky)
        await made.serve(policies=(Twice(),))
        assert (await made.ask(call("flaky")))["result"] == 2

    run(scenario)


def test_the_first_error_of_the_handler_may_be_what_comes_out() -> None:
    class First:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            try:
                return await proceed(call)
            except ValueError as first:
                with contextlib.suppress(ValueError):
                    await proceed(call)
                raise first from None

    async def scenario(made: Bench) -> None:
        await made.serve(policies=(First(),))
        assert (await made.ask(call("fail", ["broken"])))["error"]["data"]["type"] == "ValueError"
        assert not [event for event in made.events if isinstance(event, PolicyFaulted)]

    run(scenario)


def test_an_error_of_the_handler_stays_what_it_is() -> None:
    async def scenario(made: Bench) -> None:
        def sold_out() -> None:
            raise RemoteError("none left", code=-32000, type="sold_out", details=1)

        def nested() -> None:
            raise ConnectionLost("of another call")

        made.method(sold_out)
        made.method(nested)
        notes = Notes()
        await made.serve(policies=(notes,))
        failed = (await made.ask(call("fail", ["broken"])))["error"]
        assert (failed["code"], failed["message"], failed["data"]["type"]) == (-32000, "broken", "ValueError")
        assert isinstance(notes.ends[0], ValueError)
        sold = (await made.ask(call("sold_out")))["error"]
        assert sold["data"] == {"type": "sold_out", "details": 1, "executed": True}
        assert (await made.ask(call("nested")))["error"]["data"]["type"] == "ConnectionLost"
        assert not [event for event in made.events if isinstance(event, PolicyFaulted)]

    run(scenario)


@pytest.mark.parametrize(
    ("error", "code", "executed", "retry_after"),
    [
        (DependencyUnavailable("no store", retry_after=2.0), -32005, False, 2.0),
        (CircuitOpen("open", retry_after=1.5), -32001, False, 1.5),
        (DeadlineExceeded("late", certainty=Certainty.NOT_EXECUTED), -32002, False, None),
        (DeadlineExceeded("late"), -32010, None, None),
        (TooLarge("too much"), -32006, False, None),
        (ConnectionLost("of the store"), -32603, False, None),
    ],
)
def test_what_a_policy_raises_is_the_error_of_the_table(
    error: Exception, code: int, executed: bool | None, retry_after: float | None
) -> None:
    async def scenario(made: Bench) -> None:
        await made.serve(policies=(Raises(error),))
        told = (await made.ask(call("note", [1]), OURS))["error"]
        assert (told["code"], told["message"]) == (code, str(error))
        assert told["data"].get("executed") is executed
        assert told["data"].get("retry_after") == retry_after
        assert made.ran == []

    run(scenario)


def test_a_received_error_of_a_policy_says_nothing_of_this_call() -> None:
    async def scenario(made: Bench) -> None:
        received = DependencyUnavailable("another server's")
        received.received = True
        await made.serve(policies=(Raises(received, after=True),))
        told = (await made.ask(call("note", [1]), OURS))["error"]
        assert (told["code"], told["data"]["executed"]) == (-32603, True)

    run(scenario)


@pytest.mark.parametrize("after", [False, True])
def test_a_policy_that_breaks_is_an_internal_error_and_an_event(after: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(made: Bench) -> None:
        await made.serve(policies=(Notes(), Raises(KeyError("secret"), after=after)))
        told = (await made.ask(call("note", [1]), OURS))["error"]
        assert (told["code"], told["message"]) == (-32603, "a policy of the server failed")
        assert told["data"]["executed"] is after
        [fault] = [event for event in made.events if isinstance(event, PolicyFaulted)]
        assert (fault.policy, fault.reason, fault.method) == ("Raises", "raised", "shop.note")

    run(scenario)
    assert "secret" in caplog.text


def test_a_policy_that_answers_with_something_else_is_an_internal_error() -> None:
    async def scenario(made: Bench) -> None:
        await made.serve(policies=(Answers(5),))
        assert (await made.ask(call("note", [1]), OURS))["error"]["code"] == -32603
        [fault] = [event for event in made.events if isinstance(event, PolicyFaulted)]
        assert fault.reason == "returned"

    run(scenario)


def test_a_policy_cannot_change_the_arguments() -> None:
    async def scenario(made: Bench) -> None:
        await made.serve(policies=(Changes(params={"value": 2}),))
        told = (await made.ask(call("note", [1])))["error"]
        assert (told["code"], told["data"]["executed"]) == (-32603, False)
        assert "cannot change the arguments" in told["message"]
        assert made.ran == []

    run(scenario)


def test_an_override_is_for_its_method_alone() -> None:
    async def scenario(made: Bench) -> None:
        notes = Notes()
        await made.serve(policies=(for_("shop.add", notes),))
        await made.ask(call("note", [1]))
        assert (await made.ask(call("add", [1, 2])))["result"] == 3
        assert [seen.method for seen in notes.calls] == ["shop.add"]

    run(scenario)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_policy_that_leaves_no_time_ends_the_call_before_it_began(seconds: float) -> None:
    async def scenario(made: Bench) -> None:
        await made.serve(policies=(Narrows(seconds),))
        assert (await made.ask(call("note", [1])))["error"]["code"] == -32002
        assert made.ran == []

    run(scenario)


def test_a_coroutine_is_ended_when_the_time_is_up_that_a_policy_left_it() -> None:
    async def scenario(made: Bench) -> None:
        serving = await made.serve(policies=(Notes(), Narrows(0.01)))
        told = (await made.ask(call("wait", [1]), OURS))["error"]
        assert (told["code"], told["data"].get("executed")) == (-32010, None)
        assert serving.health()["running"] == 0
        assert (await made.ask(call("note_quickly", [1])))["result"] == 1

        async def slow_by_itself() -> None:
            raise TimeoutError("its own")

        made.method(slow_by_itself)
        assert (await made.ask(call("slow_by_itself")))["error"]["data"]["type"] == "TimeoutError"

    run(scenario)


def test_a_thread_keeps_its_slot_when_a_policy_gives_up_on_it() -> None:
    gate = threading.Event()

    async def scenario(made: Bench) -> None:
        def block() -> int:
            gate.wait(PATIENCE)
            return 1

        made.method(block)
        serving = await made.serve(policies=(Narrows(0.01),), concurrency=1)
        assert (await made.ask(call("block")))["error"]["code"] == -32010
        assert serving.health()["running"] == 1
        made.send(call("note_quickly", [2]))
        gate.set()
        await turns(lambda: made.ran == [2])
        await made.settled()
        assert serving.health()["running"] == 0

    run(scenario)


def test_a_thread_that_is_late_is_answered_for_while_its_policies_wait_for_its_end() -> None:
    gate = threading.Event()

    async def scenario(made: Bench) -> None:
        def block() -> str:
            gate.wait(PATIENCE)
            return "done"

        notes = Notes()
        made.method(block, timeout=0.02)
        serving = await made.serve(policies=(notes,))
        assert (await made.ask(call("block")))["error"]["code"] == -32010
        assert notes.ends == []
        assert serving.health()["running"] == 1
        gate.set()
        await turns(lambda: notes.ends == ["done"])
        await turns(lambda: serving.health()["running"] == 0)

    run(scenario)


def test_a_coroutine_that_is_late_is_cancelled_through_its_policies() -> None:
    async def scenario(made: Bench) -> None:
        notes = Notes()
        made.method(made.wait, "slow", timeout=0.02)
        serving = await made.serve(policies=(notes,))
        assert (await made.ask(call("slow", [1])))["error"]["code"] == -32010
        print(
            type(notes.ends[0]),
            type(notes.ends[0]).__mro__,
            asyncio.CancelledError is asyncio.exceptions.CancelledError,
            id(type(notes.ends[0])),
            id(asyncio.CancelledError),
        )
        assert isinstance(notes.ends[0], asyncio.CancelledError)
        assert serving.health()["running"] == 0

    run(scenario)


def test_no_thread_to_be_had_is_an_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(made: Bench) -> None:
        made.method(plain)
        serving = await made.serve(policies=(Notes(),))

        def none(_: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(serving._executor._threads, "run", none)
        told = (await made.ask(call("plain"), OURS))["error"]
        assert (told["code"], told["data"]["executed"]) == (-32001, False)

    run(scenario)


def test_what_a_policy_has_started_ends_with_the_server() -> None:
    ended: list[str] = []

    class Starts:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            async def for_ever(_: Any) -> None:
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append("cancelled")

            call.runtime.start(for_ever)
            return await proceed(call)

    async def scenario(made: Bench) -> None:
        serving = await made.serve(policies=(Starts(),))
        await made.ask(call("note", [1]))
        await serving.drain()
        assert ended == ["cancelled"]

    run(scenario)


class TestEvents:
    def test_every_call_that_was_taken_is_announced(self) -> None:
        async def scenario(made: Bench) -> None:
            await made.serve()
            await made.ask(call("note", [1], attempt=2), OURS)
            await made.ask(call("fail", ["broken"]))
            first, second = [event for event in made.events if isinstance(event, CallServed)]
            assert (first.method, first.attempt, first.error, first.replayed) == ("shop.note", 2, None, False)
            assert 0 <= first.seconds < 10
            assert second.method == "shop.fail"
            assert isinstance(second.error, ValueError)

        run(scenario)

    def test_what_was_not_begun_is_announced_too(self) -> None:
        async def scenario(made: Bench) -> None:
            await made.serve()
            await made.ask(call("nothing"))
            await made.ask(b"junk")
            refused = [event.error for event in made.events if isinstance(event, RequestRefused)]
            assert [type(error).__name__ for error in refused] == ["MethodNotFound", "MalformedMessage"]

        run(scenario)


class TestConfiguration:
    def test_the_order_is_checked_when_the_server_is_made(self) -> None:
        class Inner:
            role: ClassVar[str] = "inner"

            async def __call__(self, call: Call, proceed: Handler) -> Reply:
                return await proceed(call)

        class Outer(Inner):
            role: ClassVar[str] = "outer"
            above: ClassVar[dict[str, str]] = {"inner": "it must"}

        with pytest.raises(ConfigurationError, match="Outer must stand before"):
            Server("memory://x", service="s", policies=[Inner(), Outer()])
        with pytest.raises(ConfigurationError, match="not a policy"):
            Server("memory://x", service="s", policies=[5])  # type: ignore[list-item]
        assert Server("memory://x", service="s", policies=[Outer(), Inner()]).describe() == ["Outer", "Inner"]


def named(function: Callable[..., Any], params: Any) -> dict[str, Any]:
    binder = Binder(function, Context)
    for codec in CODECS.values():
        binder.prepare(codec)
    arguments = binder.bind(JSON, JSON.encode(params))
    if binder.context_name is not None:
        arguments = binder.give_context(arguments, Context("m", 0.0, Safety.UNSAFE))
    return binder.named(arguments)


class TestNamed:
    @pytest.mark.parametrize("params", [[1, 2], {"a": 1, "b": 2}])
    def test_arguments_have_the_names_of_their_parameters(self, params: Any) -> None:
        def middle(a: int, ctx: Context, b: int) -> None: ...
        def last(a: int, b: int, *, ctx: Context) -> None: ...
        def defaults(a: int, b: int = 2, c: int = 3) -> None: ...
        def open_(a: int, *, ctx: Context | None = None, **rest: int) -> None: ...

        def bare(a: int, b: int) -> None: ...

        for function in (bare, middle, last, defaults):
            assert named(function, params) == {"a": 1, "b": 2}, function
        if isinstance(params, dict):
            assert named(open_, params) == {"a": 1, "rest": {"b": 2}}

    def test_positional_ones_too(self) -> None:
        def placed(a: int, /, ctx: Context, *rest: int) -> None: ...

        assert named(placed, [1, 2, 3]) == {"a": 1, "rest": (2, 3)}


def test_a_job_without_policies_has_no_course() -> None:
    assert "course" in Job.__slots__
