"""What a client sends besides calls: casts, events, bytes for anybody's queue, broadcasts. Made for the first one."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from resilient_rpc.call import UNSAFE, Call, Cast, Publication, RawCall, Reply
from resilient_rpc.chain import Chain
from resilient_rpc.chain.order import role_of
from resilient_rpc.chain.overrides import Override
from resilient_rpc.contract import split_method
from resilient_rpc.dialects import check_plain
from resilient_rpc.errors import EXECUTED, MalformedMessage, RpcError, UsageError
from resilient_rpc.events import NoSubscribers
from resilient_rpc.names import check_name
from resilient_rpc.options import CallerOptions
from resilient_rpc.policy import Policy
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.batching import Route, Target
from resilient_rpc.transport.link import Link
from resilient_rpc.transport.pool import Pool
from resilient_rpc.transport.post import Answers, EventPost, Post, Question, Survey
from resilient_rpc.transport.templates import headers_of
from resilient_rpc.transport.topology import fanout_exchange
from resilient_rpc.wire.codec import Codec, codec_for, read_answers
from resilient_rpc.wire.envelope import Answer, Meta, Request
from resilient_rpc.wire.faults import rebuild_fault
from resilient_rpc.wire.filters import Message

GRACE = 1.0
"""Seconds past the deadline after which a blocking caller gives up on a link that should have ended it."""
STAND_INS = frozenset({"cache", "fallback", "hedge"})
"""Roles of policies that answer in a server's place, or ask two: a cast is either with the broker, or it failed."""
PERSISTENT = 2


class Posting:
    """See the module. Bound to one pool, as its `Caller` is."""

    def __init__(
        self,
        options: CallerOptions,
        policies: Sequence[Policy],
        pool: Callable[[], Pool | None],
    ) -> None:
        self._options, self._policies, self._pool = options, policies, pool
        self.casts = Chain(_without(policies, STAND_INS), self._carry_cast)
        self.questions = Chain(policies, self._carry_raw)

    # -- casts

    async def _carry_cast(self, call: Call) -> Reply:
        """The innermost handler of a cast: one attempt."""
        assert isinstance(call, Cast)  # noqa: S101 - a policy passes on a copy of the call it was given
        service, name = split_method(check_name(call.method))
        queue, codec = self._options.naming.queue(service), self._options.codec
        link = self._link()
        target = link.target(queue)
        if target.plain:
            check_plain(call)
        meta = None if target.plain else _meta(call, call.ttl, modern=target.modern)
        request, route = Request(name, call.params or UNSET, UNSET, meta), Route(target, call.safety, codec)
        message = self._message(call, request, route, queue, type="rpc.cast", **_lasting(call, call.ttl))
        await _settle(link, call, Post(call.method, message, call.deadline))
        return Reply(result=None, attempts=call.attempt)

    # -- events

    @functools.cached_property
    def publications(self) -> Chain:
        """The way of events."""
        return Chain(_without(self._policies, STAND_INS), self._carry_event)

    async def _carry_event(self, call: Call) -> Reply:
        """The innermost handler of an event: one attempt."""
        assert isinstance(call, Publication)  # noqa: S101 - as above
        meta = _meta(call, call.ttl, modern=True)
        if meta is not None:
            meta.safety = None  # whoever subscribes knows what a repeat would do there
        request = Request(call.method, call.params or UNSET, UNSET, meta)
        route = Route(Target(call.exchange), UNSAFE, self._options.codec)
        lasting = _lasting(call, call.ttl)
        message = self._message(call, request, route, call.exchange, type="rpc.event", message_id=call.key, **lasting)
        heard = await _settle(self._link(), call, EventPost(call.method, message, call.deadline))
        if not heard and call.wants(NoSubscribers):
            call.emit(NoSubscribers(event=call.method))
        return Reply(result=heard, attempts=call.attempt)

    # -- bytes for anybody's queue

    async def _carry_raw(self, call: Call) -> Reply:
        """The innermost handler of a question: one attempt."""
        assert isinstance(call, RawCall)  # noqa: S101 - as above
        body: bytes = call.params["body"]  # type: ignore[call-overload]  # by name
        limits = self._options.link.limits
        limits.check_body(len(body), "the request")
        message = Message(direction="request", body=body, target=call.method, **call.properties)
        question = Question(call.method, message, call.deadline, most=limits.max_body)
        answer = await _settle(self._link(), call, question)
        return Reply(result=answer, attempts=call.attempt)

    # -- broadcasts

    async def broadcast(self, call: Call, expect: int | None) -> Answers:
        """The answers of all servers of a service that come in time; by no policy."""
        service, name = split_method(check_name(call.method))
        queue, codec = self._options.naming.queue(service), self._options.codec
        request = Request(name, call.params or UNSET, 1, _meta(call, call.remaining(), modern=True))
        exchange = fanout_exchange(queue)
        message = self._message(call, request, Route(Target(queue), call.safety, codec), exchange, type="rpc.call")

        def read(delivery: Delivery) -> Answers:
            return self._read(call, delivery)

        post = Survey(call.method, message, call.deadline, exchange=exchange, expect=expect, read=read)
        answers: Answers = await _settle(self._link(), call, post)
        return answers

    def _read(self, call: Call, delivery: Delivery) -> Answers:
        """Who answers in a message, and what."""
        properties, limits = delivery.properties, self._options.link.limits
        limits.check_body(len(delivery.body), "the reply")
        codec = codec_for(properties.get("content_type"), properties.get("content_encoding"))
        return [_said(answer, self._outcome(call, codec, answer)) for answer in read_answers(codec, delivery.body)]

    def _outcome(self, call: Call, codec: Codec, answer: Answer) -> Any:
        if answer.error is not None:
            return rebuild_fault(codec, answer.error, self._options.errors, ours=True)
        data: Any = answer.result if answer.result is not UNSET else codec.encode(None)
        try:
            codec.check_depth(bytes(data), self._options.link.limits)
            return (codec.anything if call.returns is None else codec.decoder(call.returns)).decode(data)
        except RpcError as error:
            error.certainty = EXECUTED
            return error
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            message = f"{call.method}: the result is not what was declared: {error}"
            return MalformedMessage(message, certainty=EXECUTED)

    # -- what they share

    def _message(self, call: Call, request: Request, route: Route, target: str, **more: Any) -> Message:
        """The request, with what a client says of every message."""
        body, link = route.codec.encode(request), self._options.link
        link.limits.check_body(len(body), "the request")
        return Message(
            direction="request",
            body=body,
            target=target,
            content_type=route.codec.content_type,
            headers=headers_of(call.method, 1, route),
            app_id=link.app_id,
            user_id=link.user_id,
            **more,
        )

    def _link(self) -> Link:
        pool = self._pool()
        if pool is None:
            raise UsageError("the client is closed")
        return pool.pick()


async def _settle(link: Link, call: Call, post: Post) -> Any:
    """Send it, and wait for what becomes of it."""
    settled = False
    try:
        link.posts.submit(post)
        settled = await call.runtime.wait((post,), max(call.remaining(), 0.0) + GRACE) is not None
    finally:
        if not settled:
            link.posts.forget(post, post.given_up())
    return post.result()


def _meta(call: Call, ttl: float | None, *, modern: bool) -> Meta | None:
    """What JSON-RPC has no name for; to a stranger only what the call cannot do without."""
    if not modern and call.key is None and not call.tags and not call.trace:
        return None
    return Meta(
        key=call.key,
        ttl=None if ttl is None or not modern else max(math.ceil(ttl * 1000), 1),
        at=int(time.time() * 1000) if modern else None,
        attempt=call.attempt,
        safety=call.safety if call.safety is not UNSAFE else None,
        trace=dict(call.trace or ()) or None,
        tags=dict(call.tags) or None,
    )


def _lasting(call: Call, ttl: float | None) -> dict[str, Any]:
    """The properties of what waits in a queue after its sender has gone."""
    expiration = None if ttl is None else math.ceil(ttl * 1000)
    return {"priority": call.priority or None, "expiration": expiration, "delivery_mode": PERSISTENT}


def _said(answer: Answer, outcome: Any) -> tuple[str, Any]:
    meta = answer.meta
    return (meta.server if meta is not None else None) or "", outcome


def _without(policies: Iterable[Any], roles: frozenset[str]) -> list[Any]:
    """The policies that have none of these roles, in a `for_` too."""
    kept: list[Any] = []
    for item in policies:
        if isinstance(item, Override):
            inner = tuple(policy for policy in item.policies if role_of(policy) not in roles)
            without = tuple(role for role in item.without if role not in roles)
            if inner or without:
                kept.append(Override(item.pattern, inner, without))
        elif role_of(item) not in roles:
            kept.append(item)
    return kept
