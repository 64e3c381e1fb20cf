from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_rpc.binder import Binder
from resilient_rpc.call import Safety
from resilient_rpc.context import Context
from resilient_rpc.contract import Method, Methods
from resilient_rpc.errors import RpcError
from resilient_rpc.policies import Idempotency, for_
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.intake import BadAddress, Intake
from resilient_rpc.serving.job import NO_ID, Job, Letter
from resilient_rpc.stores import MemoryStore
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import encode_headers
from resilient_rpc.wire.codec import CODECS, JSON, MSGPACK
from resilient_rpc.wire.limits import Limits

SESSION: Any = cast("Any", object())


def take(a: int = 0, ctx: Context | None = None) -> int:
    return a


class Bench:
    def __init__(self, policies: Sequence[Any] = (), **limits: int) -> None:
        methods = Methods("shop")
        for name, safety in (("take", None), ("safe", Safety.IDEMPOTENT), ("keyed", Safety.DEDUP)):
            binder = Binder(take, Context)
            for codec in CODECS.values():
                binder.prepare(codec)
            methods.add(Method(name=name, function=take, binder=binder, safety=safety, timeout=None, is_async=False))
        self.refused: list[tuple[Any, RpcError]] = []
        self.intake = Intake(
            methods, Limits(**limits), Addresses(), lambda _, id_, error: self.refused.append((id_, error)), policies
        )

    def read(self, body: Any, redelivered: bool = False, **properties: Any) -> tuple[Letter, list[Job]]:
        data = body if isinstance(body, bytes) else JSON.encode(body)
        properties.setdefault("reply_to", "rpc.reply.x")
        delivery = Delivery(1, redelivered, properties, data)
        letter = self.intake.open(SESSION, delivery)
        return letter, self.intake.read(letter, delivery)

    def job(self, *args: Any, **how: Any) -> Job:
        _, [job] = self.read(*args, **how)
        return job


def call(method: str = "take", params: Any = None, id_: Any = 1, **meta: Any) -> dict[str, Any]:
    item: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "id": id_, "params": params or []}
    return {**item, "meta": meta} if meta else item


def test_a_call_is_ready_to_run() -> None:
    job = Bench().job(call(params=[5]))
    assert (job.args[0], job.reply, job.method.name, job.deadline) == (5, 1, "take", math.inf)
    assert isinstance(job.args[1] if len(job.args) > 1 else job.kwargs["ctx"], Context)


def test_calls_are_numbered_and_a_notification_has_no_id() -> None:
    bench = Bench()
    item = call()
    del item["id"]
    letter, jobs = bench.read([call(), item, call(id_=None)])
    assert [job.reply for job in jobs] == [1, NO_ID, None]
    assert len({job.id for job in jobs}) == 3
    assert (letter.left, letter.batch) == (3, True)


@pytest.mark.parametrize(
    "address", ["rpc.shop", b"rpc.reply.x", 5, ["rpc.reply.x"], {"a": 1}, "amq.rabbitmq.reply-to.x"]
)
def test_an_address_where_nobody_of_ours_waits_is_bad(address: Any) -> None:
    with pytest.raises(BadAddress):
        Bench().read(call(), reply_to=address)


@pytest.mark.parametrize("correlation", [b"x", 5, ["x"], True])
def test_a_correlation_id_is_a_text(correlation: Any) -> None:
    with pytest.raises(BadAddress, match="not a text"):
        Bench().read(call(), correlation_id=correlation)


def test_what_was_sent_to_us_is_known_by_its_version() -> None:
    bench = Bench()
    ours, _ = bench.read(call(), headers=encode_headers({"rpc-version": "1"}), correlation_id="t.1")
    plain, _ = bench.read(call(), headers=encode_headers({"other": "1"}), correlation_id="t.1")
    bare, _ = bench.read(call())
    assert (ours.ours, plain.ours, bare.ours) == (True, False, False)
    assert ours.key == ("rpc.reply.x", "t.1")
    assert plain.key is plain
    assert bare.key is bare


@pytest.mark.parametrize(
    ("expiration", "expected"),
    [("5000", 5.0), ("0", None), ("x", math.inf), ("-5", math.inf), ("", math.inf), ("9" * 13, math.inf),
     (b"5", math.inf), (5, math.inf), ("²", math.inf), ("5.0", math.inf), ("999999999999", 999999999.999)],
)  # fmt: skip
def test_an_expiration_is_a_deadline_if_it_is_a_number(expiration: Any, expected: float | None) -> None:
    bench = Bench()
    begin = time.monotonic()
    _, jobs = bench.read(call(), expiration=expiration)
    if expected is None:
        assert jobs == []
        return
    assert jobs[0].deadline == pytest.approx(begin + expected, abs=0.5)


def test_the_calls_own_time_counts_more_than_the_messages() -> None:
    job = Bench().job(call(ttl=2000), expiration="60000")
    assert job.deadline == pytest.approx(time.monotonic() + 2, abs=0.5)


@pytest.mark.parametrize("skew", [-3_600_000, 0, 3_600_000])
def test_what_waited_in_the_queue_has_less_time_left_whatever_the_clocks_say(skew: int) -> None:
    bench = Bench()
    now = int(time.time() * 1000) + skew
    fresh = bench.job(call(ttl=10_000, at=now))
    waited = bench.job(call(ttl=10_000, at=now - 4_000))
    assert fresh.deadline - waited.deadline == pytest.approx(4, abs=0.5)
    _, jobs = bench.read(call(ttl=3_000, at=now - 4_000))
    assert jobs == []
    assert "before it arrived" in str(bench.refused[-1][1])


def test_a_letter_may_be_dropped_when_the_last_of_its_callers_has_gone() -> None:
    bench = Bench()
    letter, _ = bench.read([call(ttl=1_000), call(ttl=9_000), call("nope", ttl=20_000)])
    assert letter.deadline == pytest.approx(time.monotonic() + 20, abs=0.5)
    letter, _ = bench.read([1])
    assert letter.deadline == math.inf
    letter, _ = bench.read(b"garbage")
    assert letter.deadline == math.inf


@pytest.mark.parametrize(
    ("method", "meta", "header", "runs"),
    [
        ("take", {}, None, False), ("take", {"safety": "read_only"}, None, True), ("take", {}, "read_only", True),
        ("take", {"safety": "unsafe"}, "read_only", False), ("safe", {}, None, True),
        ("safe", {"safety": "unsafe"}, None, True),
        ("take", {}, "x", False), ("take", {}, 5, False),
    ],
)  # fmt: skip
def test_a_call_that_may_have_been_begun_runs_again_only_if_it_is_repeatable(
    method: str, meta: dict[str, Any], header: Any, runs: bool
) -> None:
    bench = Bench()
    headers = {"headers": encode_headers({"rpc-safety": header})} if header is not None else {}
    _, jobs = bench.read(call(method, **meta), redelivered=True, **headers)
    assert bool(jobs) is runs
    assert runs or type(bench.refused[0][1]).__name__ == "Interrupted"


@pytest.mark.parametrize("headers", [b"", b"\x00", b"\x00\x00\x00\xff", b"\x00\x00\x00\x05rpc-s", b"\xff" * 40])
def test_headers_that_are_broken_make_nothing_safe(headers: bytes) -> None:
    bench = Bench()
    assert bench.read(call(), redelivered=True, headers=headers)[1] == []


@pytest.mark.parametrize("item", [call(key="k"), call("keyed"), call(safety="dedup")])
def test_a_keyed_call_is_refused_where_no_record_is_kept(item: Any) -> None:
    bench = Bench()
    assert bench.read(item)[1] == []
    assert type(bench.refused[0][1]).__name__ == "Refused"


@pytest.mark.parametrize("name", ["take", "shop.take"])
def test_what_keeps_records_is_found_however_a_message_names_the_method(name: str) -> None:
    bench = Bench([for_("shop.take", Idempotency(MemoryStore()))])
    assert bench.job(call(name, key="k")).context.key == "k"
    assert bench.read(call("shop.safe", key="k"))[1] == []


@settings(max_examples=300)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.integers() | st.text(max_size=3) | st.none(), lambda x: st.lists(x, max_size=3), max_leaves=5
    ).map(JSON.encode),
    st.sampled_from(["application/json", "application/msgpack", "x", None]),
    st.booleans(),
)
def test_nothing_raises_and_every_item_is_accounted_for(
    body: bytes, content_type: str | None, redelivered: bool
) -> None:
    bench = Bench()
    properties = {"content_type": content_type} if content_type else {}
    letter, jobs = bench.read(body, redelivered, **properties)
    assert len(jobs) + len(bench.refused) == letter.left
    assert letter.codec in (JSON, MSGPACK)
