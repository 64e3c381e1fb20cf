"""The parts of which the policy is made, each by itself."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.context import Context
from resilient_rpc.errors import (
    ApplicationError,
    Certainty,
    ConnectionLost,
    InvalidParams,
    Overloaded,
    RpcError,
    UnsupportedContent,
)
from resilient_rpc.policies.idempotency.fingerprint import fingerprint_of
from resilient_rpc.policies.idempotency.flights import Flights
from resilient_rpc.policies.idempotency.leases import Leases
from resilient_rpc.policies.idempotency.local import OVERHEAD, UNSETTLED, Local
from resilient_rpc.policies.idempotency.replies import Kept, error_of, keep_error, keep_result, result_of
from resilient_rpc.policies.idempotency.served import Served
from resilient_rpc.policies.idempotency.state import State
from resilient_rpc.runtime import io_loop, running_runtime
from resilient_rpc.serving.around import Course as ServersCourse
from resilient_rpc.stores.base import RecordKey
from resilient_rpc.stores.errors import CorruptRecord
from resilient_rpc.stores.memory import MemoryStore
from resilient_rpc.testing import VirtualClock
from resilient_rpc.wire.codec import JSON, MSGPACK
from resilient_rpc.wire.faults import describe_fault
from tests.policies.idempotency.bench import Course

KEY = RecordKey("default", "orders", "create", "k")
MARK = b"fingerprint"
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Order(msgspec.Struct):
    sku: str
    qty: int = 1


# -- fingerprints


@given(st.dictionaries(st.text(), values), st.randoms())
def test_the_order_of_arguments_makes_no_difference(arguments: dict[str, Any], random: Any) -> None:
    shuffled = list(arguments.items())
    random.shuffle(shuffled)
    assert fingerprint_of("a.b", arguments) == fingerprint_of("a.b", dict(shuffled))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("a.c", {"sku": "A1"}), ("a.b", {"sku": "A2"}), ("a.b", {"sku": "A1", "qty": 1}), ("a.b", {"sku": ["A1"]}),
        ("a.b", {}),
    ],
)  # fmt: skip
def test_other_calls_have_other_fingerprints(method: str, arguments: dict[str, Any]) -> None:
    assert fingerprint_of(method, arguments) != fingerprint_of("a.b", {"sku": "A1"})


def test_it_is_of_what_is_sent_whatever_it_was_made_into() -> None:
    assert fingerprint_of("a.b", {"order": Order("A1")}) == fingerprint_of("a.b", {"order": {"qty": 1, "sku": "A1"}})
    assert len(fingerprint_of("a.b", {})) == 32


# -- answers as they are kept


@given(values)
def test_a_result_comes_back_byte_for_byte(result: Any) -> None:
    for codec in (JSON, MSGPACK):
        kept = keep_result(MARK, codec, result, 1 << 20)
        assert bytes(result_of(kept, codec)) == codec.encode(result)


def test_a_result_comes_back_in_another_codec() -> None:
    when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    kept = keep_result(MARK, MSGPACK, {"when": when, "raw": b"\x00"}, 1000)
    assert JSON.encode(result_of(kept, JSON)) == JSON.encode({"when": when, "raw": b"\x00"})


def test_a_result_that_cannot_be_encoded_is_not_kept() -> None:
    with pytest.raises(UnsupportedContent):
        keep_result(MARK, JSON, object(), 1000)


def final(error: RpcError) -> RpcError:
    error.retryable = False
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("broken"),
        ApplicationError("none left", type="sold_out", details=[1, {"a": None}], retry_after=2.5),
        InvalidParams("no"),
        ConnectionLost("of another call"),
        RpcError("of the library", certainty=Certainty.NOT_EXECUTED),
        ApplicationError("unknown", certainty=Certainty.UNKNOWN),
        final(Overloaded("for good")),
    ],
)
def test_an_error_comes_back_as_its_caller_was_told_of_it(error: Exception) -> None:
    kept = keep_error(MARK, error, 1000)
    again = describe_fault(error_of(kept))
    first = msgspec.msgpack.decode(kept.payload)
    assert (again.code, again.message) == (first["code"], first["message"])
    assert again.data is not None
    assert {k: v for k, v in msgspec.to_builtins(again.data).items() if v is not None} == {
        k: v for k, v in first["data"].items() if v is not None
    }


def test_details_that_cannot_be_kept_are_left_out() -> None:
    odd = error_of(keep_error(MARK, ApplicationError("x", type="odd", details=object()), 1000))
    assert (odd.code, odd.message, odd.type, odd.details) == (-32603, "x", "odd", None)
    large = error_of(keep_error(MARK, ApplicationError("x", type="large", details="y" * 2000), 1000))
    assert (large.code, large.type, large.details, large.certainty) == (-32000, "large", None, Certainty.EXECUTED)


@pytest.mark.parametrize("payload", [b"", b"J", b"X1", b"M\xc1", b"{}"])
def test_what_is_no_result_of_ours_is_said_to_be_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptRecord):
        result_of(Kept(MARK, payload, True), JSON)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x80", b"{}", b"\x81\xa4code\xa1x"])
def test_what_is_no_error_of_ours_is_said_to_be_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptRecord):
        error_of(Kept(MARK, payload, False))


def test_an_error_without_data_is_one_of_which_little_is_known() -> None:
    error = error_of(Kept(MARK, MSGPACK.encode({"code": -32000, "message": "x"}), False))
    assert (error.type, error.details, error.certainty) == ("", None, Certainty.UNKNOWN)


# -- what this process executes


def test_a_flight_is_found_until_it_ends() -> None:
    flights, kept = Flights(), Kept(MARK, b"J1", True)
    flight = flights.begin(KEY, MARK)
    assert flights.of(KEY) is flight
    answer = flights.join(KEY)
    assert answer is not None
    assert flights.join(KEY) is answer
    flights.end(KEY, flight, kept)
    flights.end(KEY, flight, None)
    assert flights.of(KEY) is flights.join(KEY) is None
    assert answer.result() is kept


def test_who_waits_for_one_that_was_taken_over_here_looks_again() -> None:
    flights = Flights()
    late = flights.begin(KEY, MARK)
    answer = flights.join(KEY)
    taken = flights.begin(KEY, MARK)
    assert answer is not None
    assert answer.result() is None
    flights.end(KEY, late, None)
    assert flights.of(KEY) is taken
    assert len(flights) == 1


# -- answers in this process


def key(number: int) -> RecordKey:
    return KEY._replace(key=str(number))


def test_answers_are_kept_until_their_time_is_up() -> None:
    local, kept = Local(1), Kept(MARK, b"J1", True)
    assert local.of(KEY, 0) is None
    local.keep(KEY, kept, 10)
    assert local.of(KEY, 9) is kept
    assert local.of(key(5), 9) is None
    assert local.of(KEY, 10) is None
    assert len(local) == 0


def test_only_so_many_answers_are_kept() -> None:
    local = Local(0)
    for number in range(UNSETTLED + 1):
        local.keep(key(number), Kept(MARK, b"J1", True), 10)
    assert len(local) == UNSETTLED
    assert local.of(key(0), 0) is None
    assert local.of(key(1), 0) is not None


def test_only_so_many_bytes_are_kept_and_one_answer_in_any_case() -> None:
    local = Local(0, max_bytes=3 * (OVERHEAD + 1000))
    for number in range(5):
        local.keep(key(number), Kept(MARK, b"x" * 1000, True), 10)
        local.of(key(0), 0)
    assert [number for number in range(5) if local.of(key(number), 0)] == [0, 3, 4]
    local.keep(key(0), Kept(MARK, b"x" * 10_000, True), 10)
    assert [number for number in range(5) if local.of(key(number), 0)] == [0]
    local.drop(key(0))
    local.drop(key(0))
    assert len(local) == 0


# -- leases


def test_leases_are_renewed_at_a_third_and_not_when_they_are_released() -> None:
    with VirtualClock() as clock:
        store = MemoryStore(clock=clock.now)
        leases = Leases(store, 3.0, lambda: clock.io)
        began = clock.now()
        told: list[tuple[float, Any]] = []

        async def begin() -> int:
            outcome = await store.begin(KEY, fingerprint=MARK, lease=3, ttl=60)
            return outcome.epoch  # type: ignore[union-attr]

        epoch = asyncio.run(begin())
        lease = leases.hold(KEY, epoch, began, lambda outcome: told.append((clock.now() - began, outcome)))
        short = leases.hold(key(2), 1, began, lambda _: told.append((0, "released, and renewed")))
        leases.release(short)
        clock.advance(2.5)
        assert told == [(1, True), (2, True)]
        asyncio.run(_delete(store))
        clock.advance(10)
        assert told == [(1, True), (2, True), (3, False)]
        assert len(leases) == 0
        leases.release(lease)


async def _delete(store: MemoryStore) -> None:
    await store.delete(KEY)


def test_one_that_ends_while_it_is_renewed_is_not_told_of_it() -> None:
    with VirtualClock() as clock:
        told: list[Any] = []

        class Slow(MemoryStore):
            async def renew(self, key: RecordKey, epoch: int, *, lease: float) -> bool:
                await asyncio.sleep(1)
                return True

        leases = Leases(Slow(clock=clock.now), 3.0, lambda: clock.io)
        lease = leases.hold(KEY, 1, clock.now(), told.append)
        clock.advance(1.5)
        leases.release(lease)
        clock.advance(5)
        assert told == []
        leases.hold(KEY, 1, clock.now(), told.append)
        clock.advance(2.5)
        assert told == [True], "it begins again when there is something to do"


def test_when_no_server_is_left_the_store_is_closed_on_the_io_loop_too() -> None:
    with VirtualClock() as clock:
        closed: list[float] = []

        class Closes(MemoryStore):
            async def close(self) -> None:
                closed.append(clock.now())

        def leases() -> Leases:
            return Leases(Closes(clock=clock.now), 3.0, lambda: clock.io)

        unused = leases()
        unused.close()
        clock.advance(1)
        assert closed == []
        idle = leases()
        idle.used()
        idle.close()
        clock.advance(0)
        assert len(closed) == 1
        holding = leases()
        held = holding.hold(KEY, 1, clock.now(), lambda _: None)
        holding.used()
        holding.close()
        clock.advance(0.5)
        assert len(closed) == 1, "not while something is held"
        holding.release(held)
        clock.advance(1)
        assert len(closed) == 2


def test_those_that_are_late_are_renewed_at_once() -> None:
    with VirtualClock() as clock:
        told: list[Any] = []
        leases = Leases(MemoryStore(clock=clock.now), 3.0, lambda: clock.io)
        leases.hold(KEY, 1, clock.now() - 2, told.append)
        clock.advance(0)
        assert told == [False]


def test_what_a_server_knows_of_a_call_is_what_the_policy_asks_for() -> None:
    members = {name for name in vars(Served) if not name.startswith("_")} | set(Served.__annotations__)
    assert members >= {
        "context",
        "codec",
        "tenant",
        "params",
        "parking",
        "asking",
        "began",
        "ended",
        "replayed",
        "hold",
        "step_out",
        "step_in",
    }
    assert not {name for name in members if name not in dir(ServersCourse)}
    assert isinstance(Course(Context("m", 0.0, None), {}, "t", JSON), Served)  # type: ignore[arg-type]


def test_the_store_is_closed_for_each_server_that_stops_and_once_more_for_the_last() -> None:
    ended: list[str] = []

    class Closes(MemoryStore):
        async def close(self) -> None:
            ended.append("store")

    class Last(Leases):
        def close(self) -> None:
            ended.append("leases")

    async def main() -> None:
        state, store = State(0), Closes()
        leases = Last(store, 5.0, io_loop)
        one, other = running_runtime().scope(), running_runtime().scope()
        for runtime in (one, other, one):
            state.close_with(runtime, store, leases)
        await asyncio.sleep(0)
        await one.aclose()
        assert ended == ["store"]
        await other.aclose()
        assert sorted(ended) == ["leases", "store", "store"]

    asyncio.run(main())


@pytest.mark.parametrize("taken", [True, False])
def test_the_last_server_waits_at_its_end_for_answers_that_the_store_has_not_taken(
    monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.setattr("resilient_rpc.policies.idempotency.state.SETTLED_WITHIN", 10.0 if taken else 0.02)

    async def main() -> None:
        state, store = State(0), MemoryStore()
        leases = Leases(store, 5.0, io_loop)
        one, other = running_runtime().scope(), running_runtime().scope()
        for runtime in (one, other):
            state.close_with(runtime, store, leases)
        first, second = state.unsettled(), state.unsettled()
        await asyncio.sleep(0)
        await one.aclose()  # the other one is there
        ending = asyncio.create_task(other.aclose())
        if taken:
            for answer in (first, second):
                done, _ = await asyncio.wait((ending,), timeout=0.01)
                assert not done
                state.settled(answer)
        assert await ending

    asyncio.run(main())
