"""ClientTracing: a span for each call, or for each attempt."""

from __future__ import annotations

from dataclasses import dataclass, field

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import SpanKind, TracerProvider

from resilient_rpc import Call, Handler, Reply
from resilient_rpc_opentelemetry import conventions as names
from resilient_rpc_opentelemetry.span import Around, check_settings, destination


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientTracing:
    """Puts a client span around what stands inside of it, and has its context travel with the call.

    First in the list, it is a span for the whole call; last, one for each attempt. Both may stand in one chain: the
    spans of attempts are children of that of the call. The parent is the span of whoever calls.
    """

    prefix: str = "rpc."
    """Of the names of queues, as the client has it."""
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
        around = Around(SpanKind.CLIENT, names.CLIENT_DURATION, self.tracers, self.meters, texts=self.texts)
        object.__setattr__(self, "_around", around)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """See the class."""
        attributes = destination(call, self.prefix, self.system, operation="call", kind="send")
        return await self._around.run(call, proceed, None, attributes, carry=True)
