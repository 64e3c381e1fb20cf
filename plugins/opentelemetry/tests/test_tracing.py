from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from resilient_rpc import (
    ApplicationError,
    AsyncClient,
    Call,
    Client,
    ConfigurationError,
    Context,
    Handler,
    Reply,
    Safety,
    Server,
    Unroutable,
)
from resilient_rpc.chain import compose
from resilient_rpc.context import enter_context
from resilient_rpc.errors import ConnectionLost
from resilient_rpc.policies import Retry
from resilient_rpc.registry import load_policy
from resilient_rpc.runtime import running_runtime
from resilient_rpc.testing import check_policy
from resilient_rpc_opentelemetry import ClientTracing, ServerTracing

SECRET = "a secret in a text"


class Telemetry:
    """Where everything ends up."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def client(self, **settings: Any) -> ClientTracing:
        return ClientTracing(tracers=self.tracers, meters=self.meters, **settings)

    def server(self, **settings: Any) -> ServerTracing:
        return ServerTracing(tracers=self.tracers, meters=self.meters, **settings)

    def spans(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if kind is None or span.kind is kind]

    def one(self, kind: SpanKind, name: str = "") -> ReadableSpan:
        [span] = [span for span in self.spans(kind) if not name or span.name == name]
        return span

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


@pytest.fixture(params=["memory", pytest.param("amqp", marks=pytest.mark.broker)])
def url(request: pytest.FixtureRequest, service: str) -> str:
    found: str = f"memory://{service}" if request.param == "memory" else request.getfixturevalue("amqp_url")
    return found


@pytest.fixture
def served(url: str, service: str, telemetry: Telemetry) -> Iterator[list[Any]]:
    """A server whose handlers note the span that they run in."""
    seen: list[Any] = []
    server = Server(url, service=service, name="server-1", policies=[telemetry.server()])
    onward = AsyncClient(url, policies=[telemetry.client()])

    @server.method(safety="read_only")
    async def price(ctx: Context, sku: str = "A1") -> float:
        seen.append(trace.get_current_span().get_span_context())
        return 9.5

    @server.method
    def threaded() -> None:
        seen.append(trace.get_current_span().get_span_context())

    @server.method
    def fail() -> None:
        raise ValueError(SECRET)

    @server.method
    async def relay() -> float:
        found: float = await onward.call(f"{service}.price")
        return found

    @server.method
    async def close_client() -> None:
        await onward.close()

    server.start()
    yield seen
    with Client(url) as client:
        client.call(f"{service}.close_client")
    server.stop()


def test_the_server_continues_the_trace_of_its_caller(
    url: str, service: str, telemetry: Telemetry, served: list[Any]
) -> None:
    tracer = telemetry.tracers.get_tracer("test")
    with (
        Client(url, policies=[telemetry.client()]) as client,
        tracer.start_as_current_span("outside") as outside,
    ):
        assert client.call(f"{service}.price", {"sku": "A1"}) == 9.5
    ours, theirs = telemetry.one(SpanKind.CLIENT), telemetry.one(SpanKind.SERVER)
    assert ours.parent == outside.get_span_context()
    assert theirs.parent is not None
    assert theirs.context is not None
    assert ours.context is not None
    assert theirs.parent.span_id == ours.context.span_id
    assert theirs.parent.is_remote
    assert theirs.context.trace_id == ours.context.trace_id == outside.get_span_context().trace_id
    assert served == [theirs.context]


def test_asyncio_clients_do_so_too(url: str, service: str, telemetry: Telemetry, served: list[Any]) -> None:
    async def main() -> None:
        async with AsyncClient(url, policies=[telemetry.client()]) as client:
            await asyncio.gather(*[client.call(f"{service}.price") for _ in range(20)])
            assert not trace.get_current_span().get_span_context().is_valid

    asyncio.run(main())
    callers = {span.context.span_id for span in telemetry.spans(SpanKind.CLIENT) if span.context is not None}
    parents = {span.parent.span_id for span in telemetry.spans(SpanKind.SERVER) if span.parent is not None}
    assert callers == parents
    assert len(callers) == 20


def test_attributes_follow_the_conventions(url: str, service: str, telemetry: Telemetry, served: list[Any]) -> None:
    with Client(url, policies=[telemetry.client()]) as client:
        client.call(f"{service}.price", safety="read_only")
    common = {
        "rpc.system.name": "jsonrpc",
        "rpc.method": f"{service}.price",
        "messaging.system": "rabbitmq",
        "messaging.destination.name": f"rpc.{service}",
        "messaging.rabbitmq.destination.routing_key": f"rpc.{service}",
        "resilient_rpc.attempt": 1,
        "resilient_rpc.safety": "read_only",
    }
    ours, theirs = telemetry.one(SpanKind.CLIENT), telemetry.one(SpanKind.SERVER)
    assert (ours.name, theirs.name) == (f"{service}.price", f"{service}.price")
    known = {"resilient_rpc.server": "server-1"}
    found = dict(ours.attributes or {})
    assert {**found, **known} == {
        **common,
        **known,
        "messaging.operation.name": "call",
        "messaging.operation.type": "send",
    }
    assert dict(theirs.attributes or {}) == {
        **common,
        "messaging.operation.name": "handle",
        "messaging.operation.type": "process",
    }
    assert {ours.status.status_code, theirs.status.status_code} == {StatusCode.UNSET}


def test_a_handler_in_a_thread_is_in_the_span(url: str, service: str, telemetry: Telemetry, served: list[Any]) -> None:
    with Client(url, policies=[telemetry.client()]) as client:
        client.call(f"{service}.threaded")
    assert served == [telemetry.one(SpanKind.SERVER).context]


def test_calls_of_a_handler_are_its_children(url: str, service: str, telemetry: Telemetry, served: list[Any]) -> None:
    with Client(url, policies=[telemetry.client()]) as client:
        client.call(f"{service}.relay")
    inner, relay = (
        telemetry.one(kind, f"{service}.{name}")
        for kind, name in [(SpanKind.CLIENT, "price"), (SpanKind.SERVER, "relay")]
    )
    assert inner.parent == relay.context
    assert len({span.context.trace_id for span in telemetry.spans() if span.context is not None}) == 1


def test_an_error_is_told_on_both_sides_without_its_text(
    url: str, service: str, telemetry: Telemetry, served: list[Any]
) -> None:
    with Client(url, policies=[telemetry.client()]) as client, pytest.raises(ApplicationError):
        client.call(f"{service}.fail")
    ours, theirs = telemetry.one(SpanKind.CLIENT), telemetry.one(SpanKind.SERVER)
    assert (ours.status.status_code, theirs.status.status_code) == (StatusCode.ERROR, StatusCode.ERROR)
    assert ours.attributes is not None
    assert ours.attributes["error.type"] == "ApplicationError"
    assert ours.attributes["rpc.response.status_code"] == "-32000"
    assert ours.attributes["resilient_rpc.certainty"] == "executed"
    assert theirs.attributes is not None
    assert theirs.attributes["error.type"] == "ValueError"
    for span in (ours, theirs):
        assert SECRET not in span.to_json()
        assert not span.events


def test_the_text_of_an_error_is_recorded_where_it_is_wanted(
    url: str, service: str, telemetry: Telemetry, served: list[Any]
) -> None:
    with Client(url, policies=[telemetry.client(texts=True)]) as client, pytest.raises(ApplicationError):
        client.call(f"{service}.fail")
    ours = telemetry.one(SpanKind.CLIENT)
    assert ours.status.description == SECRET
    assert [event.name for event in ours.events] == ["exception"]


def test_durations_are_measured_on_both_sides(url: str, service: str, telemetry: Telemetry, served: list[Any]) -> None:
    with Client(url, policies=[telemetry.client()]) as client:
        for _ in range(3):
            client.call(f"{service}.price")
        with pytest.raises(ApplicationError):
            client.call(f"{service}.fail")
    for name in ("rpc.client.call.duration", "rpc.server.call.duration"):
        counts = {
            (point.attributes["rpc.method"], point.attributes.get("error.type")): point.count
            for point in telemetry.points(name)
        }
        error = "ApplicationError" if "client" in name else "ValueError"
        assert counts == {(f"{service}.price", None): 3, (f"{service}.fail", error): 1}
        assert all(0 <= point.sum < 30 for point in telemetry.points(name))


def test_a_call_that_reached_nobody_ends_its_span(url: str, service: str, telemetry: Telemetry) -> None:
    with Client(url, policies=[telemetry.client()]) as client, pytest.raises(Unroutable):
        client.call(f"{service}.price")
    assert telemetry.one(SpanKind.CLIENT).attributes is not None
    assert (telemetry.one(SpanKind.CLIENT).attributes or {})["resilient_rpc.certainty"] == "not_executed"


class Fails:
    """Fails so many times; in memory, beneath everything."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def __call__(self, call: Call, proceed: Handler) -> Reply:
        if self.left:
            self.left -= 1
            raise ConnectionLost("on its way")
        return await proceed(call)


def test_attempts_are_children_of_the_call(service: str, telemetry: Telemetry) -> None:
    server = Server(f"memory://{service}", service=service)

    @server.method
    async def price() -> float:
        return 9.5

    policies = [telemetry.client(), Retry(attempts=3, base=0.001, cap=0.002), telemetry.client(), Fails(2)]
    server.start()
    try:
        with Client(f"memory://{service}", policies=policies) as client:
            client.call(f"{service}.price", safety="read_only")
    finally:
        server.stop()
    *attempts, whole = telemetry.spans(SpanKind.CLIENT)
    assert [(span.attributes or {})["resilient_rpc.attempt"] for span in attempts] == [1, 2, 3]
    assert whole.context is not None
    assert {span.parent.span_id for span in attempts if span.parent is not None} == {whole.context.span_id}
    assert (whole.attributes or {})["resilient_rpc.attempts"] == 3


@pytest.mark.parametrize(
    "carried",
    [
        {"traceparent": "junk"},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": "x" * 10_000, "tracestate": "y" * 10_000},
        {"tracestate": "a=b"},
        {"TRACEPARENT": "\r\n"},
        {},
    ],
)
def test_a_strange_trace_context_begins_a_new_trace(
    service: str, telemetry: Telemetry, carried: dict[str, str]
) -> None:
    class Carries:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            return await proceed(call.replace(trace=carried))

    server = Server(f"memory://{service}", service=service, policies=[telemetry.server()])

    @server.method
    async def price() -> float:
        return 9.5

    server.start()
    try:
        with Client(f"memory://{service}", policies=[Carries()]) as client:
            assert client.call(f"{service}.price") == 9.5
    finally:
        server.stop()
    assert telemetry.one(SpanKind.SERVER).parent is None


def test_degraded_and_replayed_results_are_marked(service: str, telemetry: Telemetry) -> None:
    class Keeps:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            return Reply(result=1, degraded=True, replayed=True)

    with Client(f"memory://{service}", policies=[telemetry.client(system="memory"), Keeps()]) as client:
        client.call("orders.price")
    attributes = telemetry.one(SpanKind.CLIENT).attributes or {}
    assert attributes["resilient_rpc.replayed"] is attributes["resilient_rpc.degraded"] is True
    assert attributes["messaging.system"] == "memory"
    assert "messaging.rabbitmq.destination.routing_key" not in attributes


@pytest.mark.parametrize("error", [None, ConnectionLost("x")])
def test_what_is_not_sampled_costs_nothing_and_is_carried_on(service: str, error: Exception | None) -> None:
    carried: list[Any] = []

    class Last:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            carried.append(call.trace)
            if error is not None:
                raise error
            return Reply(result=1, server="s")

    tracing = ClientTracing(tracers=TracerProvider(sampler=ALWAYS_OFF))
    with Client(f"memory://{service}", policies=[tracing, Last()]) as client:
        if error is None:
            assert client.call("orders.price") == 1
        else:
            with pytest.raises(ConnectionLost):
                client.call("orders.price")
    assert int(carried[0]["traceparent"][-2:], 16) & 1 == 0


def test_without_a_provider_the_trace_of_before_travels_on(service: str) -> None:
    carried: list[Any] = []
    before = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}

    class First:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            return await proceed(call.replace(trace=before))

    class Last:
        async def __call__(self, call: Call, proceed: Handler) -> Reply:
            carried.append(call.trace)
            return Reply(result=1)

    with Client(f"memory://{service}", policies=[First(), ClientTracing(), Last()]) as client:
        client.call("orders.price")
    assert carried == [before]


def test_a_call_that_is_delivered_again_is_marked(service: str, telemetry: Telemetry) -> None:
    marked = Context("price", 1.0, Safety.READ_ONLY, redelivered=True)
    chain = compose([telemetry.server()], answer)

    async def main() -> None:
        enter_context(marked)
        await chain(Call(method="orders.price", params={}, runtime=running_runtime(), deadline=1e9))

    asyncio.run(main())
    assert (telemetry.one(SpanKind.SERVER).attributes or {})["resilient_rpc.redelivered"] is True


async def answer(call: Call) -> Reply:
    return Reply(result=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ClientTracing, ServerTracing])
def test_it_is_a_policy_as_it_should_be(kind: type[Any], telemetry: Telemetry) -> None:
    check_policy(lambda: kind(tracers=telemetry.tracers, meters=telemetry.meters))


@pytest.mark.parametrize("kind", [ClientTracing, ServerTracing])
@pytest.mark.parametrize(
    "wrong", [{"prefix": 5}, {"system": None}, {"texts": 1}, {"tracers": "x"}, {"meters": object()}]
)
def test_a_wrong_setting_is_named(kind: type[Any], wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(ConfigurationError, match=f"{kind.__name__}.{name}="):
        kind(**wrong)


def test_they_are_found_by_name() -> None:
    assert load_policy("client_tracing") is ClientTracing
    assert load_policy("server_tracing") is ServerTracing
