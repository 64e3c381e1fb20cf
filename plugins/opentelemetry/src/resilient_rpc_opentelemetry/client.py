"""ClientTracing: a span for each call, or for each attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opentelemetry.trace import SpanKind

from resilient_rpc import Call, Handler, Reply
from resilient_rpc_opentelemetry import conventions as names
from resilient_rpc_opentelemetry.settings import Tracing
from resilient_rpc_opentelemetry.span import destination


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientTracing(Tracing):
    """Puts a client span around what stands inside of it, and has its context travel with the call.

    First in the list, it is a span for the whole call; last, one for each attempt. Both may stand in one chain: the
    spans of attempts are children of that of the call. The parent is the span of whoever calls.
    """

    kind: ClassVar[SpanKind] = SpanKind.CLIENT
    duration: ClassVar[str] = names.CLIENT_DURATION

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """See the class."""
        attributes = destination(call, self.prefix, self.system, operation="call", kind="send")
        return await self._around.run(call, proceed, None, attributes, carry=True)
