"""What a server is configured with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policy import Policy
from resilient_rpc.serving.access import Allow
from resilient_rpc.serving.addresses import DEFAULT_PREFIXES
from resilient_rpc.serving.admission import Admission
from resilient_rpc.serving.around import TENANT
from resilient_rpc.settings import check_flag
from resilient_rpc.transport.backoff import Backoff
from resilient_rpc.transport.batching import Batching
from resilient_rpc.wire.filters import Filter, check_filters
from resilient_rpc.wire.limits import Limits

MAX_TENANT = 255


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """How a server works. Seconds and calls."""

    concurrency: int = 64
    prefetch: int | None = None
    """Messages that wait here unacked; None: twice the concurrency."""
    batching: Batching | None = field(default_factory=Batching)
    limits: Limits = field(default_factory=Limits)
    backoff: Backoff = field(default_factory=Backoff)
    grace: float = 30.0
    """How long a drain waits for what is running."""
    reply_prefixes: tuple[str, ...] = DEFAULT_PREFIXES
    filters: tuple[Filter, ...] = ()
    policies: tuple[Policy, ...] = ()
    tenant: str = TENANT
    """Whose idempotency keys these are, where nobody has proof of the sender."""
    require_user_id: bool = False
    """Refuse what the broker cannot say of who sends it; its user is the tenant."""
    backlog_limit: int | None = None
    """Messages in the queue from which on `QueueLimit` is announced; None: nobody looks by himself."""
    admission: Admission | None = field(default_factory=Admission)
    allow: Allow | None = None
    """What calls to the methods that every server has are asked for; registered methods have their own."""

    @property
    def unacked(self) -> int:
        """Messages that the broker sends ahead."""
        return self.prefetch or min(2 * self.concurrency, 65_535)

    def __post_init__(self) -> None:
        backlog = self.backlog_limit
        if backlog is not None and (type(backlog) is not int or backlog < 1):
            raise ConfigurationError(f"backlog_limit={backlog!r}: give a whole number of at least 1, or None")
        for name in ("concurrency", "prefetch"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 1 <= value <= 65_535):  # noqa: PLR2004 - AMQP's 16 bits
                raise ConfigurationError(f"{name}={value!r}: give a whole number from 1 to 65535")
        if self.batching is not None and not isinstance(self.batching, Batching):
            raise ConfigurationError(f"batching={self.batching!r}: give a Batching, or None")
        if not isinstance(self.limits, Limits):
            raise ConfigurationError(f"limits={self.limits!r}: give Limits")
        if self.admission is not None and not isinstance(self.admission, Admission):
            raise ConfigurationError(f"admission={self.admission!r}: give an Admission, or None")
        check_filters(self.filters)
        check_flag(self.require_user_id, "require_user_id")
        tenant: Any = self.tenant
        if not isinstance(tenant, str) or not 0 < len(tenant) <= MAX_TENANT or ":" in tenant:
            raise ConfigurationError(f"tenant={tenant!r:.300}: give a text of 1 to {MAX_TENANT} characters, no colon")
        # A text would be taken for its letters, and an empty prefix would accept the queue of any service.
        prefixes: Any = self.reply_prefixes
        if not isinstance(prefixes, tuple | list) or not all(isinstance(each, str) and each for each in prefixes):
            raise ConfigurationError(f"reply_prefixes={prefixes!r}: give a tuple of texts, none of them empty")
