"""Reply queues of a session on a bus: its own ones that go with it, or a named one that stays."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.memory.message import Message
from resilient_rpc.transport.memory.queue import Queue
from resilient_rpc.transport.memory.settings import Settings
from resilient_rpc.transport.reply_queues import ReplyQueues, ReplyQueueTaken

if TYPE_CHECKING:
    from resilient_rpc.transport.memory.broker import Broker
    from resilient_rpc.transport.memory.publisher import MemoryPublisher

OWN = Settings(durable=False)


class ReplyBox:
    """Consumes one reply queue for a session."""

    def __init__(self, session: MemoryPublisher) -> None:
        self.session = session

    def take(self, message: Message) -> bool:
        """See `transport.memory.queue.Taker`."""
        self.session.receive(message)
        return True


class ReplyBoxes:
    """Of one session. All of it happens during a turn."""

    def __init__(self, broker: Broker, session: MemoryPublisher, queues: ReplyQueues) -> None:
        self.kept = False
        self._broker, self._session, self._queues = broker, session, queues
        self._box = ReplyBox(session)
        self._open: dict[str, Queue] = {}

    def open(self) -> None:
        """What the session has from its beginning."""
        queues = self._queues
        if queues.kind == "named":
            self.kept = queues.epoch > 0 and self._broker.state(queues.name) is not None
            try:
                self._attach(queues.name, Settings(arguments=queues.arguments))
            except ConfigurationError as error:
                raise ReplyQueueTaken(f"reply queue {queues.name!r} is somebody else's: {error}") from error
        elif queues.kind == "exclusive":
            for _ in range(queues.count):
                self.add(generated_name())
        self._session.addresses = tuple(self._open)

    def add(self, name: str) -> None:
        """One more queue of the session alone."""
        self._attach(name, OWN)

    def remove(self, name: str) -> None:
        """It is not needed any more."""
        queue = self._open.pop(name, None)
        if queue is not None:
            queue.detach(self._box)
            self._drop(queue)

    def detach(self) -> None:
        """Take no more."""
        for queue in self._open.values():
            queue.detach(self._box)

    def leave(self) -> None:
        """The session has ended."""
        for queue in self._open.values():
            if self._queues.kind == "named":
                self._broker.retire(queue)
            else:
                self._drop(queue)

    def delete(self) -> None:
        """Its owner closes it: nobody will come for a named queue either."""
        for name in list(self._open):
            self.remove(name)

    def _attach(self, name: str, settings: Settings) -> None:
        queue = self._open[name] = self._broker.open_queue(name, settings)
        queue.attach(self._box, self._broker.now())

    def _drop(self, queue: Queue) -> None:
        if self._broker.queues.get(queue.name) is queue:
            self._broker.delete(queue.name)


def generated_name() -> str:
    """A queue's name as RabbitMQ makes them."""
    return f"amq.gen-{secrets.token_urlsafe(16)}"
