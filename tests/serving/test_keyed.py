"""What a server does with keyed calls: who gets in, slots while they wait, and the end of their time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_rpc import Server
from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.context import Context
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import Idempotency
from resilient_rpc.policy import Handler
from resilient_rpc.serving.around import PROVEN, Around, Course
from resilient_rpc.serving.options import ServingOptions
from resilient_rpc.stores import MemoryStore
from tests.serving.bench import OURS, Bench, bench, call
from tests.waiting import PATIENCE, turns

Scenario = Callable[[Bench], Awaitable[None]]


def run(scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), bench() as made:
            await scenario(made)

    asyncio.run(main())


CALL: Any = SimpleNamespace(method=SimpleNamespace(concurrency=None), course=None)
"""What matters of a call to those who give slots."""


class Waits:
    """Waits outside for its gate, as a repeat does, and comes in again; then what it is told to do."""

    role = "idempotency"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = self.entered = 0
        self.tenants: list[str] = []
        self.record: float | None = None

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        course: Course = call.course  # type: ignore[attr-defined]
        self.tenants.append(course.tenant)
        if self.record is not None:
            course.hold(self.record)
        if call.key != "wait":
            return await proceed(call)
        course.step_out()
        course.step_out()
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        await course.step_in()
        await course.step_in()
        self.entered += 1
        return await proceed(call)


def test_who_waits_has_no_slot_and_gets_one_before_those_that_have_not_begun() -> None:
    async def scenario(made: Bench) -> None:
        waits = Waits()
        serving = await made.serve(policies=(waits,), concurrency=1, prefetch=10)
        made.send(call("note", ["waited"], key="wait"))
        made.send(call("note", ["waited too"], key="wait"))
        await turns(lambda: waits.waiting == 2)
        assert serving.health()["running"] == 0
        made.send(call("wait", ["holds it"]))
        await turns(lambda: made.ran == ["holds it"])
        assert serving.health()["running"] == 1
        waits.gate.set()
        await turns(lambda: waits.waiting == 0)
        made.send(call("note", ["later"]))
        await turns(lambda: serving.health()["waiting"] == 1)
        assert made.ran == ["holds it"]
        made.gate.set()
        await made.settled()
        assert made.ran == ["holds it", "waited", "waited too", "later"]
        assert serving.health()["running"] == 0

    run(scenario)


def test_who_finds_a_slot_need_not_wait_for_one() -> None:
    async def scenario(made: Bench) -> None:
        waits = Waits()
        waits.gate.set()
        serving = await made.serve(policies=(waits,), concurrency=1, prefetch=10)
        assert (await made.ask(call("note_quickly", [1], key="wait")))["result"] == 1
        assert serving.health()["running"] == 0

    run(scenario)


def test_who_is_answered_outside_gives_no_slot_back_twice() -> None:
    class AnswersOutside:
        role = "idempotency"

        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            call.course.step_out()  # type: ignore[attr-defined]
            return Reply(result="kept", replayed=True)

    async def scenario(made: Bench) -> None:
        serving = await made.serve(policies=(AnswersOutside(),), concurrency=1)
        for _ in range(3):
            assert (await made.ask(call("note", [1], key="k")))["result"] == "kept"
        assert serving.health()["running"] == 0

    run(scenario)


@pytest.mark.parametrize("holds", [False, True])
def test_whose_time_is_up_while_it_waits_is_told_that_it_is_in_progress(holds: bool) -> None:
    """`holds`: it waits for a slot by then."""

    async def scenario(made: Bench) -> None:
        waits = Waits()
        made.method(made.note, "hasty", timeout=0.05)
        serving = await made.serve(policies=(waits,), concurrency=1, prefetch=10)
        made.send(call("hasty", [1], key="wait"), correlation_id="token.1")
        await turns(lambda: waits.waiting == 1)
        if holds:
            made.send(call("wait", ["holds it"], 2), correlation_id="token.2")
            await turns(lambda: made.ran == ["holds it"])
            waits.gate.set()
        told = await made.reply()
        assert (told["error"]["code"], told["error"]["data"].get("executed")) == (-32003, None)
        made.gate.set()
        await made.settled()
        assert serving.health()["running"] == waits.waiting == waits.entered == 0

    run(scenario)


@pytest.mark.parametrize("end", ["result", "error"])
def test_one_that_is_cancelled_as_it_gets_its_slot_gives_it_back(end: str) -> None:
    async def scenario(made: Bench) -> None:
        serving = await made.serve(concurrency=1)
        executor = serving._executor
        await executor.step_in(CALL)
        waiting = asyncio.ensure_future(executor.step_in(CALL))
        await asyncio.sleep(0)
        if end == "result":
            executor.step_out(CALL)
            assert serving.health()["running"] == 1, "it is the waiting one's"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if end == "error":
            executor.step_out(CALL)
        assert serving.health()["running"] == 0
        await executor.step_in(CALL)
        executor.step_out(CALL)

    run(scenario)


def test_one_that_was_cancelled_is_passed_over() -> None:
    async def scenario(made: Bench) -> None:
        serving = await made.serve(concurrency=1)
        executor = serving._executor
        await executor.step_in(CALL)
        waiting = asyncio.ensure_future(executor.step_in(CALL))
        await asyncio.sleep(0)
        waiting.cancel()
        executor.step_out(CALL)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert serving.health()["running"] == 0

    run(scenario)


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
def test_one_whose_outcome_is_recorded_goes_on_when_its_time_is_up(kind: str) -> None:
    release = threading.Event()

    async def scenario(made: Bench) -> None:
        def block() -> str:
            release.wait(PATIENCE)
            made.ran.append("done")
            return "done"

        async def wait() -> str:
            await made.gate.wait()
            made.ran.append("done")
            return "done"

        made.method(block if kind == "thread" else wait, "hasty", timeout=0.05)
        waits = Waits()
        waits.record = 2.5
        serving = await made.serve(policies=(waits,))
        told = (await made.ask(call("hasty", key="k"), OURS))["error"]
        assert (told["code"], told["data"]["retry_after"]) == (-32003, 2.5)
        assert serving.health()["running"] == 1
        release.set()
        made.gate.set()
        await turns(lambda: serving.health()["running"] == 0)
        assert made.ran == ["done"]
        assert len(made.replies.deliveries) == 1

    run(scenario)


@pytest.mark.parametrize("seconds", [0.01, -1])
def test_a_policy_cannot_cut_a_keyed_thread_off(seconds: float) -> None:
    class Narrows:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            return await proceed(call.replace(deadline=call.runtime.now() + seconds))

    async def scenario(made: Bench) -> None:
        async def later() -> None:
            await asyncio.sleep(0.05)
            release.set()

        release = threading.Event()

        def block() -> str:
            release.wait(PATIENCE)
            return "done"

        made.method(block)
        await made.serve(policies=(Idempotency(MemoryStore()), Narrows()))
        releasing = asyncio.ensure_future(later())
        reply = await made.ask(call("block", key="k"))
        assert reply["result"] == "done" if seconds > 0 else reply["error"]["code"] == -32002
        await releasing

    run(scenario)


def test_a_sender_that_is_proved_has_keys_of_its_own() -> None:
    async def scenario(made: Bench) -> None:
        waits = Waits()
        serving = await made.serve(policies=(waits,), tenant="acme")
        await made.ask(call("note", [1], key="k"))
        letter: Any = type("Letter", (), {"codec": None, "user": None})()
        job: Any = type("Job", (), {})()
        job.letter, job.context, job.args, job.kwargs = letter, Context("note", 0.0, Safety.DEDUP, "k"), (1,), {}
        job.context.principal, job.method, job.deadline, job.started = "shop-1", made.methods.find("note"), 1.0, 0.0
        around = Around((waits,), "shop", made.hub, serving._scope, serving._executor, "acme")
        with pytest.raises(Exception, match="no time"):
            await around.run(job)
        assert waits.tenants == ["acme", PROVEN + "shop-1"]

    run(scenario)


@pytest.mark.parametrize("tenant", ["", "x" * 256, "principal:x", None, 5])
def test_a_tenant_is_a_text_that_no_sender_can_have(tenant: Any) -> None:
    with pytest.raises(ConfigurationError, match="tenant"):
        ServingOptions(tenant=tenant)
    with pytest.raises(ConfigurationError, match="tenant"):
        Server("memory://x", service="shop", tenant=tenant)


# -- who gets in


def keyed(made: Bench) -> None:
    made.method(made.note_quickly, "once", safety=Safety.DEDUP)
    made.method(made.note_quickly, "risky", safety=Safety.UNSAFE)
    made.method(made.note_quickly, "look", safety=Safety.READ_ONLY)


@pytest.mark.parametrize(
    ("item", "key", "code"),
    [
        (call("risky", [1]), None, -32010), (call("risky", [1], key="k"), None, None), (call("look", [1]), None, None),
        (call("note", [1], key="k"), None, None), (call("note", [1]), None, -32010), (call("once", [1]), None, -32008),
        (call("risky", [1]), "derived", None), (call("once", [1]), "derived", None),
        (call("note", [1]), "none", -32010),
    ],
)  # fmt: skip
def test_a_call_that_was_delivered_before_runs_again_if_there_is_a_record_of_its_key(
    item: Any, key: str | None, code: int | None
) -> None:
    async def scenario(made: Bench) -> None:
        keyed(made)
        derive = {None: None, "derived": lambda _: "d", "none": lambda _: None}[key]
        serving = await made.serve("first")
        await serving.close()
        await made.as_redelivered(item)
        await made.serve(policies=(Idempotency(MemoryStore(), key=derive),))
        reply = await made.reply()
        assert reply.get("error", {}).get("code") == code
        assert made.ran == ([] if code else [1])

    run(scenario)
