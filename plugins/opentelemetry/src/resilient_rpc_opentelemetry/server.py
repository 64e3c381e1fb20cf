"""ServerTracing: a span for each call that a server executes, the child of its caller's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from resilient_rpc import Call, Handler, Reply, current_context
from resilient_rpc_opentelemetry import conventions as names
from resilient_rpc_opentelemetry.settings import Tracing
from resilient_rpc_opentelemetry.span import PROPAGATOR, destination


@dataclass(frozen=True, kw_only=True, eq=False)
class ServerTracing(Tracing):
    """Puts a server span around a handler, with the caller's span as its parent.

    The span is the current one in the handler, in a thread too: what the handler traces, and the calls that it makes
    through a client with `ClientTracing`, are its children. A trace context that cannot be read begins a new trace.
    """

    kind: ClassVar[SpanKind] = SpanKind.SERVER
    duration: ClassVar[str] = names.SERVER_DURATION

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """See the class."""
        parent = PROPAGATOR.extract(dict(call.trace or {}), context=Context())
        attributes = destination(call, self.prefix, self.system, operation="handle", kind="process")
        context = current_context()
        if context is not None and context.redelivered:
            attributes[names.REDELIVERED] = True
        return await self._around.run(call, proceed, parent, attributes, carry=False)
