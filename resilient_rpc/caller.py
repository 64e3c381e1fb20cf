"""The core of both clients: a call is built, passes the chain, travels on a link, and its reply is decoded."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from resilient_rpc.call import DEDUP, NO_TAGS, UNSAFE, Call, Reply, Safety
from resilient_rpc.chain import Chain
from resilient_rpc.context import current_context
from resilient_rpc.contract import split_method
from resilient_rpc.dialects import check_plain
from resilient_rpc.errors import (
    EXECUTED,
    NOT_EXECUTED,
    ConfigurationError,
    DeadlineExceeded,
    MalformedMessage,
    RpcError,
    TooLarge,
    UsageError,
)
from resilient_rpc.events import AttemptEnded, CallEnded
from resilient_rpc.hub import Events
from resilient_rpc.names import check_name
from resilient_rpc.options import CallerOptions
from resilient_rpc.policy import Policy, Runtime
from resilient_rpc.posting import Posting
from resilient_rpc.runtime import AsyncioRuntime
from resilient_rpc.settings import check_params, check_priority, check_safety, check_tags, check_timeout
from resilient_rpc.stats import CallStats
from resilient_rpc.transport.base import Transport
from resilient_rpc.transport.batching import Route
from resilient_rpc.transport.cancels import Pace
from resilient_rpc.transport.entry import Entry
from resilient_rpc.transport.link import Link
from resilient_rpc.transport.pool import Pool
from resilient_rpc.transport.post import Answers
from resilient_rpc.wire.envelope import Answer, Meta, Request
from resilient_rpc.wire.faults import rebuild_fault
from resilient_rpc.wire.hints import read_hints

GRACE = 1.0
"""Seconds past the deadline after which a blocking caller gives up on a link that should have ended the call."""
MAX_METHODS = 10_000
"""Names whose routes are remembered."""


class Caller:
    """Bound to one pool, and so to the loop that the pool lives on; used from any thread through a runtime."""

    def __init__(self, options: CallerOptions, events: Events, stats: CallStats, plain: Collection[str] = ()) -> None:
        self.options, self.stats, self._plain = options, stats, plain
        self._events = events
        self.chain = self._chained(options.policies)
        self._pool: Pool | None = None
        self._shallow = options.link.limits.max_depth
        self._codec = options.codec
        self._posting: Posting | None = None

    def install(self, policies: Sequence[Policy]) -> None:
        """Send the calls from here on through other policies; those under way end as they began."""
        self.chain = self._chained(policies)
        self._posting = None

    def _chained(self, policies: Sequence[Policy]) -> Chain:
        return Chain(policies, self._carry)

    @property
    def posting(self) -> Posting:
        """The way of what is not a call; made when it is first used."""
        if self._posting is None:
            self._posting = Posting(self.options, self.chain.policies, lambda: self._pool)
        return self._posting

    def connect(self, transport: Transport, runtime: AsyncioRuntime) -> Pool:
        """Make the links; they connect when they are first used."""
        link, pace = self.options.link, Pace()
        self._pool = Pool(
            lambda: Link(transport, runtime, link, self._events, self.stats.unknown_reply, pace), self.options.links
        )
        for service in tuple(self._plain):
            self.spell(service)
        return self._pool

    @property
    def pool(self) -> Pool | None:
        """The links; None before the first use."""
        return self._pool

    def spell(self, service: str) -> None:
        """Take note that `plain` has, or has no longer, this service; from any thread."""
        plain = service in self._plain
        for link in self._pool.links if self._pool is not None else ():
            target = link.target(self.options.naming.queue(service))
            target.plain = plain
            target.modern = target.modern and not plain

    def build(
        self,
        runtime: Runtime,
        method: str,
        params: Mapping[str, Any] | Sequence[Any] | None,
        *,
        timeout: float | None = None,
        safety: Safety | str | None = None,
        idempotency_key: str | None = None,
        tags: Mapping[str, str] | None = None,
        priority: int = 0,
        returns: Any = None,
        detached: bool = False,
    ) -> Call:
        """A call as the user described it; its deadline runs from here."""
        seconds = self.options.timeout if timeout is None else check_timeout(timeout, "timeout")
        deadline = runtime.now() + seconds
        key = idempotency_key
        chosen = self._safety(method, safety, key)
        if key is None:
            if chosen is DEDUP:
                key = uuid.uuid4().hex
        elif type(key) is not str or not 0 < len(key) <= 255:  # noqa: PLR2004 - as long as a short string
            raise ConfigurationError(f"idempotency_key={key!r:.300}: give a text of 1 to 255 characters")
        if tags is not None:
            check_tags(tags)
        if priority != 0 or type(priority) is not int:
            check_priority(priority)
        trace: Mapping[str, str] | None = None
        context = current_context()
        if context is not None and not detached:
            deadline = min(deadline, context.deadline)
            trace = context.trace
            tags = {**context.tags, **(tags or {})}
        return Call(
            method=method,
            params=params if type(params) is dict else check_params(params),
            runtime=runtime,
            deadline=deadline,
            timeout=seconds,
            safety=chosen,
            key=key,
            tags=tags or NO_TAGS,
            trace=trace,
            returns=returns,
            events=self._events,
            priority=priority,
        )

    def _safety(self, method: str, safety: Safety | str | None, key: str | None) -> Safety:
        if safety is not None:
            return safety if type(safety) is Safety else check_safety(safety)
        if key is not None:
            return DEDUP
        return self.options.safety_of(method)

    async def request(self, call: Call, chain: Chain | None = None) -> Reply:
        """Send the call through the chain (another one, if it is given), and count it."""
        stats, chain, begin = self.stats, chain or self.chain, time.perf_counter()
        stats.begin()
        try:
            reply = await chain.handler(call)
        except BaseException as error:
            failed = self.failed(chain, call, time.perf_counter() - begin, error)
            if failed is error:
                raise
            raise failed from error
        self.ended(call, time.perf_counter() - begin, reply, None)
        return reply

    async def broadcast(self, call: Call, expect: int | None) -> Answers:
        """Send the call to all servers of its service, through no policy, and count it."""
        stats, begin = self.stats, time.perf_counter()
        stats.begin()
        try:
            answers = await self.posting.broadcast(call, expect)
        except BaseException as error:
            failed = self.failed(self.chain, call, time.perf_counter() - begin, error)
            if failed is error:
                raise
            raise failed from error
        self.ended(call, time.perf_counter() - begin, None, None)
        return answers

    def failed(self, chain: Chain, call: Call, seconds: float, error: BaseException) -> BaseException:
        """Count a call that failed; what its caller is to get."""
        if not isinstance(error, RpcError):
            error = chain.contain(call, error)
        self.ended(call, seconds, None, error)
        return error

    def ended(self, call: Call, seconds: float, reply: Reply | None, error: BaseException | None) -> None:
        """Count a call that ended, and announce it."""
        self.stats.end(seconds, error)
        if self._events.wants(CallEnded):
            last: Any = reply if reply is not None else error
            event = CallEnded(
                method=call.method,
                seconds=seconds,
                attempts=getattr(last, "attempts", 1),
                error=error,
                replayed=reply is not None and reply.replayed,
                degraded=reply is not None and reply.degraded,
            )
            self._events.emit(event)

    async def close(self, runtime: AsyncioRuntime) -> None:
        """End the links, and what the policies have started with the runtime."""
        if self._pool is not None:
            await self._pool.close()
        await runtime.aclose()

    async def _carry(self, call: Call, announced: bool = False) -> Reply:
        """The innermost handler: one attempt on a link."""
        if not announced and self._events.wants(AttemptEnded):
            return await self._announce(call)
        pool = self._pool
        if pool is None:
            raise UsageError("the client is closed")
        link = pool.pick()
        entry = self._entry(link, call)
        runtime = call.runtime
        settled = False
        try:
            if runtime is link.runtime:  # its table of deadlines ends the wait: a timer beside it would cost as much
                future = entry.expect(link.runtime.loop)
                link.submit(entry)
                await future
                settled = True
            else:
                link.submit(entry)
                settled = await runtime.wait((entry,), max(call.remaining(), 0.0) + GRACE) is not None
        finally:
            if not settled:
                certainty = None if entry.message else NOT_EXECUTED
                link.forget(entry, DeadlineExceeded(f"{call.method}: no answer by the deadline", certainty=certainty))
        return self._reply(entry, entry.outcome(), call)

    async def _announce(self, call: Call) -> Reply:
        """An attempt that somebody wants to hear of."""
        begin, failed = call.runtime.now(), None
        try:
            return await self._carry(call, announced=True)
        except BaseException as error:
            failed = error
            raise
        finally:
            seconds = call.runtime.now() - begin
            event = AttemptEnded(
                method=call.method, target=call.target, attempt=call.attempt, seconds=seconds, error=failed
            )
            self._events.emit(event)

    def _entry(self, link: Link, call: Call) -> Entry:
        """The encoded request."""
        options, method, safety, codec = self.options, call.method, call.safety, self._codec
        known = link.routes.get((method, safety, call.priority))
        route, name = known if known is not None else self._route(link, method, safety, call.priority)
        meta = None
        if route.target.modern:
            left = int((call.deadline - call.runtime.now()) * 1000) + 1
            declared = safety if safety is not UNSAFE else None
            meta = Meta(call.key, left if left > 0 else 1, int(time.time() * 1000), call.attempt, declared)
        elif call.key is not None or call.tags or call.trace:
            if route.target.plain:
                check_plain(call)
            else:
                meta = Meta(call.key, None, None, call.attempt, safety)
        if meta is not None and (call.tags or call.trace):
            meta.tags, meta.trace = dict(call.tags) or None, dict(call.trace or ()) or None
        number = next(link.ids)
        data = codec.encode(Request(name, call.params or UNSET, number, meta))
        if len(data) > options.link.limits.max_body:
            options.link.limits.check_body(len(data), "the request")
        return Entry(number, method, route, data, call.deadline)

    def _route(self, link: Link, method: str, safety: Safety, priority: int) -> tuple[Route, str]:
        """Where the calls of a method go, and its name on the wire; remembered."""
        service, name = split_method(check_name(method))
        if len(link.routes) >= MAX_METHODS:
            link.routes.clear()
        route = link.target(self.options.naming.queue(service)).route(safety, self._codec, priority)
        link.routes[(method, safety, priority)] = route, name
        return route, name

    def _reply(self, entry: Entry, answer: Answer, call: Call) -> Reply:
        codec = entry.codec
        if answer.error is not None:
            raise rebuild_fault(codec, answer.error, self.options.errors, ours=entry.modern)
        data: Any = answer.result if answer.result is not UNSET else codec.encode(None)
        if len(data) > self._shallow:
            try:
                codec.check_depth(bytes(data), self.options.link.limits)
            except TooLarge as error:
                raise TooLarge(f"{call.method}: the result is {error}", certainty=EXECUTED) from None
        try:
            result = (codec.anything if call.returns is None else codec.decoder(call.returns)).decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            message = f"{call.method}: the result is not what was declared: {error}"
            raise MalformedMessage(message, certainty=EXECUTED) from error
        meta = answer.meta
        if meta is None:
            return Reply(result=result, attempts=call.attempt)
        reply = Reply(result=result, replayed=meta.replayed, server=meta.server, attempts=call.attempt)
        if meta.cache is not None:
            reply.cache = read_hints(meta.cache)
        return reply
