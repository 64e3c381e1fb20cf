"""Bus: an in-memory broker by name, and what a test does to it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from resilient_rpc import forking
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.memory.broker import Broker
from resilient_rpc.transport.memory.consumer import MemoryConsumer
from resilient_rpc.transport.memory.queue import Queue
from resilient_rpc.transport.memory.sessions import Session
from resilient_rpc.transport.properties import encode_properties


class QueueView:
    """A look into a queue, at the moment of asking."""

    def __init__(self, broker: Broker, queue: Queue) -> None:
        self._broker, self._queue = broker, queue
        self.name = queue.name

    @property
    def depth(self) -> int:
        """Messages that nobody has yet."""
        with self._broker.turn:
            self._broker.sweep()
            return self._queue.depth

    @property
    def unacked(self) -> int:
        """Messages that consumers have and did not ack."""
        with self._broker.turn:
            sessions = self._broker.sessions
            return sum(len(s.unacked) for s in sessions if isinstance(s, MemoryConsumer) and s.queue is self._queue)

    @property
    def consumers(self) -> int:
        """Who consumes it."""
        with self._broker.turn:
            return len(self._queue.takers)

    def messages(self) -> list[Delivery]:
        """Copies of the ready messages, the head first; their tags mean nothing."""
        with self._broker.turn:
            self._broker.sweep()
            return [Delivery(0, m.redelivered, m.fields(), m.body, m.target) for m in self._queue]

    def purge(self) -> int:
        """Drop the ready messages; how many there were."""
        with self._broker.turn:
            return self._queue.clear()


class Bus:
    """What stands behind `memory://name`; get it with `Bus.named`.

    It lives as long as somebody holds it, a transport of it or an open session, and is empty after a fork. All
    methods may be called from any thread; what they cause is reported on the loops of the sessions.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.broker = Broker()
        forking.register(self)

    def __repr__(self) -> str:
        return f"Bus.named({self.name!r})"

    @staticmethod
    def named(name: str) -> Bus:
        """The bus of this name in this process, the same for everybody."""
        return _names.get(name)

    def after_fork(self) -> None:
        """Begin empty in a forked child; the sessions it inherited are dead."""
        self.broker.turn.renew()
        sessions = list(self.broker.sessions)
        self.broker.clear()
        with self.broker.turn:
            for session in sessions:
                session.expire()

    @property
    def now(self) -> Callable[[], float]:
        """The clock by which messages expire."""
        return self.broker.now

    @now.setter
    def now(self, clock: Callable[[], float]) -> None:
        with self.broker.turn:
            self.broker.set_clock(clock)

    @property
    def max_message(self) -> int:
        """Bytes that a body may have."""
        return self.broker.max_message

    @max_message.setter
    def max_message(self, limit: int) -> None:
        self.broker.max_message = limit

    @property
    def connections(self) -> list[str]:
        """The names of the open sessions."""
        with self.broker.turn:
            return [session.name for session in self.broker.sessions]

    @property
    def queues(self) -> list[str]:
        """The names of the queues."""
        with self.broker.turn:
            return list(self.broker.queues)

    def queue(self, name: str) -> QueueView:
        """A look at one queue.

        Raises:
            LookupError: there is none of this name.
        """
        with self.broker.turn:
            if name not in self.broker.queues:
                raise LookupError(f"no queue {name!r}; there are {sorted(self.broker.queues)}")
            return QueueView(self.broker, self.broker.queues[name])

    def publish(self, target: str, body: bytes = b"", properties: bytes | None = None, **fields: Any) -> bool:
        """Put a message on the bus as anybody could: to a queue or a reply address, with encoded or named properties.

        Returns:
            Whether it found a queue or an address, which took it.
        """
        encoded = encode_properties(**fields) if properties is None else properties
        with self.broker.turn:
            known = target in self.broker.queues or target in self.broker.addresses
            return self.broker.route(self.broker.message(target, body, encoded)) is True and known

    def delete(self, name: str) -> None:
        """Delete a queue with its messages; its consumers are lost."""
        with self.broker.turn:
            self.broker.delete(name)

    def kill(self, who: str | Session) -> int:
        """End sessions as a SIGKILL of their process would: they hear nothing, and what they still say is lost.

        `who` is a session, or the name that was given to their transports. Returns how many there were.
        """
        return self._each(who, Session.vanish)

    def drop_connections(self, who: str | Session | None = None) -> int:
        """Break the connections of all, or of some (as for `kill`): they are told, and may open new ones."""
        return self._each(who, lambda session: session.drop(ConnectionResetError("the connection was dropped")))

    def down(self) -> None:
        """Stop: all connections break, new ones are refused; queues and messages stay."""
        with self.broker.turn:
            self.broker.refusing = True
            self.drop_connections()

    def up(self) -> None:
        """Accept connections again."""
        self.broker.refusing = False

    def block(self, reason: str = "low on memory") -> None:
        """Begin an alarm: publishers are told, and nothing of them is read."""
        with self.broker.turn:
            self.broker.set_blocked(reason)

    def unblock(self) -> None:
        """End the alarm: publishers are told, and what they sent meanwhile is read."""
        with self.broker.turn:
            self.broker.set_blocked(None)

    def freeze(self) -> None:
        """Do nothing and tell nobody, as a stopped process: what is sent is taken, nothing is answered."""
        with self.broker.turn:
            self.broker.set_frozen(True)

    def thaw(self) -> None:
        """Go on, with what was sent meanwhile."""
        with self.broker.turn:
            self.broker.set_frozen(False)

    def reset(self) -> None:
        """Be empty and well again; sessions that are open lose their connection."""
        with self.broker.turn:
            self.drop_connections()
            self.broker.clear()

    def _each(self, who: str | Session | None, act: Callable[[Session], None]) -> int:
        with self.broker.turn:
            sessions = self.broker.sessions
            chosen = [s for s in sessions if who is None or s is who or s.name == who]
            for session in chosen:  # none of them inherits what another one gives back
                session.halt()
            for session in chosen:
                act(session)
            return len(chosen)


class _Names:
    """The buses of this process."""

    def __init__(self) -> None:
        self._buses: weakref.WeakValueDictionary[str, Bus] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        forking.register(self)

    def get(self, name: str) -> Bus:
        with self._lock:
            bus = self._buses.get(name)
            if bus is None:
                bus = self._buses[name] = Bus(name)
            return bus

    def after_fork(self) -> None:
        self._lock = threading.Lock()


_names = _Names()
