"""What kind of queue holds the requests of a service: `Server(queue=...)`. Only what RabbitMQ 4.3 accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.settings import check_timeout

MAX_DEAD = 100_000
DELIVERY_LIMIT = 5
OVERFLOWS = ("drop-head", "reject-publish")
MAX_PRIORITY = 255
"""RabbitMQ's; each level costs it memory in every queue, and few need more than 5."""
_MAX_COUNT = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What both kinds share."""

    delivery_limit: int | None = DELIVERY_LIMIT
    """How often a message may come back unfinished (its server died, its connection broke): then it is dead."""
    max_length: int | None = None
    """Messages that may wait; beyond it one is a dead letter, or is refused. None: no limit."""
    overflow: str = "drop-head"
    """What gives way beyond `max_length`: the oldest (``drop-head``), or the newcomer, whose sender is told
    (``reject-publish``)."""
    ttl: float | None = None
    """Seconds that a message may wait before it is expired, besides its caller's own deadline. None: no limit."""
    max_priority: int | None = None
    """The highest priority that the queue tells from others; None: it knows none."""
    max_dead: int | None = MAX_DEAD
    """Dead letters of the service that are kept; beyond it the oldest is dropped. None: no limit."""

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for name in ("delivery_limit", "max_length", "max_dead"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 1 <= value <= _MAX_COUNT):
                raise ConfigurationError(f"{kind}.{name}={value!r}: give a whole number of at least 1, or None")
        if self.overflow not in OVERFLOWS:
            raise ConfigurationError(f"{kind}.overflow={self.overflow!r}: give one of {', '.join(OVERFLOWS)}")
        if self.overflow != OVERFLOWS[0] and self.max_length is None:
            raise ConfigurationError(f"{kind}.overflow={self.overflow!r}: it says nothing without a max_length")
        highest = self.max_priority
        if highest is not None and (type(highest) is not int or not 1 <= highest <= MAX_PRIORITY):
            raise ConfigurationError(
                f"{kind}.max_priority={highest!r}: give a whole number from 1 to {MAX_PRIORITY}, or None"
            )
        if self.ttl is not None:
            check_timeout(self.ttl, f"{kind}.ttl")

    def arguments(self) -> dict[str, Any]:
        """What it is declared with."""
        arguments: dict[str, Any] = {}
        if self.max_length is not None:
            arguments["x-max-length"] = self.max_length
        if self.overflow != OVERFLOWS[0]:
            arguments["x-overflow"] = self.overflow
        if self.max_priority is not None:
            arguments["x-max-priority"] = self.max_priority
        if self.ttl is not None:
            arguments["x-message-ttl"] = max(round(self.ttl * 1000), 1)
        return arguments


@dataclass(frozen=True, kw_only=True)
class Classic(_Settings):
    """A durable classic queue, the default: on one node, fast. Servers count deliveries, in a header.

    ``delivery_limit`` (5): how often a message may come back; None: for ever, and nothing is counted. ``max_length``,
    ``ttl`` (seconds): no limit by default. ``overflow`` (``drop-head``, or ``reject-publish``): what gives way when it
    is full. ``max_priority``: calls of a higher priority are delivered first; none by default. ``max_dead`` (100,000):
    dead letters that are kept. Raises `ConfigurationError` for a value out of range.
    """

    @property
    def counted_here(self) -> int | None:
        """The limit that servers watch over, because the broker does not."""
        return self.delivery_limit


@dataclass(frozen=True, kw_only=True)
class Quorum(_Settings):
    """A quorum queue: replicated over the nodes of a cluster. RabbitMQ counts deliveries.

    The settings are those of `Classic`, but for ``max_priority``: RabbitMQ 4 has priorities in every quorum queue,
    without being asked. ``delivery_limit=None`` leaves the limit to the broker (20 since RabbitMQ 4).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_priority is not None:
            raise ConfigurationError(
                f"Quorum.max_priority={self.max_priority!r}: quorum queues have the priorities of their RabbitMQ, "
                "none before 4.0; leave it None, or use Classic"
            )

    @property
    def counted_here(self) -> int | None:
        """The broker counts."""
        return None

    def arguments(self) -> dict[str, Any]:
        """What it is declared with."""
        limit = {} if self.delivery_limit is None else {"x-delivery-limit": self.delivery_limit}
        return {"x-queue-type": "quorum", **limit, **super().arguments()}
