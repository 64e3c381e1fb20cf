"""What both sides do alike: a span around the rest of the chain, and the duration of it as a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from resilient_rpc import Call, Handler, RemoteError, Reply, RpcError
from resilient_rpc_opentelemetry import conventions as names

SCOPE = "resilient_rpc"
PROPAGATOR = TraceContextTextMapPropagator()
"""W3C: what `meta.trace` carries."""
Attributes = Mapping[str, str | bool | int | float]


class Around:
    """Spans of one kind. `texts`: whether the texts of errors, which may quote arguments, are recorded."""

    def __init__(
        self,
        kind: SpanKind,
        duration: str,
        tracers: TracerProvider | None,
        meters: MeterProvider | None,
        *,
        texts: bool,
    ) -> None:
        self._kind, self._texts = kind, texts
        self._tracer: Tracer = trace.get_tracer(SCOPE, tracer_provider=tracers)
        meter: Meter = metrics.get_meter(SCOPE, meter_provider=meters)
        self._durations = meter.create_histogram(
            duration, unit="s", description="Duration of calls.", explicit_bucket_boundaries_advisory=names.BOUNDARIES
        )

    async def run(
        self, call: Call, proceed: Handler, parent: Context | None, attributes: Attributes, *, carry: bool
    ) -> Reply:
        """`proceed` within a span; with `carry` the context of the span travels with the call."""
        now = call.runtime.now
        begin = now()
        span = self._tracer.start_span(call.method, context=parent, kind=self._kind, attributes=dict(attributes))
        within = trace.set_span_in_context(span, parent)
        token = attach(within)
        about: dict[str, Any] = {names.RPC_SYSTEM: names.JSONRPC, names.RPC_METHOD: call.method}
        try:
            reply = await proceed(call.replace(trace=_carrier(call, within)) if carry else call)
        except BaseException as error:
            about |= self._fail(span, error)
            raise
        else:
            _describe(span, reply)
            return reply
        finally:
            detach(token)
            span.end()
            self._durations.record(now() - begin, about, context=within)

    def _fail(self, span: Span, error: BaseException) -> Attributes:
        found: dict[str, str] = {names.ERROR_TYPE: type(error).__name__}
        if isinstance(error, RemoteError):
            found[names.RPC_STATUS] = str(error.code)
        if not span.is_recording():
            return found
        span.set_attributes(found)
        if isinstance(error, RpcError):
            span.set_attribute(names.CERTAINTY, str(error.certainty))
            span.set_attribute(names.ATTEMPTS, error.attempts)
        if self._texts and isinstance(error, Exception):
            span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, str(error)[:200] if self._texts else type(error).__name__))
        return found


def _carrier(call: Call, within: Context) -> dict[str, str]:
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, context=within)
    return carrier or dict(call.trace or {})


def _describe(span: Span, reply: Reply) -> None:
    if not span.is_recording():
        return
    if reply.attempts > 1:
        span.set_attribute(names.ATTEMPTS, reply.attempts)
    if reply.server is not None:
        span.set_attribute(names.SERVER, reply.server)
    for name, value in ((names.REPLAYED, reply.replayed), (names.DEGRADED, reply.degraded)):
        if value:
            span.set_attribute(name, value)


def destination(call: Call, prefix: str, system: str, *, operation: str, kind: str) -> dict[str, Any]:
    """The attributes with which a span begins, so that a sampler can choose by them."""
    queue = prefix + call.target
    return {
        names.RPC_SYSTEM: names.JSONRPC,
        names.RPC_METHOD: call.method,
        names.MESSAGING_SYSTEM: system,
        names.MESSAGING_DESTINATION: queue,
        names.MESSAGING_OPERATION_NAME: operation,
        names.MESSAGING_OPERATION_TYPE: kind,
        names.ATTEMPT: call.attempt,
        names.SAFETY: str(call.safety),
    } | ({names.ROUTING_KEY: queue} if system == names.RABBITMQ else {})
