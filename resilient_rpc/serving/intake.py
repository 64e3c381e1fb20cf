"""From a delivery to calls that are ready to run, or to the errors that say why they are not.

Whatever arrives is hostile: nothing here trusts a type, a length or a name, and nothing raises.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import UNSET

from resilient_rpc.call import DEDUP, MAX_PRIORITY, NO_TAGS, Safety
from resilient_rpc.chain import Plan
from resilient_rpc.context import Context
from resilient_rpc.contract import Method, Methods
from resilient_rpc.errors import (
    Expired,
    Interrupted,
    MalformedMessage,
    MethodNotFound,
    ProtocolError,
    Refused,
    RpcError,
    TooLarge,
)
from resilient_rpc.policy import Policy
from resilient_rpc.remembered import Remembered
from resilient_rpc.serving.access import check_access
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.admission import Gatekeeper
from resilient_rpc.serving.age import QueueAge
from resilient_rpc.serving.job import NO_ID, Job, Letter
from resilient_rpc.transport.base import Consumer, Delivery
from resilient_rpc.transport.properties import decode_headers
from resilient_rpc.wire.codec import JSON, Codec, Invalid, codec_for, invalid_request, read_requests
from resilient_rpc.wire.envelope import Incoming, Meta
from resilient_rpc.wire.limits import Limits

MAX_TTL_DIGITS = 12
RECORDS = "idempotency"
"""The role of the policy that keeps records of keys; its `key`, if it has one, finds them where a call brings none."""
_NO_META = Meta()

Answer = Callable[[Letter, Any, RpcError], None]
"""Sends an error reply: the letter, the id of the call, the error."""


Own = Callable[[Letter, Incoming, float, float], bool]
"""Answers a call to none of the service's methods: its letter, itself, its deadline, when it came. False: it cannot."""


class BadAddress(ProtocolError):
    """The reply address is not one that this server publishes to."""


class Intake:
    """Reads messages of one service."""

    def __init__(
        self,
        methods: Methods,
        limits: Limits,
        addresses: Addresses,
        answer: Answer,
        policies: Sequence[Policy] = (),
        gatekeeper: Gatekeeper | None = None,
        own: Own = lambda *_: False,
    ) -> None:
        self._methods, self._limits, self._addresses, self._answer = methods, limits, addresses, answer
        plan = Plan(policies)
        self._keepers: Remembered[Policy | None] = Remembered(lambda n: plan.find(f"{methods.service}.{n}", RECORDS))
        """What keeps records of keys for a method, or for an event."""
        self.numbers: Iterator[int] = itertools.count(1)
        self._age = QueueAge()
        self._gatekeeper, self._own = gatekeeper, own

    def open(self, session: Consumer, delivery: Delivery) -> Letter:
        """The envelope alone. Raises `BadAddress` if an answer could not be sent anywhere we may publish to."""
        properties = delivery.properties
        address = properties.get("reply_to") or ""
        if address and not self._addresses.accept(address):
            raise BadAddress(f"reply address {address!r:.80} is refused")
        correlation = properties.get("correlation_id")
        if correlation is not None and type(correlation) is not str:
            raise BadAddress(f"correlation id {correlation!r:.80} is not a text")
        headers = properties.get("headers", b"")
        ours = b"rpc-version" in headers
        letter = Letter(session, delivery, reply_to=address, correlation_id=correlation, codec=JSON, ours=ours)
        if "priority" in properties:
            letter.priority = priority_of(properties["priority"])
        if not ours:
            letter.print = hash(delivery.body)
        return letter

    def read(self, letter: Letter, delivery: Delivery) -> list[Job]:
        """The calls that can run. The others have been answered when this returns; `letter.left` counts them all."""
        try:
            letter.codec, items, letter.batch = self._items(delivery)
        except ProtocolError as error:
            self._answer(letter, None, error)
            return []
        letter.left = letter.calls = len(items)
        letter.arrived, wall = time.monotonic(), time.time()
        arrived = letter.arrived
        jobs: list[Job] = []
        latest, sent, age = 0.0, None, 0.0
        gatekeeper = self._gatekeeper
        horizon = gatekeeper.horizon(len(items), arrived) if gatekeeper is not None else 0.0
        for letter.at, item in enumerate(items):
            if type(item) is Incoming:
                meta = item.meta
                try:
                    if meta is None or meta.ttl is None:
                        deadline, sent, age = deadline_of(delivery, arrived), None, 0.0
                    else:
                        if meta.at != sent:  # the calls of a batch were sent in one instant, most of them
                            sent = meta.at
                            age = self._age_of(letter, sent, wall, arrived)
                        deadline = arrived + meta.ttl / 1000 - age
                    if deadline > latest:  # noqa: PLR1730 - max() takes three times as long, for every call
                        latest = deadline
                    if deadline - arrived <= horizon and gatekeeper is not None:
                        self._check(gatekeeper, letter, item, deadline - arrived, age, arrived, len(jobs))
                    job = self._job(letter, item, delivery, deadline, arrived)
                except RpcError as error:
                    if type(error) is not MethodNotFound or not self._own(letter, item, deadline, arrived):
                        self._answer(letter, id_of(item), error)
                    continue
                jobs.append(job)
            else:
                self._answer(letter, item.id, invalid_request(item.reason))  # type: ignore[union-attr]
        letter.deadline = latest or math.inf
        return jobs

    def _check(
        self,
        gatekeeper: Gatekeeper,
        letter: Letter,
        item: Incoming,
        left: float,
        age: float,
        arrived: float,
        before: int,
    ) -> None:
        """Refuse what a busy server has no time for, unless nobody would hear of it, or it may have begun before."""
        again = letter.returns or letter.delivery.redelivered
        if left > 0 and item.id is not UNSET and letter.reply_to and not again:
            gatekeeper.check(self._methods.find(item.method), letter.priority, left, age, arrived, before)

    def _items(self, delivery: Delivery) -> tuple[Codec, list[Incoming | Invalid], bool]:
        properties, limits = delivery.properties, self._limits
        if len(properties.get("headers", b"")) > limits.max_headers:
            raise TooLarge(f"headers over the limit of {limits.max_headers} bytes")
        limits.check_body(len(delivery.body), "the message")
        codec = codec_for(properties.get("content_type"), properties.get("content_encoding"))
        items, batch = read_requests(codec, delivery.body, limits)
        return codec, items, batch

    def _job(self, letter: Letter, item: Incoming, delivery: Delivery, deadline: float, arrived: float) -> Job:
        method = self._methods.find(item.method)
        meta = item.meta or _NO_META
        if deadline <= arrived:
            raise Expired(f"{method.name}: its time was up before it arrived")
        redelivered, limits = delivery.redelivered, self._limits
        safety = method.safety_for(meta.safety or (_told(delivery) if redelivered else None))
        if meta.key is not None or safety is DEDUP or (redelivered and not safety.repeatable):
            safety = self._repeatable(self._name_of(method, item), meta.key, safety, redelivered)
        params, codec = item.params, letter.codec
        if len(params) > limits.max_depth:  # a shorter one cannot be nested more deeply
            codec.check_depth(bytes(params), limits)
        context = Context(
            method.name,
            deadline,
            safety,
            meta.key,
            meta.attempt,
            redelivered,
            meta.tags or NO_TAGS,
            meta.trace,
            letter.user or letter.principal,
            letter.priority,
        )
        if method.allow:
            check_access(method.allow, context)
        arguments = method.binder.bind(codec, params)
        if method.binder.context_name is not None:
            arguments = method.binder.give_context(arguments, context)
        return Job(letter, next(self.numbers), method, arguments[0], arguments[1], context, id_of(item))

    def _name_of(self, method: Method, item: Incoming) -> str:  # noqa: ARG002 - see `EventIntake`
        """What its policies are looked up by: a message may name a method with its service or without."""
        return method.name

    def _repeatable(self, name: str, key: str | None, safety: Safety, redelivered: bool) -> Safety:
        """The safety class of a call with a key, or that should have one, or was delivered before; or a refusal."""
        keeper = self._keepers[name]
        if key is not None and keeper is not None:
            return safety if safety.repeatable else DEDUP
        if keeper is None and (key is not None or safety is DEDUP):
            raise Refused(f"{name}: a call with an idempotency key, and this server keeps no record of keys")
        if redelivered and not safety.repeatable and getattr(keeper, "key", None) is None:
            raise Interrupted(f"{name}: an earlier server may have begun with it, and an unsafe call is not run twice")
        return safety

    def _age_of(self, letter: Letter, sent: int | None, wall: float, arrived: float) -> float:
        if sent is None or not letter.reply_to:
            return 0.0
        return self._age.of(letter.reply_to, sent / 1000, wall, arrived)


def deadline_of(delivery: Delivery, arrived: float) -> float:
    """The deadline of a message whose calls do not carry their own."""
    expiration = delivery.properties.get("expiration")
    if not isinstance(expiration, str) or not expiration.isdecimal() or len(expiration) > MAX_TTL_DIGITS:
        return math.inf
    return arrived + int(expiration) / 1000


def priority_of(value: Any) -> int:
    """What a message says, as far as it makes sense; RabbitMQ also takes what is over the most for the most."""
    return min(value, MAX_PRIORITY) if type(value) is int and value > 0 else 0


def _told(delivery: Delivery) -> Safety | None:
    """The safety class in the headers; looked up only where it matters, for a call that may have been begun before."""
    try:
        return Safety(str(decode_headers(delivery.properties.get("headers", b"")).get("rpc-safety")))
    except (ValueError, MalformedMessage):
        return None


def id_of(item: Incoming) -> Any:
    """What the reply to a call is to name, or `NO_ID`."""
    return NO_ID if item.id is UNSET else item.id
