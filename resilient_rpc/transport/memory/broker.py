"""Broker: the state of a bus. Queues, reply addresses and sessions; how messages get to them, and where dead ones go.

All of it happens during a turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.topics import matches
from resilient_rpc.transport.base import QueueSpec, QueueState
from resilient_rpc.transport.failures import refused_by_a_queue
from resilient_rpc.transport.memory.alarm import Alarm
from resilient_rpc.transport.memory.consumer import MemoryConsumer
from resilient_rpc.transport.memory.message import Message, circles, dead
from resilient_rpc.transport.memory.publisher import REPLY_PREFIX, MemoryPublisher
from resilient_rpc.transport.memory.queue import Queue
from resilient_rpc.transport.memory.reply_boxes import ReplyBox
from resilient_rpc.transport.memory.sessions import Session
from resilient_rpc.transport.memory.settings import Settings
from resilient_rpc.transport.memory.turn import Turn
from resilient_rpc.wire.control import new_control_queue

if TYPE_CHECKING:
    from resilient_rpc.transport.topology import Binding

MAX_MESSAGE = 16 << 20


class Broker:
    """What RabbitMQ would keep."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.now: Callable[[], float] = time.monotonic
        self.max_message = MAX_MESSAGE
        self.clear()

    def clear(self) -> None:
        """Begin anew, empty. What was there is not told."""
        self.queues: dict[str, Queue] = {}
        self.addresses: dict[str, MemoryPublisher] = {}
        self._controls: dict[str, MemoryConsumer] = {}
        self._fanouts: dict[str, list[MemoryConsumer]] = {}
        self.sessions: dict[Session, None] = {}
        self.refusing = False
        self.frozen = False
        self.blocked: str | None = None
        self._bindings: list[Binding] = []
        self._topics: set[str] = set()
        """The topic exchanges."""
        self._ears: dict[str, dict[str, Queue]] = {}
        """The queues that hear each fanout exchange."""
        self._alarm = Alarm(self.turn, lambda: {s.loop: None for s in self.sessions}, self.sweep)

    def set_clock(self, clock: Callable[[], float]) -> None:
        """Tell the time by `clock` from here on."""
        self.now = clock
        self._alarm.forget()
        self.sweep()

    def register(self, session: Session) -> None:
        """Accept a connection, or refuse it."""
        if self.refusing:
            raise ConnectionRefusedError("the bus is down")
        self.sessions[session] = None
        session.gated = self.frozen
        self.sweep()

    def forget(self, session: Session) -> None:
        """The connection has ended."""
        self.sessions.pop(session, None)

    def open_publisher(self, session: MemoryPublisher) -> None:
        """Give it its reply address; in an alarm, say so."""
        session.publishes = True
        if session.boxes is not None:
            session.boxes.open()
        elif session.reply_to:
            self.addresses[session.reply_to] = session
        if self.blocked is not None:
            session.gated = True
            session.post(session.blocked, self.blocked)

    def set_blocked(self, reason: str | None) -> None:
        """Begin or end an alarm."""
        self.blocked = reason
        for session in list(self.sessions):
            if isinstance(session, MemoryPublisher) and session.publishes:
                session.post(session.blocked, reason)
        self._gate()

    def set_frozen(self, frozen: bool) -> None:
        """Stop, or go on."""
        self.frozen = frozen
        self._gate()
        self.sweep()

    def message(self, target: str, body: bytes, properties: bytes) -> Message:
        """What was published, with the time at which it expires."""
        message = Message(target, bytes(body), properties)
        expiration = message.peek("expiration")
        if expiration is not None:
            if not (expiration.isascii() and expiration.isdigit()):
                raise ValueError(f"invalid expiration {expiration!r}")
            message.expires = self.now() + int(expiration) / 1000
        return message

    def amended(self, message: Message, changes: Mapping[str, Any]) -> Message:
        """The message with other properties, that expires at the same time."""
        other = message.with_fields(changes)
        other.expires = message.expires
        return other

    def route(self, message: Message) -> bool | None:
        """By the default exchange. True: somebody has it; False: its queue is full and refuses; None: no such queue."""
        target = message.target
        if target.startswith(REPLY_PREFIX):
            session = self.addresses.get(target)
            if session is not None:
                session.receive(message)
            return True
        queue = self.queues.get(target)
        if queue is None:
            return self._instruct(message)
        accepted = queue.publish(message, self.now())
        if queue.depth:
            self.watch(queue)
        if not accepted and queue.settings.overflow == "reject-publish-dlx":
            self.bury(queue, message, "maxlen")
        return accepted

    def open_control(self, session: MemoryConsumer, exchange: str) -> str:
        """The name of a new control queue, which hears what is sent to it and to the exchange."""
        name = new_control_queue()
        self._controls[name] = session
        self._fanouts.setdefault(exchange, []).append(session)
        return name

    def close_control(self, session: MemoryConsumer, name: str) -> None:
        """It is exclusive: it ends with the session."""
        if self._controls.pop(name, None) is not None:
            for sessions in self._fanouts.values():
                if session in sessions:
                    sessions.remove(session)

    def reaches(self, exchange: str) -> bool:
        """Whether there is such an exchange."""
        return exchange in self._fanouts or exchange in self._ears

    def announce(self, exchange: str, message: Message) -> int:
        """By a fan-out exchange; how many hear it."""
        sessions, queues = self._fanouts.get(exchange, ()), self._ears.get(exchange, {})
        for session in sessions:
            session.hear(message)
        for queue in queues.values():
            queue.publish(self.amended(message, {}), self.now())
            self.watch(queue)
        return len(sessions) + len(queues)

    def emit(self, exchange: str, message: Message) -> bool:
        """By a topic exchange, under the message's target; whether a queue has it. `PublishRejected` by a full one."""
        bound = (each for each in self._bindings if each.exchange == exchange and exchange in self._topics)
        names = {each.queue for each in bound if matches(each.key, message.target)}
        queues = [self.queues[name] for name in sorted(names)]
        taken = [queue.publish(self.amended(message, {}), self.now()) for queue in queues]
        for queue in queues:
            self.watch(queue)
        if not all(taken):
            raise refused_by_a_queue()
        return bool(queues)

    def declare(self, spec: QueueSpec) -> Queue:
        """The queue and what belongs to it."""
        # Here, because it brings pika along, which a client on memory:// would load for nothing.
        from resilient_rpc.transport import topology  # noqa: PLC0415

        for step in topology.topology(spec):  # an exchange that is no topic one is what its bindings make of it
            match step:
                case topology.Queue():
                    self.open_queue(step.name, Settings(durable=step.durable, arguments=step.arguments))
                case topology.Exchange(type="topic"):
                    self._topics.add(step.name)
                case topology.Binding() if step not in self._bindings:
                    self._bindings.append(step)
                case topology.Unbinding():
                    undone = topology.Binding(step.queue, step.exchange, key=step.key)
                    self._bindings = [binding for binding in self._bindings if binding != undone]
        if spec.name not in self.queues:
            raise ConnectionError(f"404 NOT_FOUND - no queue {spec.name!r}")
        return self.queues[spec.name]

    def listen(self, exchange: str) -> Queue:
        """A queue of one consumer, bound to a fanout exchange, which it declares."""
        from resilient_rpc.transport.topology import ear  # noqa: PLC0415 - as above

        _, spec, _ = ear(exchange)
        self.open_queue(spec.name, Settings(durable=False))
        queue = self._ears.setdefault(exchange, {})[spec.name] = self.queues[spec.name]
        return queue

    def unlisten(self, exchange: str, queue: Queue) -> None:
        """Its consumer is gone."""
        self._ears.get(exchange, {}).pop(queue.name, None)
        self.queues.pop(queue.name, None)

    def state(self, name: str) -> QueueState | None:
        """What the queue holds; None: no such queue."""
        self.sweep()
        queue = self.queues.get(name)
        return None if queue is None else QueueState(queue.depth, len(queue.takers))

    def delete(self, name: str) -> None:
        """Delete a queue; its consumers are cancelled by the broker."""
        queue = self.queues.pop(name)
        self._bindings = [binding for binding in self._bindings if binding.queue != name]
        queue.clear()
        for taker in list(queue.takers):
            if isinstance(taker, MemoryConsumer):
                taker.unacked.clear()
                taker.drop(ConnectionError(f"queue {name!r} was deleted"))
            elif isinstance(taker, ReplyBox):
                taker.session.drop(ConnectionError(f"reply queue {name!r} was deleted"))

    def retire(self, queue: Queue) -> None:
        """A consumer left: delete the queue after a while, if it was declared so and nobody comes."""
        if queue.settings.expires is not None and not queue.takers and self.queues.get(queue.name) is queue:
            queue.unused_since = self.now()
            self._alarm.want(queue.unused_since + queue.settings.expires, self.now())

    def requeue(self, queue: Queue, messages: list[Message]) -> None:
        """Put back what a consumer had."""
        if self.queues.get(queue.name) is queue and messages:
            queue.requeue(messages, self.now())
            self.watch(queue)

    def bury(self, queue: Queue, message: Message, reason: str) -> None:
        """Send it where the queue's dead go."""
        settings = queue.settings.arguments
        exchange = settings.get("x-dead-letter-exchange")
        if exchange is None or self.queues.get(queue.name) is not queue:
            return
        corpse, headers = dead(message, queue.name, reason, target=settings.get("x-dead-letter-routing-key"))
        for name in [corpse.target] if exchange == "" else self._bound(exchange, headers):
            grave = self.queues.get(name)
            if grave is not None and (reason == "rejected" or not circles(headers, name)):
                grave.publish(corpse, self.now())
                self.watch(grave)

    def watch(self, queue: Queue) -> None:
        """Be awake when the head of the queue expires."""
        due = queue.next_expiry()
        if due is not None:
            self._alarm.want(due, self.now())

    def sweep(self) -> None:
        """Bury what has expired."""
        if self.frozen:
            return
        now = self.now()
        for queue in list(self.queues.values()):
            queue.expire(now)
            self.watch(queue)
            since, seconds = queue.unused_since, queue.settings.expires
            if since is not None and seconds is not None:
                if since + seconds <= now:
                    self.delete(queue.name)
                else:
                    self._alarm.want(since + seconds, now)

    def _instruct(self, message: Message) -> bool | None:
        control = self._controls.get(message.target)
        if control is None:
            return None
        control.hear(message)
        return True

    def open_queue(self, name: str, settings: Settings) -> Queue:
        """A queue of this name, made if there is none. `ConfigurationError` if it exists with other settings."""
        known = self.queues.get(name)
        if known is None:
            queue = Queue(name, settings, lambda message, reason: self.bury(queue, message, reason))
            self.queues[name] = queue
            return queue
        if differences := known.settings.differences(settings):
            raise ConfigurationError(f"queue {name!r} exists with {'; '.join(differences)}")
        return known

    def _bound(self, exchange: str, headers: Mapping[str, Any]) -> list[str]:
        """Where a headers exchange sends a message; all its bindings are of the kind `all-with-x`."""
        return [
            binding.queue
            for binding in self._bindings
            if binding.exchange == exchange
            and all(headers.get(name) == value for name, value in binding.arguments.items() if name != "x-match")
        ]

    def _gate(self) -> None:
        for session in list(self.sessions):
            session.gate(self.frozen or (session.publishes and self.blocked is not None))
