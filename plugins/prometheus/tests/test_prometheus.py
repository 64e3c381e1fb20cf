from __future__ import annotations

import asyncio
import gc
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from resilient_rpc import AsyncClient, Call, Client, ConfigurationError, Handler, RemoteError, Reply, Server
from resilient_rpc.events import (
    AttemptEnded,
    CallEnded,
    CallRejected,
    CallServed,
    ChainReloaded,
    ConnectionStateChanged,
    Event,
    LateReply,
    LoopBlocked,
    MalformedDropped,
    MessageRefused,
    PolicyEvent,
    ReloadFailed,
)
from resilient_rpc.policies import (
    Cache,
    CacheUsed,
    HedgeStarted,
    HedgeSuppressed,
    HedgeWon,
    LimitChanged,
    RetryScheduled,
    RetrySuppressed,
)
from resilient_rpc_prometheus import dashboard, instrument
from resilient_rpc_prometheus.bounded import OTHER, Bounded
from resilient_rpc_prometheus.metrics import PREFIX
from tests.waiting import until

ABOUT: dict[str, Any] = {"policy": "Some", "method": "orders.price", "target": "orders"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


class Source(Client):
    """A client whose events are made by the test."""

    def __init__(self) -> None:
        super().__init__("memory://prometheus")

    def emit(self, event: Event) -> None:
        self._events.emit(event)


@pytest.fixture
def source(registry: CollectorRegistry) -> Iterator[Source]:
    made = Source()
    end = instrument(made, registry=registry)
    yield made
    end()
    made.close()


@pytest.fixture
def server(service: str, registry: CollectorRegistry) -> Iterator[Server]:
    made = Server(f"memory://{service}", service="orders")

    @made.method(safety="read_only")
    async def price(sku: str) -> float:
        return 9.5

    @made.method
    def fail() -> None:
        raise ValueError("a text that is no label")

    instrument(made, registry=registry)
    made.start()
    yield made
    made.stop()


def value(registry: CollectorRegistry, metric: str, /, **labels: str) -> float | None:
    return registry.get_sample_value(f"{PREFIX}_{metric}", labels)


class TestCalls:
    def test_calls_of_both_sides_are_counted(self, server: Server, service: str, registry: CollectorRegistry) -> None:
        client = Client(f"memory://{service}", policies=[])
        instrument(client, registry=registry, name="shop")
        with client:
            for _ in range(3):
                client.call("orders.price", {"sku": "A1"})
            with pytest.raises(RemoteError):
                client.call("orders.fail")
            with pytest.raises(RemoteError):
                client.call("orders.nothing")
            ok = {"method": "orders.price", "outcome": "ok", "error": ""}
            assert value(registry, "client_calls_total", **ok, certainty="") == 3
            assert value(registry, "client_attempts_total", **ok) == 3
            assert value(registry, "server_calls_total", **ok) == 3
            assert value(registry, "client_call_seconds_count", method="orders.price") == 3
            assert value(registry, "client_attempt_seconds_count", method="orders.price") == 3
            assert value(registry, "server_call_seconds_count", method="orders.price") == 3
            failed = {"method": "orders.fail", "outcome": "error"}
            assert value(registry, "server_calls_total", **failed, error="ValueError") == 1
            assert value(registry, "client_calls_total", **failed, error="ApplicationError", certainty="executed") == 1
            assert value(registry, "server_refused_total", name="orders", error="MethodNotFound") == 1
            assert value(registry, "connections", name="shop") == 1
            assert value(registry, "connections", name="orders") == 1
            assert value(registry, "connection_changes_total", name="shop", state="connected") == 1
        assert b"a text that is no label" not in generate_latest(registry)

    def test_asyncio_clients_are_counted_too(self, server: Server, service: str, registry: CollectorRegistry) -> None:
        async def main() -> None:
            async with AsyncClient(f"memory://{service}", policies=[Cache(ttl=30)]) as it:
                instrument(it, registry=registry)
                for _ in range(3):
                    await it.call("orders.price", {"sku": "A1"}, safety="read_only")
                outcomes = {
                    outcome: value(registry, "cache_uses_total", policy="Cache", target="orders", outcome=outcome)
                    for outcome in ("hit", "miss")
                }
                assert outcomes == {"hit": 2, "miss": 1}

        asyncio.run(main())
        assert value(registry, "client_calls_total", method="orders.price", outcome="ok", error="", certainty="") == 3

    def test_pending_calls_are_read_when_they_are_asked_for(self, registry: CollectorRegistry, service: str) -> None:
        gate, begun = threading.Event(), threading.Event()
        made = Server(f"memory://{service}", service="orders", concurrency=1)

        @made.method
        def block() -> None:
            begun.set()
            gate.wait(10)

        instrument(made, registry=registry)
        made.start()
        try:
            with Client(f"memory://{service}") as one, Client(f"memory://{service}") as other:
                instrument(one, registry=registry)
                instrument(other, registry=registry)
                futures = [client.submit("orders.block") for client in (one, other)]
                assert begun.wait(10)
                until(lambda: value(registry, "client_pending", name="client") == 2)
                until(lambda: value(registry, "server_waiting", name="orders") == 1)
                assert value(registry, "server_running", name="orders") == 1
                gate.set()
                for future in futures:
                    future.result(10)
                until(lambda: value(registry, "client_pending", name="client") == 0)
        finally:
            gate.set()
            made.stop()

    def test_a_policy_of_the_server_is_seen(self, registry: CollectorRegistry, service: str) -> None:
        class Replays:
            async def __call__(self, call: Call, proceed: Handler) -> Reply:
                return Reply(result=1, replayed=True)

        made = Server(f"memory://{service}", service="orders", policies=[Replays()])

        @made.method
        async def price() -> int:
            return 2

        with made_running(made), Client(f"memory://{service}") as client:
            instrument(client, registry=registry)
            client.call("orders.price")  # its reply says what the server understands
            client.call("orders.price")
        assert value(registry, "client_substitutes_total", method="orders.price", kind="replayed") == 2


class made_running:  # noqa: N801 - reads as a statement
    def __init__(self, server: Server) -> None:
        self.server = server

    def __enter__(self) -> None:
        self.server.start()

    def __exit__(self, *_: object) -> None:
        self.server.stop()


class Special(PolicyEvent, frozen=True, kw_only=True):
    """Of a plug-in that this one has never heard of."""


EVENTS: list[tuple[Event, str, dict[str, str], float]] = [
    (
        CallRejected(**ABOUT, reason="open"),
        "rejections_total",
        {"policy": "Some", "target": "orders", "reason": "open"},
        1,
    ),
    (
        Special(**ABOUT),
        "policy_events_total",
        {"event": "Special", "policy": "Some", "target": "orders", "reason": ""},
        1,
    ),
    (
        CallRejected(**ABOUT, reason="full"),
        "policy_events_total",
        {"event": "CallRejected", "policy": "Some", "target": "orders", "reason": "full"},
        1,
    ),
    (
        RetryScheduled(**ABOUT, delay=1.0, reason="backoff", error=OSError()),
        "retries_total",
        {"target": "orders", "reason": "backoff"},
        1,
    ),
    (
        RetrySuppressed(**ABOUT, reason="budget", error=OSError()),
        "retries_suppressed_total",
        {"target": "orders", "reason": "budget"},
        1,
    ),
    (
        CacheUsed(**ABOUT, outcome="hit"),
        "cache_uses_total",
        {"policy": "Some", "target": "orders", "outcome": "hit"},
        1,
    ),
    (HedgeStarted(**ABOUT, index=1, seconds=0.1), "hedges_total", {"target": "orders", "outcome": "started"}, 1),
    (HedgeWon(**ABOUT, index=1, seconds=0.1), "hedges_total", {"target": "orders", "outcome": "won"}, 1),
    (HedgeSuppressed(**ABOUT, reason="unsafe"), "hedges_total", {"target": "orders", "outcome": "suppressed"}, 1),
    (
        LimitChanged(**ABOUT, old=20, new=17, reason="gradient"),
        "limit",
        {"name": "client", "policy": "Some", "target": "orders"},
        17,
    ),
    (
        CallServed(method="orders.price", seconds=0.1, redelivered=True),
        "server_redelivered_total",
        {"method": "orders.price"},
        1,
    ),
    (LateReply(count=3), "late_replies_total", {"name": "client"}, 3),
    (MalformedDropped(reason="junk"), "malformed_total", {"name": "client"}, 1),
    (
        MessageRefused(filter="Signing", reason="x"),
        "messages_refused_total",
        {"name": "client", "filter": "Signing"},
        1,
    ),
    (LoopBlocked(seconds=0.25, what="work"), "loop_blocked_seconds_total", {"name": "client"}, 0.25),
    (ChainReloaded(before=(), after=()), "reloads_total", {"name": "client", "outcome": "ok"}, 1),
    (ReloadFailed(error=OSError(), kept=()), "reloads_total", {"name": "client", "outcome": "error"}, 1),
    (
        CallEnded(method="orders.price", seconds=0.1, degraded=True),
        "client_substitutes_total",
        {"method": "orders.price", "kind": "degraded"},
        1,
    ),
    (
        CallEnded(method="orders.price", seconds=0.1, error=asyncio.CancelledError()),
        "client_calls_total",
        {"method": "orders.price", "outcome": "error", "error": "CancelledError", "certainty": "unknown"},
        1,
    ),
    (
        AttemptEnded(method="orders.price", target="orders", attempt=1, seconds=0.1, error=OSError()),
        "client_attempts_total",
        {"method": "orders.price", "outcome": "error", "error": "OSError"},
        1,
    ),
]  # fmt: skip


class TestEvents:
    @pytest.mark.parametrize(
        ("event", "name", "labels", "expected"),
        EVENTS,
        ids=lambda item: type(item).__name__ if isinstance(item, Event) else None,
    )
    def test_an_event_is_counted(
        self,
        source: Source,
        registry: CollectorRegistry,
        event: Event,
        name: str,
        labels: dict[str, str],
        expected: float,
    ) -> None:
        source.emit(event)
        assert value(registry, name, **labels) == expected

    def test_the_state_of_a_circuit_is_the_newest(self, source: Source, registry: CollectorRegistry) -> None:
        from resilient_rpc.policies import CircuitStateChanged  # noqa: PLC0415
        from resilient_rpc.policies.circuit_state import State  # noqa: PLC0415

        def change(old: State, new: State, generation: int) -> None:
            source.emit(CircuitStateChanged(**ABOUT, old=old, new=new, reason="consecutive", generation=generation))

        change(State.CLOSED, State.OPEN, 1)
        change(State.HALF_OPEN, State.CLOSED, 3)
        change(State.OPEN, State.HALF_OPEN, 2)  # announced late
        about = {"name": "client", "policy": "Some", "target": "orders"}
        states = {each: value(registry, "circuit_state", **about, state=each.value) for each in State}
        assert states == {each: float(each is State.CLOSED) for each in State}
        assert value(registry, "circuit_changes_total", policy="Some", target="orders", state="half_open") == 1

    def test_connections_are_counted(self, source: Source, registry: CollectorRegistry) -> None:
        for state in ("connected", "connected", "blocked", "lost", "failed"):
            source.emit(ConnectionStateChanged(state=state))  # type: ignore[arg-type]
        assert value(registry, "connections", name="client") == 1
        assert value(registry, "connection_changes_total", name="client", state="failed") == 1

    def test_a_connection_of_before_is_not_counted_when_it_is_lost(
        self, source: Source, registry: CollectorRegistry
    ) -> None:
        source.emit(ConnectionStateChanged(state="lost"))
        assert value(registry, "connections", name="client") == 0

    def test_what_has_ended_is_counted_no_more(self, registry: CollectorRegistry) -> None:
        made = Source()
        end = instrument(made, registry=registry)
        end()
        made.emit(LateReply())
        assert value(registry, "late_replies_total", name="client") is None
        assert value(registry, "client_pending", name="client") is None

    def test_a_source_that_is_gone_is_not_kept(self, registry: CollectorRegistry) -> None:
        made = Source()
        instrument(made, registry=registry)
        made.close()
        del made
        gc.collect()
        assert value(registry, "client_pending", name="client") is None


class TestLabels:
    def test_there_are_only_so_many_methods(self, registry: CollectorRegistry) -> None:
        made = Source()
        instrument(made, registry=registry, methods=2)
        for number in range(5):
            made.emit(CallEnded(method=f"orders.m{number}", seconds=0.1))
        labels = {"outcome": "ok", "error": "", "certainty": ""}
        assert value(registry, "client_calls_total", method="orders.m1", **labels) == 1
        assert value(registry, "client_calls_total", method=OTHER, **labels) == 3
        assert value(registry, "client_calls_total", method="orders.m4", **labels) is None

    def test_a_long_value_is_cut(self) -> None:
        assert Bounded(1)("x" * 500) == "x" * 100

    @pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None])
    def test_a_wrong_number_is_named(self, registry: CollectorRegistry, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match="methods"):
            instrument(Source(), registry=registry, methods=wrong)

    def test_what_has_no_events_is_named(self, registry: CollectorRegistry) -> None:
        with pytest.raises(ConfigurationError, match="give a Client"):
            instrument(object(), registry=registry)  # type: ignore[arg-type]


def _exported(registry: CollectorRegistry) -> set[str]:
    found = set()
    for family in registry.collect():
        if family.name.startswith(PREFIX):
            suffix = {"counter": "_total", "histogram": "_bucket"}.get(family.type, "")
            found.add(family.name + suffix)
    return found


class TestDashboard:
    def test_it_shows_every_metric_and_no_other(self, source: Source, registry: CollectorRegistry) -> None:
        expressions = " ".join(target["expr"] for panel in _panels() for target in panel.get("targets", []))
        assert set(re.findall(rf"{PREFIX}_\w+", expressions)) == _exported(registry)

    def test_it_groups_by_labels_that_there_are(self, source: Source, registry: CollectorRegistry) -> None:
        labels: dict[str, set[str]] = {}
        for event, *_ in EVENTS:
            source.emit(event)
        for family in registry.collect():
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
        for panel in _panels():
            for target in panel.get("targets", []):
                [metric] = re.findall(rf"{PREFIX}_\w+", target["expr"])
                by = set(re.findall(r"\w+", re.findall(r"by \(([^)]*)\)", target["expr"])[0]))
                if metric in labels:
                    assert by <= labels[metric], target["expr"]
                assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= by - {"le"}

    def test_its_panels_do_not_overlap(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in _panels():
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells
        ids = [panel["id"] for panel in _panels()]
        assert len(set(ids)) == len(ids)


def _panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(dashboard())["panels"]
    return found
