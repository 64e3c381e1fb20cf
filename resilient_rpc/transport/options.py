"""What a client's links have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resilient_rpc.errors import ConfigurationError, TooLarge
from resilient_rpc.transport.backoff import Backoff
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.correlation import check_correlation
from resilient_rpc.transport.reply_queues import Direct, ReplyStrategy, check_replies
from resilient_rpc.transport.tables import short_string
from resilient_rpc.wire.control import LEAST, MOST
from resilient_rpc.wire.filters import Filter, check_filters
from resilient_rpc.wire.limits import Limits


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """What a client's links have in common.

    `max_pending`: calls that may wait on one link (default 250,000). `replies`: where they arrive (default `Direct()`).
    `correlation`: what correlation ids end with (default ``sequence``; see `transport.correlation`).
    """

    batching: Batching | None = field(default_factory=Batching)
    limits: Limits = field(default_factory=Limits)
    backoff: Backoff = field(default_factory=Backoff)
    max_pending: int = 250_000
    app_id: str | None = None
    user_id: str | None = None
    """The connection's user, where requests shall say who sends them; the broker checks it."""
    filters: tuple[Filter, ...] = ()
    replies: ReplyStrategy = field(default_factory=Direct)
    correlation: str = "sequence"
    liveness: float | None = None
    """Seconds for which a server may be silent about a call that it has; None: for ever, and it is not asked."""
    when_no_server: str = "wait"
    """``fail``: end calls to a queue that nobody consumes."""

    def __post_init__(self) -> None:
        if self.when_no_server not in ("wait", "fail"):  # a tuple: what is given may have no hash
            raise ConfigurationError(f"when_no_server={self.when_no_server!r:.200}: give 'wait' or 'fail'")
        if self.batching is not None and not isinstance(self.batching, Batching):
            raise ConfigurationError(f"batching={self.batching!r}: give a Batching, or None")
        if not isinstance(self.limits, Limits):
            raise ConfigurationError(f"limits={self.limits!r}: give Limits")
        if type(self.max_pending) is not int or self.max_pending < 1:
            raise ConfigurationError(f"max_pending={self.max_pending!r}: give a whole number of at least 1")
        check_filters(self.filters)
        check_replies(self.replies)
        check_correlation(self.correlation)
        check_liveness(self.liveness)
        for name in ("app_id", "user_id"):
            value = getattr(self, name)
            if value is not None:
                try:
                    short_string(value)
                except (TooLarge, ConfigurationError) as error:
                    raise ConfigurationError(f"{name}={value!r:.300}: {error}") from None


def check_liveness(value: Any) -> float | None:
    """Return `value` if it is a usable liveness, or None; `ConfigurationError` otherwise."""
    if value is None or (type(value) in (int, float) and LEAST <= value <= MOST):
        checked: float | None = value
        return checked
    raise ConfigurationError(f"liveness={value!r:.100}: give seconds from {LEAST:g} to {MOST:g}, or None")
