"""Settings: what a queue's arguments mean, checked as the broker checks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resilient_rpc.errors import ConfigurationError

OVERFLOWS = frozenset({"drop-head", "reject-publish", "reject-publish-dlx"})
TYPES = frozenset({"classic", "quorum"})
NUMBERS = frozenset(
    {"x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority", "x-delivery-limit"}
)
WORDS: Mapping[str, frozenset[str] | None] = {
    "x-overflow": OVERFLOWS,
    "x-queue-type": TYPES,
    "x-dead-letter-exchange": None,
    "x-dead-letter-routing-key": None,
}
# They place a queue on the nodes of a cluster, or say how its leader works: nothing of that shows in one process.
MEANINGLESS = frozenset({"x-queue-leader-locator", "x-quorum-initial-group-size", "x-dead-letter-strategy"})
MOST_PRIORITIES = 255


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a queue was declared."""

    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.arguments.items():
            _check(name, value)
        if self.priorities > MOST_PRIORITIES:
            raise ConfigurationError(f"x-max-priority is at most {MOST_PRIORITIES}, not {self.priorities}")

    @property
    def ttl(self) -> float | None:
        """Seconds that a message may stay."""
        milliseconds = self.arguments.get("x-message-ttl")
        return None if milliseconds is None else milliseconds / 1000

    @property
    def expires(self) -> float | None:
        """Seconds without a consumer after which the queue itself is deleted."""
        milliseconds = self.arguments.get("x-expires")
        return None if milliseconds is None else milliseconds / 1000

    @property
    def max_length(self) -> int | None:
        """How many messages may be ready."""
        return self.arguments.get("x-max-length")

    @property
    def max_bytes(self) -> int | None:
        """How many bytes of bodies may be ready."""
        return self.arguments.get("x-max-length-bytes")

    @property
    def overflow(self) -> str:
        """What gives way in a full queue."""
        return str(self.arguments.get("x-overflow", "drop-head"))

    @property
    def priorities(self) -> int:
        """The highest priority that the queue knows."""
        return int(self.arguments.get("x-max-priority", 0))

    @property
    def quorum(self) -> bool:
        """Whether deliveries are counted, as quorum queues do."""
        return self.arguments.get("x-queue-type") == "quorum"

    @property
    def delivery_limit(self) -> int | None:
        """How often a message of a quorum queue may come back."""
        return self.arguments.get("x-delivery-limit") if self.quorum else None

    def differences(self, other: Settings) -> list[str]:
        """What `other` has otherwise, one phrase each: name, our value, its value."""
        ours, theirs = self._all(), other._all()
        return [
            f"{name} {ours.get(name)!r}, not {theirs.get(name)!r}"
            for name in sorted(ours.keys() | theirs.keys())
            if ours.get(name) != theirs.get(name)
        ]

    def _all(self) -> dict[str, Any]:
        return {"durable": self.durable, **self.arguments}


def _check(name: str, value: Any) -> None:
    if name in NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigurationError(f"{name} must be an integer of at least 0, not {value!r}")
    elif name in WORDS:
        allowed = WORDS[name]
        if not isinstance(value, str) or (allowed is not None and value not in allowed):
            expected = "a string" if allowed is None else f"one of {', '.join(sorted(allowed))}"
            raise ConfigurationError(f"{name} must be {expected}, not {value!r}")
    elif name not in MEANINGLESS:
        raise ConfigurationError(f"memory:// knows no queue argument {name!r} (value {value!r})")
