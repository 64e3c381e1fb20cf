"""What the queues of a service are called: by business, version and environment, as in ``rpc.orders.v2.prod``.

Client and server of a service need the same. What belongs to a queue is called after it: ``rpc.orders.v2.prod.dead``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.settings import check_prefix
from resilient_rpc.transport.reply_queues import REPLY_PREFIX

MAX_QUEUE = 240
"""Characters of a queue's name: what is called after it fits the 255 bytes of AMQP."""
MAX_PART = 64
RESERVED = frozenset({"all", "control", "dead", "events", "expired"})
"""What we put behind a queue's name ourselves."""
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Makes the names of queues.

    Attributes:
        prefix: What they begin with.
        version: Of the service's interface, such as ``v2``; None: it does not stand in the name.
        environment: Such as ``prod``; None: it does not stand in the name.
    """

    prefix: str = "rpc."
    version: str | None = None
    environment: str | None = None

    def __post_init__(self) -> None:
        check_prefix(self.prefix)
        for name in ("version", "environment"):
            value: Any = getattr(self, name)
            if value is not None:
                _check(name, value)

    def queue(self, service: str) -> str:
        """The request queue of a service. `ConfigurationError` for a name that is too long, or that of reply queues."""
        name = ".".join(part for part in (self.prefix + service, self.version, self.environment) if part is not None)
        if len(name) > MAX_QUEUE:
            raise ConfigurationError(f"queue {name!r:.300}: a name has at most {MAX_QUEUE} characters, not {len(name)}")
        if name.startswith(REPLY_PREFIX):
            raise ConfigurationError(f"queue {name!r}: names that begin with {REPLY_PREFIX!r} are for replies")
        return name

    @property
    def events(self) -> str:
        """The exchange of events: one for an environment, for the version is that of a service's interface."""
        return ".".join(part for part in (self.prefix + "events", self.environment) if part is not None)


def _check(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > MAX_PART or not _PART.fullmatch(value):
        raise ConfigurationError(
            f"{name}={value!r:.200}: give letters, digits, _ and -, at most {MAX_PART} characters, or None"
        )
    if value in RESERVED:
        raise ConfigurationError(f"{name}={value!r}: it would be the name of what belongs to the queue; give another")
