"""ServerTracing: a span for each call that a server executes, the child of its caller's."""

from __future__ import annotations

from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import SpanKind, TracerProvider

from resilient_rpc import Call, Handler, Reply, current_context
from resilient_rpc_opentelemetry import conventions as names
from resilient_rpc_opentelemetry.span import PROPAGATOR, Around, check_settings, destination


@dataclass(frozen=True, kw_only=True, eq=False)
class ServerTracing:
    """Puts a server span around a handler, with the caller's span as its parent.

    The span is the current one in the handler, in a thread too: what the handler traces, and the calls that it makes
    through a client with `ClientTracing`, are its children. A trace context that cannot be read begins a new trace.
    """

    prefix: str = "rpc."
    """Of the names of queues, as the server has it."""
    system: str = names.RABBITMQ
    """What carries the messages."""
    texts: bool = False
    """True records the texts of errors too, which may quote arguments."""
    tracers: TracerProvider | None = field(default=None, repr=False)
    """None: the global one."""
    meters: MeterProvider | None = field(default=None, repr=False)
    """None: the global one."""
    _around: Around = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self)
        around = Around(SpanKind.SERVER, names.SERVER_DURATION, self.tracers, self.meters, texts=self.texts)
        object.__setattr__(self, "_around", around)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """See the class."""
        parent = PROPAGATOR.extract(dict(call.trace or {}), context=Context())
        attributes = destination(call, self.prefix, self.system, operation="handle", kind="process")
        context = current_context()
        if context is not None and context.redelivered:
            attributes[names.REDELIVERED] = True
        return await self._around.run(call, proceed, parent, attributes, carry=False)
