"""The port between calls and messages: what a transport must do, and what it reports.

A transport moves messages (`Properties` and bytes), tells what became of them, and knows nothing of calls, policies
or codecs. Two stand behind it: `memory://` and `amqp://`. One contract suite (tests/contract) runs over both.

All methods of a session are called on the loop that opened it, and all reports arrive there. A report must not raise;
an implementation contains it if it does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from resilient_rpc.transport.reply_queues import ReplyQueues

Headers = Mapping[str, Any]
DIRECT_REPLY = "amq.rabbitmq.reply-to"


class Delivery(msgspec.Struct, eq=False):
    """One message that arrived.

    `properties` holds decoded AMQP basic properties by their AMQP names (``content_type``, ``correlation_id``, ...:
    str; ``delivery_mode``, ``priority``, ``timestamp``: int) and ``headers`` as the *encoded* field table (bytes with
    its 4-byte length; `transport.properties.decode_headers` reads it). Only what was sent is there.
    """

    tag: int
    redelivered: bool
    properties: dict[str, Any]
    body: bytes
    routing_key: str = ""


class QueueState(NamedTuple):
    """What a queue holds: messages that nobody has yet, and who consumes it."""

    messages: int
    consumers: int


@dataclass(frozen=True, kw_only=True)
class QueueSpec:
    """A request queue and what belongs to it. Declared by servers only."""

    name: str
    service: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """x-arguments beyond the dead-letter exchange, which every request queue has; a None leaves that one out."""
    durable: bool = True
    dead_letters: bool = True
    """Declare the dead-letter exchange and this queue's `.dead` and `.expired` queues too."""
    main: str = ""
    """The queue after which those two are called, if it is not this one."""
    max_dead: int | None = 100_000
    """How many messages the `.dead` queue keeps, the newest; None: all."""
    declared: bool = True
    """False: it is somebody else's, and is consumed as it is."""
    fanout: str = ""
    """An exchange: what is published to it reaches every consumer of this queue, each at most once. Empty: none."""
    delivery_limit: int | None = None
    """How often a message may come back before the *server* has it dead-lettered; None: nothing is counted here."""
    control: str = ""
    """The fan-out exchange to which each consumer binds a control queue of its own; empty: it has none."""
    topics: str = ""
    """A topic exchange: the queue gets what is published to it under names that `bound` holds. Empty: none."""
    bound: tuple[str, ...] = ()
    """Names, in which `*` stands for one word and `#` for any number of them."""
    unbound: tuple[str, ...] = ()
    """What it was bound to before, and is not to be any more."""


def up_to(tag: int, unconfirmed: Iterable[int]) -> list[int]:
    """What a confirm of `tag` with ``multiple`` says of those that wait for theirs, in the order of their tags."""
    return list(itertools.takewhile(lambda waiting: waiting <= tag, unconfirmed))


class PublisherEvents(Protocol):
    """What a `Publisher` reports to its owner."""

    def delivered(self, delivery: Delivery) -> None:
        """A reply arrived (only with `replies`). Acked when this returns: from a named queue it may come twice."""

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """The broker took responsibility for `tag` (all up to it, if `multiple`), or refused it (`ok` False)."""

    def returned(self, correlation_id: str, code: int, text: str) -> None:
        """A mandatory message found no queue. Its confirm follows."""

    def blocked(self, reason: str | None) -> None:
        """The broker stopped reading (an alarm), or goes on again (None)."""

    def writable(self) -> None:
        """The session takes data again after `Publisher.writable` was False."""

    def lost(self, error: BaseException) -> None:
        """The session ended without `close()`; once; nothing is reported after it."""


class Publisher(Protocol):
    """A session that publishes with confirms, and may receive replies."""

    @property
    def reply_to(self) -> str:
        """The address to put into requests, the first of `addresses`; empty without replies, or with leased ones."""

    @property
    def addresses(self) -> Sequence[str]:
        """All addresses that replies to this session may be sent to, but for leased ones."""

    @property
    def kept(self) -> bool:
        """Whether replies to what earlier sessions sent arrive here, too: the named queue was still there."""

    @property
    def writable(self) -> bool:
        """False while the peer does not keep up: stop publishing until `PublisherEvents.writable`."""

    def publish(self, target: str, body: bytes, properties: bytes, *, mandatory: bool) -> int:
        """Send to the queue `target` by the default exchange; returns the tag that the confirm will name.

        `properties` as `transport.properties` encodes them. Raises `TooLarge` for what no frame can carry and
        `ConnectionError` when the session has ended; in both cases nothing was sent.
        """

    def announce(self, exchange: str, body: bytes, properties: bytes, *, mandatory: bool = False) -> int:
        """As `publish`, to all queues that are bound to a fan-out exchange, which `reaches` has found."""

    async def emit(self, exchange: str, name: str, body: bytes, properties: bytes, *, sent: Callable[[], None]) -> bool:
        """Publish to a topic exchange; whether the broker has put it into any queue, once it has said so.

        False also where there is no such exchange. `sent` is called when it is handed over: what is raised before says
        that nothing was sent. Each message needs a correlation id of its own. Raises `PublishRejected` if a queue
        refuses it, `ConfigurationError` where the broker forbids it, `TooLarge`, or `ConnectionError` or
        `ConnectionLost`. None of them ends the session.
        """

    async def reaches(self, exchange: str) -> bool:
        """Whether there is such an exchange and it takes messages from here: `announce` ends the session if not."""

    def flush(self) -> None:
        """Have what was published leave at once; otherwise it leaves in the loop's next turn."""

    async def consumers(self, target: str) -> int | None:
        """How many consumers the queue has, by a passive declare; None if there is no such queue."""

    async def inspect(self, target: str) -> QueueState | None:
        """As `consumers`, with how many messages wait."""

    async def close(self) -> None:
        """End the session."""


class Leasing(Publisher, Protocol):
    """A `Publisher` with a reply queue for each message (``kind="per_call"``)."""

    def lease(self) -> str:
        """The address of a queue that nobody else has; only while `writable`."""

    def release(self, address: str) -> None:
        """The call has ended: delete its queue. Ignored when the session has ended."""


class ConsumerEvents(Protocol):
    """What a `Consumer` reports to its owner."""

    def delivered(self, delivery: Delivery) -> None:
        """A request arrived; it stays the consumer's until `ack` or `nack`."""

    def control(self, delivery: Delivery) -> None:
        """A message to the control queue; its routing key is the queue's name, unless it came by the exchange."""

    def lost(self, error: BaseException) -> None:
        """The session ended, or the broker cancelled the consumer (queue deleted); once. Unacked ones come again."""


class Consumer(Protocol):
    """A session that consumes one service's queue with manual acks."""

    @property
    def control(self) -> str:
        """The name of its control queue; empty while there is none. It may come later than the first request."""

    @property
    def unmarked_by(self) -> str:
        """The broker, for a person, if it may deliver messages of this queue again and not say so; else empty."""

    def ack(self, tag: int) -> None:
        """The message is done. Ignored when the session has ended."""

    def nack(self, tag: int, *, requeue: bool) -> None:
        """Give it back to the queue, or dead-letter it. Ignored when the session has ended."""

    async def cancel(self) -> None:
        """No new deliveries from here on (what was delivered can still be acked)."""

    async def close(self) -> None:
        """End the session; what is unacked is redelivered."""


class Transport(Protocol):
    """Opens sessions, each an attempt at one host: retrying and backoff are the caller's.

    Both raise `ConfigurationError` for what will never work (bad credentials, a queue that exists with other
    arguments: 403, 406; both values named), OSError, TimeoutError or a transport's own error for what may work later.
    """

    @property
    def user(self) -> str | None:
        """Whose sessions these are: the only value of the property ``user_id`` that the broker takes from them.

        None: a certificate says it, and the broker alone knows what it makes of that.
        """

    @property
    def connect_timeout(self) -> float:
        """Seconds for one attempt, as the user configured it."""

    async def publisher(self, events: PublisherEvents, *, replies: bool | ReplyQueues, timeout: float) -> Publisher:
        """Open a publishing session; with `replies` also what replies arrive at. True: the direct reply address.

        Raises `ReplyQueueTaken` if a queue of that name is somebody else's.
        """

    async def consumer(self, events: ConsumerEvents, queue: QueueSpec, *, prefetch: int, timeout: float) -> Consumer:
        """Declare `queue` with its topology and consume it; at most `prefetch` unacked messages."""
