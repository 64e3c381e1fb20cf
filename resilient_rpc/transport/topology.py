"""What a server declares for its queue: pure, so that a test can hold every argument against what RabbitMQ accepts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.base import QueueSpec

DEAD_EXCHANGE = "rpc.dead"
DEAD_LETTER = "x-dead-letter-exchange"
EXPIRED_ARGUMENTS = {"x-max-length": 10_000, "x-message-ttl": 3_600_000}
REASONS = ("rejected", "maxlen", "delivery_limit")
"""Why a message ends in a service's dead queue. Expired ones end in a queue of their own: there are many in a jam."""
GONE = {
    "x-queue-mode": "queues of RabbitMQ 4 are all lazy",
    "x-queue-version": "RabbitMQ 4.3 refuses it",
    "x-ha-policy": "mirrored queues went with RabbitMQ 4: use x-queue-type=quorum",
}


@dataclass(frozen=True)
class Exchange:
    """Declare a durable exchange."""

    name: str
    type: str


@dataclass(frozen=True)
class Queue:
    """Declare a queue."""

    name: str
    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)
    exclusive: bool = False
    """Of one connection alone; it goes with its consumer."""


@dataclass(frozen=True)
class Binding:
    """Bind a queue to an exchange."""

    queue: str
    exchange: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    """The names, with wildcards, that a topic exchange sends to it."""


@dataclass(frozen=True)
class Unbinding:
    """Undo a `Binding`, if there is one."""

    queue: str
    exchange: str
    key: str


Step = Exchange | Queue | Binding | Unbinding


def dead_queue(queue: str) -> str:
    """Where the messages of a request queue end that cannot be handled."""
    return f"{queue}.dead"


def expired_queue(queue: str) -> str:
    """Where the messages of a request queue end that nobody handled in time."""
    return f"{queue}.expired"


def dead_arguments(most: int | None) -> dict[str, Any]:
    """What a dead queue is declared with: beyond `most` messages the oldest gives way."""
    return {} if most is None else {"x-max-length": most}


def events_queue(queue: str) -> str:
    """Where the events lie that a service subscribes to."""
    return f"{queue}.events"


def fanout_exchange(queue: str) -> str:
    """What reaches every server that consumes a queue."""
    return f"{queue}.all"


def ear(exchange: str) -> tuple[Exchange, Queue, Binding]:
    """The steps of one consumer that hears what is published to a fanout exchange; its queue is the second one.

    The queue's name is new each time: the broker may hold the one of a lost connection for minutes.
    """
    name = f"{exchange}.{secrets.token_hex(16)}"
    queue = Queue(name, durable=False, exclusive=True)
    return Exchange(exchange, "fanout"), queue, Binding(name, exchange)


def topology(spec: QueueSpec) -> tuple[Step, ...]:
    """The steps in their order: the dead letters' way before the queue that uses it.

    An argument that is None is left out, even `x-dead-letter-exchange`: for a queue that somebody else declared.

    Raises:
        ConfigurationError: an argument that RabbitMQ no longer accepts.
    """
    for name, reason in GONE.items():
        if name in spec.arguments:
            raise ConfigurationError(f"queue {spec.name!r}: {name}={spec.arguments[name]!r}: {reason}")
    if not spec.declared:
        return ()
    arguments = {DEAD_LETTER: DEAD_EXCHANGE, **spec.arguments}
    request = Queue(spec.name, spec.durable, {name: value for name, value in arguments.items() if value is not None})
    dead_letters = _dead_letters(spec) if spec.dead_letters else ()
    return (*dead_letters, request, *_topics(spec)) if spec.topics else (*dead_letters, request)


def _topics(spec: QueueSpec) -> tuple[Step, ...]:
    return (
        Exchange(spec.topics, "topic"),
        *(Binding(spec.name, spec.topics, key=name) for name in spec.bound),
        *(Unbinding(spec.name, spec.topics, name) for name in spec.unbound),
    )


def _dead_letters(spec: QueueSpec) -> tuple[Step, ...]:
    # The exchange is shared by all services, so each binding names the queue that its messages died in.
    dead, expired = dead_queue(spec.main or spec.name), expired_queue(spec.main or spec.name)
    return (
        Exchange(DEAD_EXCHANGE, "headers"),
        Queue(expired, arguments=EXPIRED_ARGUMENTS),
        Queue(dead, arguments=dead_arguments(spec.max_dead)),
        Binding(expired, DEAD_EXCHANGE, _died(spec.name, "expired")),
        *(Binding(dead, DEAD_EXCHANGE, _died(spec.name, reason)) for reason in REASONS),
    )


def _died(queue: str, reason: str) -> dict[str, str]:
    # Headers that begin with x- count with this kind of match only.
    return {"x-match": "all-with-x", "x-first-death-queue": queue, "x-first-death-reason": reason}
