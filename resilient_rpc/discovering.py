"""The core of a client with ``discover=True``: what a call does not say, the service is asked for."""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from resilient_rpc.call import DEDUP, READ_ONLY, Call, Reply, fields_of
from resilient_rpc.caller import Caller
from resilient_rpc.chain import Chain
from resilient_rpc.context import current_context
from resilient_rpc.contract import DISCOVER, RESERVED
from resilient_rpc.discovery import NOTHING, Discovery, Terms
from resilient_rpc.errors import MethodNotFound
from resilient_rpc.hub import Events
from resilient_rpc.options import CallerOptions
from resilient_rpc.policy import Policy, Runtime
from resilient_rpc.schemas import Convert
from resilient_rpc.stats import CallStats
from resilient_rpc.transport.entry import Entry
from resilient_rpc.wire.envelope import Answer


class OpenCall(Call, frozen=True, kw_only=True, eq=False):
    """A call that leaves something for its service to say."""

    began: float
    latest: float
    """The deadline of the call that the running handler serves, which no timeout may pass."""
    safety_open: bool
    timeout_open: bool
    type_open: bool


class TypedCall(Call, frozen=True, kw_only=True, eq=False):
    """A call whose result is made into what its service says that it is."""

    convert: Convert


class DiscoveringCaller(Caller):
    """See the module."""

    def __init__(self, options: CallerOptions, events: Events, stats: CallStats, plain: Collection[str] = ()) -> None:
        self._discovery = Discovery(self._ask, events)
        super().__init__(options, events, stats, plain)

    def build(
        self, runtime: Runtime, method: str, params: Mapping[str, Any] | Sequence[Any] | None, **how: Any
    ) -> Call:
        """See `Caller`."""
        call = super().build(runtime, method, params, **how)
        options = self.options
        safety_open = how.get("safety") is None and how.get("idempotency_key") is None and not options.names(method)
        timeout_open = how.get("timeout") is None and not options.timeout_given
        type_open = how.get("returns") is None
        if not (safety_open or timeout_open or type_open):
            return call
        context = current_context() if not how.get("detached") else None
        return OpenCall(
            **fields_of(call),
            began=runtime.now(),
            latest=math.inf if context is None else context.deadline,
            safety_open=safety_open,
            timeout_open=timeout_open,
            type_open=type_open,
        )

    def _chained(self, policies: Sequence[Policy]) -> Chain:
        chain = super()._chained(policies)
        inside = chain.handler

        async def handler(call: Call) -> Reply:
            return await inside(await self._closed(call) if type(call) is OpenCall else call)

        chain.handler = handler
        return chain

    async def _closed(self, call: OpenCall) -> Call:
        """The call with what its service says of its method."""
        service, _, name = call.method.partition(".")
        if service in self._plain or name.startswith(RESERVED):
            return Call(**fields_of(call))
        table = await self._discovery.of(call.runtime, service, call.deadline)
        return _with(call, table.get(name, NOTHING))

    async def _ask(self, runtime: Runtime, service: str, deadline: float) -> Any:
        """Outside of all policies: it is nobody's call, and no reason to open a circuit."""
        call = Call(method=f"{service}.{DISCOVER}", params={}, runtime=runtime, deadline=deadline, safety=READ_ONLY)
        return (await self._carry(call, announced=True)).result

    def _reply(self, entry: Entry, answer: Answer, call: Call) -> Reply:
        if answer.meta is not None and answer.meta.v is not None:
            self._discovery.answered(call.target, answer.meta.v)
        try:
            reply = super()._reply(entry, answer, call)
        except MethodNotFound:
            self._discovery.missed(call.target)
            raise
        if type(call) is TypedCall:
            reply.result = call.convert(reply.result)
        return reply


def _with(call: OpenCall, terms: Terms) -> Call:
    fields = fields_of(call)
    if call.safety_open and terms.safety is not None:
        fields["safety"] = terms.safety
        if terms.safety is DEDUP:
            fields["key"] = uuid.uuid4().hex
    if call.timeout_open and terms.timeout is not None:
        fields["timeout"] = terms.timeout
        fields["deadline"] = min(call.began + terms.timeout, call.latest)
    if call.type_open and terms.convert is not None:
        return TypedCall(**fields, convert=terms.convert)
    return Call(**fields)
