"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from resilient_rpc.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Full jitter: a random time up to `base` x 2^attempt, at most `cap` seconds.

    After Brooker, "Exponential Backoff And Jitter" (AWS, 2015). `urgent`: the cap while a call waits for the
    connection, or a server has a queue to serve, so that a broker that came back is used within a few seconds.
    """

    base: float = 0.1
    cap: float = 10.0
    urgent: float = 2.0
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        for name in ("base", "cap", "urgent"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise ConfigurationError(f"Backoff({name}={value!r}): give a positive number of seconds")

    def delay(self, failures: int, *, urgent: bool) -> float:
        """Seconds to wait after so many failures in a row."""
        cap = min(self.cap, self.urgent) if urgent else self.cap
        return self.random() * min(cap, self.base * 2.0 ** min(failures, 30))
