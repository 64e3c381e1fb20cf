"""Direct reply addresses for which the broker closes the connection of whoever publishes to them.

A RabbitMQ before 4.2 takes such an address apart, which names a process on one of its nodes, and fails with 541 where
the address was forged, or its node has gone. Until that has happened once, nothing here is asked. From then on an
address is published to if a reply to its node was confirmed before; any other node is tried first, one at a time and
not often, because a wrong one costs everybody a new connection. One that fails is not accepted for a while.
"""

from __future__ import annotations

import binascii
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from resilient_rpc.serving.ration import Ration
from resilient_rpc.transport.base import DIRECT_REPLY

INTERNAL_ERROR = 541
BANNED = 60.0
"""Seconds for which a node is not accepted that has cost a connection."""
BURST, EVERY = 4, 5.0
"""So many unknown nodes are tried without delay, and one more in so many seconds."""
WAITING = 16
"""Nodes whose replies may wait for that."""
_MOST = 1_000
_TERM = 0x83
_PROCESSES = {ord("X"): 12, ord("g"): 9}
"""What follows the node of a process, by tag, in Erlang's external term format: number, serial, creation."""
_NUMBER, _SERIAL = 2**28, 2**13
_pair, _short = struct.Struct(">II").unpack_from, struct.Struct(">H").unpack_from

Origin = bytes | str


def origin_of(address: str) -> Origin | None:
    """The node that an address belongs to; the address itself if none can be made out; None: it is no direct one."""
    if not address.startswith(DIRECT_REPLY):
        return None
    encoded = address[len(DIRECT_REPLY) + 1 :].partition(".")[0]
    try:
        return _node(binascii.a2b_base64(encoded)) or address
    except (ValueError, LookupError, struct.error):
        return address


def _node(term: bytes) -> bytes | None:
    """The bytes of a process up to its number, if there follows what a broker can take for one."""
    size = _PROCESSES.get(term[1])
    if size is None or term[0] != _TERM or term[2] not in b"wvd":
        return None
    end = 4 + term[3] if term[2] == ord("w") else 5 + _short(term, 3)[0]
    if len(term) != end + size:
        return None
    number, serial = _pair(term, end)
    return term[:end] if number < _NUMBER and serial < _SERIAL else None


class Bans:
    """Origins that are not accepted for a while. `added` is called with each new one."""

    def __init__(self, added: Callable[[], object] = lambda: None, clock: Callable[[], float] = time.monotonic) -> None:
        self._added, self._clock = added, clock
        self._until: OrderedDict[Origin, float] = OrderedDict()

    def add(self, origin: Origin) -> None:
        """From now on."""
        self._until[origin] = self._clock() + BANNED
        self._until.move_to_end(origin)
        self._added()
        if len(self._until) > _MOST:
            self._until.popitem(last=False)

    def stand(self, address: str) -> bool:
        """Whether an address is of one of them."""
        if not self._until:
            return False
        origin = origin_of(address)
        until = self._until.get(origin) if origin is not None else None
        return until is not None and until > self._clock()


class Addressed(Protocol):
    """A message that is sent somewhere."""

    @property
    def target(self) -> str:
        """Its address."""


P = TypeVar("P", bound=Addressed)


class Doubts(Generic[P]):
    """See the module. `later(seconds)` has the sender look again then, at what `due` says."""

    def __init__(
        self, bans: Bans, later: Callable[[float], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.active = False
        """Whether a connection was lost by an address; the sender asks nothing before that."""
        self._bans, self._later = bans, later
        self._proven: set[Origin] = set()
        self._retried: set[Origin] = set()
        """Among those that wait: they were good once, or nobody knew better. They are tried without delay."""
        self._waiting: OrderedDict[Origin, list[P]] = OrderedDict()
        self._trial: tuple[Origin, P] | None = None
        self._trials = Ration(BURST, 1 / EVERY, clock)

    @property
    def pending(self) -> int:
        """Messages that wait here."""
        return sum(len(messages) for messages in self._waiting.values())

    def harmless(self, address: str) -> bool:
        """Whether it may be published to without a trial."""
        return (origin := origin_of(address)) is None or origin in self._proven

    def judge(self, message: P) -> bool | None:
        """True: send it. False: nobody gets it. None: it is kept here until `due` hands it out to be tried."""
        origin = origin_of(message.target)
        if origin is None or origin in self._proven:
            return True
        if self._bans.stand(message.target):
            return False
        waiting = self._waiting.get(origin)
        if waiting is not None:
            waiting.append(message)
        elif len(self._waiting) < WAITING:
            self._waiting[origin] = [message]
        else:
            return False
        return None

    def due(self) -> P | None:
        """What is to be sent now, alone of its kind."""
        waiting = [origin for origin, messages in self._waiting.items() if messages]
        if self._trial is not None or not waiting:
            return None
        origin = next((each for each in waiting if each in self._retried), None)
        if origin is None:
            if not self._trials.take():
                self._later(self._trials.wait())
                return None
            origin = waiting[0]
        message = self._waiting[origin].pop(0)
        self._trial = origin, message
        return message

    def settled(self, message: P) -> list[P] | None:
        """The broker has it, or it cannot be sent at all: what waited for that; None if it was not the one on trial."""
        if self._trial is None or self._trial[1] is not message:
            return None
        origin, self._trial = self._trial[0], None
        self._retried.discard(origin)
        if len(self._proven) >= _MOST:
            self._proven.clear()
        self._proven.add(origin)
        return self._waiting.pop(origin, [])

    def lost(self, error: BaseException, unconfirmed: Sequence[P], known: Iterable[str]) -> list[P]:
        """The session ended, and these were on their way. `known`: where it has published to.

        Returns what waited here for the origin that is to blame.
        """
        trial, self._trial = self._trial, None
        if getattr(error.__cause__, "reply_code", None) != INTERNAL_ERROR:
            return []
        if trial is not None:
            self._bans.add(trial[0])
            self._retried.discard(trial[0])
            return self._waiting.pop(trial[0], [])
        if not self.active:
            self.active = True
            self._proven.update(origin for each in known if (origin := origin_of(each)) is not None)
        origins = (origin_of(message.target) for message in unconfirmed)
        doubted = Counter(origin for origin in origins if origin is not None)
        self._proven -= doubted.keys()
        self._retried = set(doubted)
        for origin, _ in doubted.most_common():  # whoever has many is likely to be in order
            self._waiting.setdefault(origin, [])
        return []
