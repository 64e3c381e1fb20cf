"""Idempotency: one effect for each key, and one answer."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from resilient_rpc.call import Call, Reply, Safety
from resilient_rpc.chain import Chain
from resilient_rpc.context import Context
from resilient_rpc.errors import (
    ApplicationError,
    Certainty,
    ConfigurationError,
    DependencyUnavailable,
    InProgress,
    Interrupted,
    KeyReused,
    Overloaded,
    Refused,
    RemoteError,
    UsageError,
)
from resilient_rpc.events import CallRejected, PolicyBypassed
from resilient_rpc.policies import Chaos, Fallback, Hedge
from resilient_rpc.policies.idempotency import (
    AnswerSettled,
    CallReplayed,
    CallTakenOver,
    Idempotency,
    OwnershipLost,
    StoreFailed,
)
from resilient_rpc.policies.idempotency.fingerprint import fingerprint_of
from resilient_rpc.stores.base import New, Record, TakenOver
from resilient_rpc.stores.errors import CorruptRecord, StoreRefused
from resilient_rpc.stores.memory import MemoryStore
from resilient_rpc.wire.codec import MSGPACK
from tests.policies.idempotency.bench import KEY, Host, World
from tests.runtimes import Bench


@pytest.fixture
def world(runtime: Bench) -> World:
    return World(runtime)


class Cut(BaseException):
    """Not an error of a handler: the call ends here."""


def slow(world: World, seconds: float) -> Any:
    async def work(context: Context) -> Any:
        await world.runtime.port.sleep(seconds)
        world.effects.append(context.fencing_token)
        return {"number": len(world.effects)}

    return work


def fails(world: World, error: BaseException) -> Any:
    async def work(context: Context) -> Any:
        world.effects.append(context.fencing_token)
        raise error

    return work


# -- the first one, and repeats of it


def test_a_repeat_gets_the_first_answer_and_nothing_is_executed(world: World) -> None:
    host = world.host()
    first = host.call()
    again = host.call()
    elsewhere = world.host().call()
    assert [reply.result for reply in (first, again, elsewhere)] == [{"number": 1}] * 3
    assert [reply.replayed for reply in (first, again, elsewhere)] == [False, True, True]
    assert len(world.effects) == 1
    assert host.store.asked == ["begin", "complete", "begin"], "two questions for an execution, one for a repeat"
    [replayed] = host.seen(CallReplayed)
    assert (replayed.ok, replayed.policy, replayed.method) == (True, "Idempotency", "orders.create")


def test_the_handler_is_given_a_token_that_grows_with_each_execution(world: World) -> None:
    host = world.host(abandon_on=(ValueError,))
    with pytest.raises(ValueError, match="again"):
        host.call(fails(world, ValueError("again")))
    host.call()
    assert all(type(token) is int for token in world.effects)
    assert world.effects[0] < world.effects[1]
    assert host.courses[0].recorded == 5.0


def test_a_call_without_a_key_passes(world: World) -> None:
    host = world.host()
    for _ in range(2):
        assert not host.call(key=None, safety=Safety.UNSAFE).replayed
    assert world.effects == [None, None]
    assert host.store.asked == []


@pytest.mark.parametrize(
    "other", [{"key": "order-43"}, {"tenant": "acme"}, {"method": "orders.cancel"}, {"method": "bills.create"}]
)
def test_a_key_belongs_to_a_tenant_a_service_and_a_method(world: World, other: dict[str, Any]) -> None:
    host = world.host()
    host.call()
    assert not host.call(**other).replayed
    assert len(world.effects) == 2


def test_t11_a_repeat_with_the_same_arguments_returns_the_stored_result(world: World) -> None:
    host = world.host()
    first = host.call(params={"sku": "A1", "qty": 2})
    again = host.call(params={"qty": 2, "sku": "A1"})
    assert (again.result, again.replayed) == (first.result, True)


def test_a_key_with_other_arguments_never_gets_the_stored_answer(world: World) -> None:
    host = world.host()
    host.call(params={"sku": "A1"})
    for another in (host, world.host()):
        with pytest.raises(KeyReused) as reused:
            another.call(params={"sku": "A2"})
        assert (reused.value.certainty, reused.value.retryable) == (Certainty.NOT_EXECUTED, False)
        assert [event.reason for event in another.seen(CallRejected)] == ["reused"]
    assert len(world.effects) == 1


def test_a_key_with_other_arguments_does_not_wait_for_the_one_under_way(world: World, runtime: Bench) -> None:
    host = world.host()

    async def reuse() -> float:
        await runtime.port.sleep(1)
        with pytest.raises(KeyReused):
            await host.serve(params={"sku": "A2"})
        return runtime.passed

    _, when = runtime.together(lambda: host.serve(slow(world, 3), params={"sku": "A1"}), reuse)
    assert when == 1


def test_a_repeat_in_another_codec_means_the_same(world: World) -> None:
    host = world.host()
    host.call()
    assert host.call(codec=MSGPACK).result == {"number": 1}


# -- errors


def test_an_error_of_the_handler_is_an_answer(world: World) -> None:
    host = world.host()
    sold_out = ApplicationError("none left", type="sold_out", details={"sku": "A1"})
    with pytest.raises(ApplicationError) as first:
        host.call(fails(world, sold_out))
    assert first.value is sold_out
    with pytest.raises(RemoteError) as again:
        host.call()
    told = again.value
    assert (told.code, told.type, told.message, told.details) == (-32000, "sold_out", "none left", {"sku": "A1"})
    assert told.certainty is Certainty.EXECUTED
    assert host.courses[1].replayed
    assert [event.ok for event in host.seen(CallReplayed)] == [False]
    assert len(world.effects) == 1


@pytest.mark.parametrize("listed", [KeyError, LookupError, "KeyError"])
def test_after_an_error_in_abandon_on_a_repeat_executes_again(world: World, listed: Any) -> None:
    host = world.host(abandon_on=("sold_out", listed))
    for error in (KeyError("x"), ApplicationError("none left", type="sold_out")):
        with pytest.raises(type(error)):
            host.call(fails(world, error))
    assert host.call().result == {"number": 3}
    assert host.call().replayed


def test_what_is_refused_before_the_handler_leaves_no_answer(world: World) -> None:
    host = world.host()
    with pytest.raises(Overloaded):
        host.call(fails(world, Overloaded("full")), begins=False)
    assert not host.call().replayed
    assert host.store.asked == ["begin", "abandon", "begin", "complete"]


def test_a_policy_inside_that_gives_up_on_a_running_handler_settles_nothing(world: World) -> None:
    host = world.host()

    async def gives_up(context: Context) -> Any:
        host.courses[-1].began += 1  # one that has not ended
        raise TimeoutError

    with pytest.raises(InProgress):
        host.call(gives_up)
    assert host.store.asked == ["begin"]
    record = world.look()
    assert record is not None
    assert record.progress == "running"


@pytest.mark.parametrize("error", [TimeoutError(), Cut()])
def test_a_handler_that_outlives_its_call_keeps_its_record_until_it_ends(
    world: World, runtime: Bench, error: BaseException
) -> None:
    host, other = world.host(), world.host(wait=0)

    async def gives_up(context: Context) -> Any:
        course = host.courses[-1]
        course.began += 1
        course.running = True
        raise error

    [(told,)] = runtime.together(lambda: _outcome(host, gives_up))
    assert isinstance(told, InProgress if isinstance(error, TimeoutError) else Cut)
    runtime.advance(20)
    with pytest.raises(InProgress):
        other.call()
    host.courses[-1].running = False
    runtime.advance(8)
    assert len(host.policy.leases) == 0
    assert other.call().result == {"number": 1}


async def _outcome(host: Host, work: Any) -> tuple[BaseException | None]:
    try:
        await host.serve(work)
    except BaseException as error:
        return (error,)
    return (None,)


def test_a_store_that_does_not_take_it_back_loses_nothing(world: World, runtime: Bench) -> None:
    host = world.host(abandon_on=(ValueError,))
    host.store.fail("abandon")
    with pytest.raises(ValueError, match="x"):
        host.call(fails(world, ValueError("x")))
    assert [event.step for event in host.seen(StoreFailed)] == ["abandon"]
    runtime.advance(6)
    assert host.call().result == {"number": 2}


# -- repeats while it runs


def test_a_repeat_waits_for_the_answer_of_the_one_under_way_without_a_slot(world: World, runtime: Bench) -> None:
    host = world.host()

    async def repeat() -> Reply:
        await runtime.port.sleep(0.5)
        return await host.serve()

    first, again = runtime.together(lambda: host.serve(slow(world, 3)), repeat)
    assert again.replayed
    assert not first.replayed
    assert len(world.effects) == 1
    assert runtime.passed == 3, "it is woken, and does not look now and then"
    assert (host.courses[1].stepped_out, host.courses[1].stepped_in) == (1, 0)
    assert host.store.asked == ["begin", "renew", "complete"]
    assert host.policy.state.waiting == 0


def test_a_repeat_at_another_server_looks_until_there_is_an_answer(world: World, runtime: Bench) -> None:
    one, other = world.host(), world.host()

    async def repeat() -> Reply:
        await runtime.port.sleep(0.5)
        return await other.serve()

    runtime.together(lambda: one.serve(slow(world, 3)), repeat)
    assert len(world.effects) == 1
    assert 3 <= runtime.passed <= 3.5
    assert other.store.asked[:2] == ["begin", "get"]
    assert len(other.store.asked) < 12


def test_a_repeat_waits_no_longer_than_it_may(world: World, runtime: Bench) -> None:
    one, other, hasty = world.host(), world.host(wait=1.0), world.host()
    told: list[InProgress] = []

    async def repeat(host: Host, timeout: float) -> float:
        await runtime.port.sleep(0.5)
        with pytest.raises(InProgress) as busy:
            await host.serve(timeout=timeout)
        told.append(busy.value)
        return runtime.passed

    ends = runtime.together(
        lambda: one.serve(slow(world, 9), timeout=20),
        lambda: repeat(other, 30),
        lambda: repeat(hasty, 2.0),
        lambda: repeat(one, 30),
    )[1:]
    assert ends == [1.5, 2.5, 5.5]
    assert all(error.retryable and 0 < error.retry_after <= 5 for error in told if error.retry_after)
    assert [event.reason for event in other.seen(CallRejected)] == ["busy"]


def test_with_no_time_to_wait_it_is_told_at_once(world: World, runtime: Bench) -> None:
    host = world.host(wait=0)

    async def repeat() -> None:
        await runtime.port.sleep(1)
        with pytest.raises(InProgress):
            await host.serve()

    runtime.together(lambda: host.serve(slow(world, 3)), repeat)
    assert host.courses[1].stepped_out == 0


def test_no_more_than_so_many_wait(world: World, runtime: Bench) -> None:
    host = world.host(max_waiting=1)

    async def repeat() -> Reply:
        await runtime.port.sleep(1)
        return await host.serve()

    replies = runtime.together(lambda: host.serve(slow(world, 3)), repeat, repeat, return_errors=True)[1:]
    assert sorted(type(reply).__name__ for reply in replies) == ["InProgress", "Reply"]
    assert len(world.effects) == 1


def test_when_the_one_under_way_gives_up_the_next_one_executes_in_a_slot(world: World, runtime: Bench) -> None:
    host = world.host(abandon_on=(ValueError,))

    async def fail_late(context: Context) -> Any:
        await runtime.port.sleep(1)
        raise ValueError

    async def repeat() -> Reply:
        await runtime.port.sleep(0.5)
        return await host.serve()

    _, again, third = runtime.together(lambda: host.serve(fail_late), repeat, repeat, return_errors=True)
    assert len(world.effects) == 1
    assert sorted([again.replayed, third.replayed]) == [False, True]
    assert host.courses[1].stepped_in + host.courses[2].stepped_in >= 1


def test_while_the_store_does_not_answer_a_waiting_repeat_goes_on_asking(world: World, runtime: Bench) -> None:
    one, other = world.host(), world.host()

    async def repeat() -> Reply:
        await runtime.port.sleep(0.5)
        other.store.fail("get")
        try:
            return await other.serve()
        finally:
            other.store.recover()

    async def comes_back() -> None:
        await runtime.port.sleep(2)
        other.store.recover()

    _, again, _ = runtime.together(lambda: one.serve(slow(world, 3)), repeat, comes_back)
    assert again.replayed


# -- servers that die


def dead_server(world: World, runtime: Bench, **how: Any) -> None:
    """A server that has begun, and of which nobody hears again."""

    async def begin() -> None:
        fingerprint = fingerprint_of("orders.create", {})
        began = await world.memory.begin(world.record(), fingerprint=fingerprint, lease=5, ttl=60, **how)
        assert isinstance(began, New | TakenOver)

    runtime.run(begin)


def test_after_a_server_that_has_died_the_next_one_executes(world: World, runtime: Bench) -> None:
    dead_server(world, runtime)
    host = world.host(wait=10)
    reply = host.call()
    assert (reply.result, reply.replayed) == ({"number": 1}, False)
    assert 5 <= runtime.passed <= 5.5
    [taken] = host.seen(CallTakenOver)
    assert taken.epoch == world.effects[0]
    assert host.courses[0].stepped_in == 1


def test_until_the_lease_is_over_a_repeat_is_told_when_to_come_back(world: World, runtime: Bench) -> None:
    dead_server(world, runtime)
    runtime.advance(1)
    with pytest.raises(InProgress) as busy:
        world.host(wait=2).call()
    assert busy.value.retry_after is not None
    runtime.advance(busy.value.retry_after)
    assert world.host().call().result == {"number": 1}


def test_what_must_not_be_done_twice_is_not(world: World, runtime: Bench) -> None:
    dead_server(world, runtime)
    runtime.advance(6)
    host = world.host(on_takeover="fail_unknown")
    with pytest.raises(Interrupted) as unknown:
        host.call()
    assert (unknown.value.certainty, unknown.value.retryable) == (Certainty.UNKNOWN, False)
    assert world.effects == []
    assert [event.reason for event in host.seen(CallRejected)] == ["interrupted"]


def test_a_lease_is_renewed_for_as_long_as_the_handler_runs(world: World, runtime: Bench) -> None:
    one, other = world.host(), world.host(wait=0)

    async def repeats() -> int:
        refused = 0
        for _ in range(50):
            await runtime.port.sleep(1)
            with pytest.raises(InProgress):
                await other.serve()
            refused += 1
        return refused

    _, refused = runtime.together(lambda: one.serve(slow(world, 60), timeout=5), repeats)
    assert refused == 50
    assert len(world.effects) == 1
    assert 30 <= one.store.asked.count("renew") <= 37
    assert other.call().replayed
    assert len(one.policy.leases) == 0


def test_t12_a_worker_that_was_paused_past_its_lease_cannot_overwrite_its_successor(
    world: World, runtime: Bench
) -> None:
    paused, successor = world.host(), world.host(wait=20)
    paused.store.fail("renew")

    async def repeat() -> Reply:
        await runtime.port.sleep(1)
        return await successor.serve()

    async def work(context: Context) -> str:
        await runtime.port.sleep(10)
        assert context.lost_ownership
        return "of the paused one"

    late, taken = runtime.together(lambda: paused.serve(work), repeat)
    assert taken.result == {"number": 1}
    assert (bytes(late.result), late.replayed) == (b'{"number":1}', True), "it does not send its own"
    assert [event.step for event in paused.seen(OwnershipLost)] == ["complete"]
    record = world.look()
    assert record is not None
    assert record.payload == b'J{"number":1}'


def test_t12_it_cannot_take_back_what_its_successor_has_begun(world: World, runtime: Bench) -> None:
    paused, successor = world.host(abandon_on=(ValueError,)), world.host(wait=20)
    paused.store.fail("renew")

    async def repeat() -> Reply:
        await runtime.port.sleep(1)
        return await successor.serve(slow(world, 10))

    async def work(context: Context) -> str:
        await runtime.port.sleep(8)
        raise ValueError

    runtime.together(lambda: paused.serve(work), repeat, return_errors=True)
    assert len(world.effects) == 1
    assert world.host().call().replayed


def test_a_lost_lease_is_seen_by_the_handler_and_by_those_who_wait(world: World, runtime: Bench) -> None:
    paused, successor = world.host(wait=20), world.host(wait=20)
    paused.store.fail("renew")

    async def work(context: Context) -> str:
        await runtime.port.sleep(7)
        assert context.lost_ownership
        paused.store.recover()
        await runtime.port.sleep(10)
        return "late"

    async def take_over() -> Reply:
        await runtime.port.sleep(1)
        return await successor.serve(slow(world, 1))

    async def wait() -> float:
        await runtime.port.sleep(2)
        reply = await paused.serve()
        assert reply.replayed
        return runtime.passed

    _, _, when = runtime.together(lambda: paused.serve(work, timeout=60), take_over, wait)
    assert when < 9, "it did not wait for the end of the one that has lost it"
    assert [event.step for event in paused.seen(OwnershipLost)] == ["renew", "complete"]


def test_a_lease_that_could_not_be_renewed_for_a_while_is_ours_as_long_as_nobody_takes_it(
    world: World, runtime: Bench
) -> None:
    host = world.host()
    host.store.fail("renew")
    seen: list[bool] = []

    async def work(context: Context) -> str:
        for _ in range(3):
            await runtime.port.sleep(3)
            seen.append(context.lost_ownership)
            if len(seen) == 2:
                host.store.recover()
        return "done"

    assert host.call(work).result == "done"
    assert seen == [False, True, False]
    assert {event.step for event in host.seen(StoreFailed)} == {"renew"}
    assert host.call().replayed


@pytest.mark.parametrize("seconds", [3, 100])
def test_an_owner_that_has_lost_its_record_and_finds_no_answer_does_not_know(
    world: World, runtime: Bench, seconds: float
) -> None:
    paused, successor = world.host(), world.host(wait=20)
    paused.store.fail("renew")

    async def take_over() -> None:
        await runtime.port.sleep(5.1)
        await successor.serve(slow(world, seconds) if seconds > 3 else fails(world, BaseException()), timeout=200)

    async def work(context: Context) -> str:
        await runtime.port.sleep(8)
        return "late"

    late, _ = runtime.together(lambda: paused.serve(work, timeout=60), take_over, return_errors=True)
    assert isinstance(late, Interrupted)
    assert late.certainty is Certainty.UNKNOWN


def test_a_record_that_was_deleted_is_not_written_again(world: World, runtime: Bench) -> None:
    host = world.host()

    async def work(context: Context) -> str:
        await world.memory.delete(world.record())
        return "done"

    with pytest.raises(Interrupted):
        host.call(work)
    assert world.look() is None


def test_another_call_that_has_the_key_now_is_not_the_answer(world: World, runtime: Bench) -> None:
    host = world.host()

    async def work(context: Context) -> str:
        await world.memory.delete(world.record())
        await world.host().serve(params={"sku": "other"})
        return "done"

    with pytest.raises(Interrupted):
        host.call(work)


@pytest.mark.parametrize("rpc_bench", ["asyncio"], indirect=True)  # a thread cannot be cancelled
def test_who_is_cancelled_leaves_the_record_to_the_end_of_its_lease(world: World, runtime: Bench) -> None:
    host = world.host()

    async def cancel() -> None:
        task = asyncio.ensure_future(host.serve(slow(world, 10)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    runtime.run(cancel)
    record = world.look()
    assert record is not None
    assert record.progress == "running"
    assert len(host.policy.leases) == len(host.policy.state.flights) == 0
    runtime.advance(6)
    assert host.call().result == {"number": 1}


# -- a store that fails


def test_without_the_store_nothing_is_executed(world: World) -> None:
    host = world.host()
    host.store.fail("begin")
    with pytest.raises(DependencyUnavailable) as down:
        host.call()
    error = down.value
    assert (error.certainty, error.retryable, error.retry_after) == (Certainty.NOT_EXECUTED, True, 1.0)
    assert world.effects == []
    assert [event.reason for event in host.seen(CallRejected)] == ["store"]
    assert [event.step for event in host.seen(StoreFailed)] == ["begin"]


def test_a_store_that_will_not_answer_until_somebody_acts_is_not_worth_a_retry(world: World) -> None:
    host = world.host()
    host.store.fail("begin", error=StoreRefused("no password", reason="credentials"))
    with pytest.raises(DependencyUnavailable) as down:
        host.call()
    assert (down.value.retryable, down.value.retry_after) == (False, None)


def test_open_executes_without_a_record_and_says_so(world: World) -> None:
    host = world.host(on_store_error="open")
    host.store.fail("begin")
    for _ in range(2):
        assert not host.call().replayed
    assert world.effects == [None, None]
    assert [event.reason for event in host.seen(PolicyBypassed)] == ["store"] * 2


@pytest.mark.parametrize("on_store_error", ["closed", "open"])
def test_a_record_that_cannot_be_read_is_never_taken_for_a_new_call(world: World, on_store_error: str) -> None:
    host = world.host(on_store_error=on_store_error)
    host.store.fail("begin", error=CorruptRecord("not ours"))
    with pytest.raises(DependencyUnavailable, match="cannot be read"):
        host.call()
    assert world.effects == []


async def write(world: World, payload: bytes, *, ok: bool) -> None:
    """A record that another server has taken over, or begun, and answered with this."""
    fingerprint = fingerprint_of("orders.create", {})
    began: Any = await world.memory.begin(world.record(), fingerprint=fingerprint, lease=5, ttl=60)
    assert await world.memory.complete(world.record(), began.epoch, payload, ok=ok, ttl=60)


@pytest.mark.parametrize("ok", [True, False])
def test_an_answer_that_cannot_be_read_is_neither_executed_again_nor_shown_nor_kept(
    world: World, runtime: Bench, ok: bool
) -> None:
    host = world.host(local=10)
    runtime.run(lambda: write(world, b"\xff secret", ok=ok))
    with pytest.raises(DependencyUnavailable, match="cannot be read") as caught:
        host.call()
    assert (caught.value.certainty, caught.value.retryable) == (Certainty.NOT_EXECUTED, False)
    assert "secret" not in str(caught.value)
    assert world.effects == []
    assert len(host.policy.state.local) == 0
    assert [event.reason for event in host.seen(CallRejected)] == ["store"]
    assert [type(event.error) for event in host.seen(StoreFailed)] == [CorruptRecord]


def test_an_owner_that_finds_an_answer_that_cannot_be_read_in_place_of_its_own_does_not_know(
    world: World, runtime: Bench
) -> None:
    paused = world.host()
    paused.store.fail("renew")

    async def take_over() -> None:
        await runtime.port.sleep(5.1)
        await write(world, b"\xff", ok=True)

    async def work(context: Context) -> str:
        await runtime.port.sleep(8)
        return "late"

    late, _ = runtime.together(lambda: paused.serve(work, timeout=60), take_over, return_errors=True)
    assert isinstance(late, Interrupted)
    assert late.certainty is Certainty.UNKNOWN


def test_a_mistake_in_the_settings_is_said_to_be_one(world: World) -> None:
    with pytest.raises(ConfigurationError, match="tenant"):
        world.host(on_store_error="open").call(tenant="x" * 2000)


def test_t13_a_store_that_dies_between_handler_and_complete_does_not_make_an_error_of_a_success(
    world: World, runtime: Bench
) -> None:
    host = world.host()
    host.store.fail("complete")
    first = host.call()
    assert first.result == {"number": 1}
    assert [event.step for event in host.seen(StoreFailed)] == ["complete"]
    host.store.fail("begin", "complete")
    assert host.call().replayed, "answered from here"
    host.store.recover()
    runtime.advance(3)
    assert [event.outcome for event in host.seen(AnswerSettled)] == ["stored"]
    assert len(host.policy.state.local) == 0
    assert world.host().call().replayed
    assert len(world.effects) == 1


def test_t13_an_answer_that_was_written_and_not_confirmed_is_there_once(world: World, runtime: Bench) -> None:
    host = world.host()
    host.store.after["complete"] = OSError("the reply was lost")
    host.call()
    assert world.host().call().replayed
    host.store.recover()
    runtime.advance(3)
    assert [event.outcome for event in host.seen(AnswerSettled)] == ["stored"]


def test_an_answer_that_another_server_has_begun_with_meanwhile_is_forgotten_here(world: World, runtime: Bench) -> None:
    host = world.host()
    host.store.fail("complete")
    host.call()
    runtime.advance(6)
    assert world.host().call().result == {"number": 2}, "the window: the lease was over before the store was back"
    host.store.recover()
    runtime.advance(3)
    assert [event.outcome for event in host.seen(AnswerSettled)] == ["lost"]
    assert host.call().result == {"number": 2}


def test_an_answer_that_the_store_never_takes_is_given_up(world: World, runtime: Bench) -> None:
    host = world.host()
    host.store.fail("complete")
    host.call()
    runtime.advance(70)
    assert [event.outcome for event in host.seen(AnswerSettled)] == ["given_up"]
    assert host.call().replayed


# -- what is kept


def test_a_result_that_is_too_large_is_sent_once(world: World) -> None:
    host = world.host(max_result_bytes=100)

    async def large(context: Context) -> str:
        world.effects.append(1)
        return "x" * 200

    assert host.call(large).result == "x" * 200
    with pytest.raises(RemoteError) as again:
        host.call(large)
    assert (again.value.code, again.value.certainty) == (-32006, Certainty.EXECUTED)
    assert "202 bytes" in again.value.message
    assert world.effects == [1]


@pytest.mark.parametrize("error", [None, ApplicationError("x", details="y" * 50_000)])
def test_what_the_store_finds_too_large_is_sent_once(world: World, runtime: Bench, error: Exception | None) -> None:
    host = world.host()
    object.__setattr__(world.memory, "max_bytes", 2000)

    async def large(context: Context) -> str:
        world.effects.append(1)
        if error is not None:
            raise error
        return "x" * 5000

    if error is None:
        assert host.call(large).result == "x" * 5000
        with pytest.raises(RemoteError, match="too large"):
            host.call(large)
    else:
        with pytest.raises(ApplicationError):
            host.call(large)
        with pytest.raises(RemoteError):
            host.call(large)
    assert world.effects == [1]


def test_a_result_that_cannot_be_sent_is_an_error_then_and_later(world: World) -> None:
    host = world.host()

    async def odd(context: Context) -> object:
        world.effects.append(1)
        return object()

    for _ in range(2):
        with pytest.raises(RemoteError, match=r"the result of orders\.create cannot be encoded") as failed:
            host.call(odd)
        assert (failed.value.code, failed.value.certainty) == (-32603, Certainty.EXECUTED)
    assert world.effects == [1]


def test_answers_kept_here_need_no_store(world: World, runtime: Bench) -> None:
    host, other = world.host(local=10, ttl=60), world.host(local=10, ttl=60)
    host.call()
    other.call()
    for one in (host, other):
        one.store.fail("begin")
        assert one.call().replayed
    with pytest.raises(KeyReused):
        host.call(params={"sku": "other"})
    runtime.advance(61)
    with pytest.raises(DependencyUnavailable):
        host.call()


def test_an_answer_that_is_kept_here_anyway_stays_when_the_store_has_it(world: World, runtime: Bench) -> None:
    host = world.host(local=10)
    host.store.fail("complete")
    host.call()
    host.store.recover()
    runtime.advance(3)
    assert len(host.policy.state.local) == 1


# -- keys


def test_a_key_may_be_derived_from_the_call(world: World) -> None:
    host = world.host(key=lambda call: f"sku-{call.params['sku']}")  # type: ignore[index, call-overload]
    for expected in (False, True):
        reply = host.call(key=None, params={"sku": "A1"}, safety=Safety.UNSAFE, redelivered=expected)
        assert reply.replayed is expected
    assert host.courses[0].context.key == "sku-A1"
    assert not host.call(key="by hand", params={"sku": "A1"}).replayed


def test_a_call_of_which_no_key_can_be_derived_has_none(world: World) -> None:
    host = world.host(key=lambda _: None)
    assert not host.call(key=None, safety=Safety.UNSAFE).replayed
    assert host.call(key=None, safety=Safety.READ_ONLY, redelivered=True).result == {"number": 2}
    with pytest.raises(Interrupted):
        host.call(key=None, safety=Safety.UNSAFE, redelivered=True)
    assert len(world.effects) == 2


@pytest.mark.parametrize("derived", ["", "x" * 256, 5])
def test_a_function_that_gives_no_key_is_named(world: World, derived: Any) -> None:
    with pytest.raises(UsageError, match=r"Idempotency\.key"):
        world.host(key=lambda _: derived).call(key=None)


def test_a_key_may_be_required(world: World) -> None:
    host = world.host(required=True)
    with pytest.raises(Refused, match="key"):
        host.call(key=None, safety=Safety.READ_ONLY)
    with pytest.raises(Refused, match="key"):
        world.host().call(key=None)
    assert [event.reason for event in host.seen(CallRejected)] == ["no_key"]
    assert world.effects == []


def test_arguments_that_cannot_be_compared_are_refused(world: World) -> None:
    with pytest.raises(UsageError, match="arguments"):
        world.host().call(params={"sku": object()})
    assert world.effects == []


def test_it_is_for_servers(runtime: Bench, world: World) -> None:
    async def carry(call: Call) -> Reply:
        return Reply(result=call.key)

    chain = Chain([Idempotency(MemoryStore())], carry)
    assert runtime.call(chain.handler).result is None
    with pytest.raises(UsageError, match="server"):
        runtime.call(chain.handler, key="k")


# -- the object


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"store": "redis://"}, "store"), ({"ttl": 0}, "ttl"), ({"ttl": 4}, "ttl"), ({"ttl": math.inf}, "ttl"),
        ({"lease": 0}, "lease"), ({"lease": "5"}, "lease"), ({"wait": -1}, "wait"),
        ({"max_waiting": -1}, "max_waiting"), ({"max_waiting": 1.5}, "max_waiting"),
        ({"on_takeover": "retry"}, "on_takeover"),
        ({"on_store_error": "ignore"}, "on_store_error"), ({"abandon_on": "ValueError"}, "abandon_on"),
        ({"abandon_on": (5,)}, "abandon_on"), ({"abandon_on": (BaseException,)}, "abandon_on"),
        ({"abandon_on": ("",)}, "abandon_on"), ({"abandon_on": 5}, "abandon_on"), ({"key": "sku"}, "key"),
        ({"max_result_bytes": -1}, "max_result_bytes"), ({"local": -1}, "local"), ({"local": True}, "local"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    settings = {"store": MemoryStore(), **settings}
    with pytest.raises(ConfigurationError, match=named):
        Idempotency(settings.pop("store"), **settings)


def test_a_coroutine_function_is_no_key() -> None:
    async def key(call: Call) -> str:
        return "k"

    with pytest.raises(ConfigurationError, match="plain function"):
        Idempotency(MemoryStore(), key=key)  # type: ignore[arg-type]


def test_where_it_stands() -> None:
    async def carry(_: Call) -> Reply:
        return Reply(result=1)

    mine, other = Idempotency(MemoryStore()), Idempotency(MemoryStore())
    Chain([Fallback(value=1), mine, Chaos(latency=0.1)], carry)
    for wrong in ([mine, Fallback(value=1)], [Chaos(latency=0.1), mine], [mine, other], [Hedge(), mine]):
        with pytest.raises(ConfigurationError):
            Chain(wrong, carry)  # type: ignore[arg-type]


def test_a_policy_that_takes_its_place_knows_what_is_executed(world: World, runtime: Bench) -> None:
    old = world.host()
    new = world.host(ttl=60)
    new.policy.adopt(old.policy)

    async def repeat() -> Reply:
        await runtime.port.sleep(1)
        return await new.serve()

    _, again = runtime.together(lambda: old.serve(slow(world, 3)), repeat)
    assert again.replayed
    assert runtime.passed == 3


def test_the_child_of_a_fork_executes_nothing_of_its_parent(world: World) -> None:
    host = world.host()
    policy = host.policy
    policy.state.flights.begin(world.record(), b"x")
    policy.state.line_up(5)
    policy.leases.hold(world.record(), 1, 0.0, lambda _: None)
    policy.state.after_fork()
    policy.leases.after_fork()
    assert (len(policy.state.flights), policy.state.waiting, len(policy.leases)) == (0, 0, 0)
    assert not host.call().replayed


def test_events_carry_the_name(world: World) -> None:
    host = world.host(name="payments")
    host.call()
    host.call()
    assert [event.policy for event in host.seen(CallReplayed)] == ["payments"]


def test_the_state_of_an_unknown_key_is_none(world: World) -> None:
    found: Record | None = world.look(key=KEY)
    assert found is None
