"""The events that a service subscribes to: notifications whose handlers run in the slots of the server.

Whoever publishes an event waits for nobody. So one whose handler fails is a dead letter of the service, as a cast is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from resilient_rpc.contract import Method
from resilient_rpc.errors import MethodNotFound, Refused, RpcError
from resilient_rpc.policy import Policy
from resilient_rpc.serving.addresses import Addresses
from resilient_rpc.serving.answers import Answers
from resilient_rpc.serving.door import Door
from resilient_rpc.serving.forwards import Forward
from resilient_rpc.serving.inlet import Desk, Inlet, InletLetter, Plumbing
from resilient_rpc.serving.intake import Answer, Intake, priority_of
from resilient_rpc.serving.job import Job, Letter
from resilient_rpc.serving.subscriptions import Subscriptions, Unwanted
from resilient_rpc.transport.base import Consumer, Delivery, QueueSpec
from resilient_rpc.transport.deadletters import PASSED, number_in
from resilient_rpc.wire.codec import JSON
from resilient_rpc.wire.envelope import Incoming, Meta
from resilient_rpc.wire.limits import Limits

PASSES = 10
"""How often an event that a server has no handler for is left to others: a newer version of them may have one."""
MAX_ID = 255


@dataclass(frozen=True, kw_only=True)
class EventQueue:
    """What a service subscribes to, and the queue in which that lies."""

    spec: QueueSpec
    subscriptions: Subscriptions


class EventIntake(Intake):
    """Reads events: each has an id, by which repeats are known where the server keeps records of keys."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        limits: Limits,
        answer: Answer,
        policies: Sequence[Policy],
        numbers: Iterator[int],
    ) -> None:
        super().__init__(subscriptions, limits, Addresses(()), answer, policies)
        self.numbers = numbers

    def _job(self, letter: Letter, item: Incoming, delivery: Delivery, deadline: float, arrived: float) -> Job:
        meta = item.meta or Meta()
        event = meta.key or _id_of(letter, delivery)
        keeper = self._keepers[item.method]
        # The policy's own `key` goes before the id: that is there always, and says nothing of what the event is about.
        meta.key = event if keeper is not None and getattr(keeper, "key", None) is None else None
        item.meta = meta
        job = super()._job(letter, item, delivery, deadline, arrived)
        job.context.of_event(item.method, event)
        return job

    def _name_of(self, method: Method, item: Incoming) -> str:  # noqa: ARG002 - its name may be a pattern
        return item.method


def _id_of(letter: Letter, delivery: Delivery) -> str | None:
    """Of an event that somebody else has published."""
    found = delivery.properties.get("message_id")
    return found if isinstance(found, str) and 0 < len(found) <= MAX_ID and not letter.batch else None


class EventInlet(Inlet):
    """Consumes the event queue of a service."""

    def __init__(self, queue: EventQueue, desk: Desk, answers: Answers, shared: Plumbing) -> None:
        filters, options = shared.filters, shared.options
        limits = options.limits
        super().__init__(queue.spec, desk, shared, cuttable=filters is None)
        self._answers = answers
        self._intake = EventIntake(queue.subscriptions, limits, self._refuse, options.policies, shared.numbers)
        self._door: Door | None = None
        if filters is not None:  # they see where it was sent to
            self._door = Door(filters, limits, queue.spec.topics, shared.hub, answers.refuse)

    def _letter(self, session: Consumer, delivery: Delivery) -> InletLetter:
        properties = delivery.properties
        ours = b"rpc-version" in properties.get("headers", b"")
        correlation = properties.get("correlation_id")
        letter = InletLetter(session, delivery, reply_to="", correlation_id=correlation, codec=JSON, ours=ours)
        letter.inlet = self
        letter.priority = priority_of(properties.get("priority"))
        if not ours:
            letter.print = hash(delivery.body)
        return letter

    def _accept(self, letter: Letter) -> None:
        delivery: Delivery | None = letter.delivery
        if self._desk.senders is not None:
            try:
                letter.user = self._desk.senders.sender(letter.delivery.properties)
            except Refused as error:
                self._answers.refuse(letter, None, error)
                return
        if self._door is not None:
            delivery = self._door.admit(letter, letter.delivery)
        if delivery is not None:
            delivery.redelivered = delivery.redelivered or letter.returns > 0
            jobs = self._intake.read(letter, delivery)
            if jobs:
                self._desk.run(jobs)

    def _refuse(self, letter: Letter, reply: Any, error: RpcError) -> None:
        """What is not run: it is dropped where nobody wants it, left to others who may know it, or buried."""
        if type(error) is Unwanted:
            self._desk.outbox.skip(letter)
        elif type(error) is not MethodNotFound or letter.calls > 1 or not self._pass_on(letter):
            self._answers.refuse(letter, reply, error)

    def _pass_on(self, letter: Letter) -> bool:
        delivery, desk = letter.delivery, self._desk
        passed = number_in(delivery, PASSED)
        if passed >= PASSES or not self._users.can_send_on(delivery):
            return False
        properties = self._users.sent_on(delivery, {PASSED: passed + 1})
        correlation = letter.correlation_id or ""
        forward = Forward(self._spec.name, delivery.body, properties, correlation, lambda ok: desk.settle(letter, ok))
        desk.outbox.forwards.add(forward)
        return True
