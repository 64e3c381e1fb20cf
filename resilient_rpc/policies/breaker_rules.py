"""The settings of a circuit breaker, checked."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from resilient_rpc.call import Call
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.settings import check_count, check_function, check_name, check_seconds, check_share, shown

HOOKS = ("before_call", "success", "failure", "state_change")
"""Of a listener in the sense of pybreaker."""
MODES = ("normal", "metrics_only")


@dataclass(frozen=True, kw_only=True, eq=False)
class Rules:
    """When a circuit opens, for how long, and how it closes again. Times are seconds."""

    window: float = 30.0
    """How far back calls count; the oldest tenth leaves at once."""
    min_calls: int = 20
    """Calls in the window before a rate means anything."""
    failure_rate: float = 0.5
    """Opens when this share of them failed; above 0, up to 1."""
    slow_call: float | None = None
    """An attempt that takes longer is slow, whether it succeeds or not; None: none is."""
    slow_rate: float = 0.8
    """Opens when this share of them were slow; above 0, up to 1."""
    consecutive: int | None = 5
    """Opens after so many failures in a row with no success in the window, for low traffic; None: never."""
    open_for: float = 5.0
    """How long it stays open the first time: between half of it and all of it. Doubles with each trip in a row."""
    max_open: float = 300.0
    """The most that this grows to."""
    permits: int = 3
    """Probes at once, while half-open."""
    successes_required: int = 3
    """Probes that must succeed before it closes; one that fails or is slow opens it again."""
    probe_timeout: float = 30.0
    """A probe that has not ended by then gives its place to another call, and its outcome counts no more."""
    max_half_open: float = 60.0
    """Half-open for so long, with probes that hang, it opens again."""
    mode: Literal["normal", "metrics_only"] = "normal"
    """``metrics_only``: refuses nothing by itself, and announces what it would have refused."""
    listeners: tuple[Any, ...] = ()
    """Of pybreaker (`CircuitBreakerListener`); they are called with a `pybreaker.CircuitBreaker` of the target."""
    counts: Callable[[BaseException | None], bool | None] | None = field(default=None, repr=False)
    """What an outcome (None: a reply) says: True: healthy, False: a failure, None: neither. None: `outcome.health`."""
    key: Callable[[Call], str] | None = field(default=None, repr=False)
    """By what circuits are kept, such as a group of methods; None: the target."""
    name: str = ""
    """Distinguishes two of a class, in events and at a reload."""
    random: Callable[[], float] = field(default=random.random, repr=False)
    """Numbers from 0 to 1, for the jitter of the open time."""

    def __post_init__(self) -> None:
        """Check each setting, and how they fit together."""
        for name in ("window", "open_for", "max_open", "probe_timeout", "max_half_open"):
            check_seconds(f"CircuitBreaker.{name}", getattr(self, name))
        for name in ("min_calls", "permits", "successes_required"):
            check_count(f"CircuitBreaker.{name}", getattr(self, name))
        for name in ("failure_rate", "slow_rate"):
            self._check_rate(f"CircuitBreaker.{name}", getattr(self, name))
        if self.slow_call is not None:
            check_seconds("CircuitBreaker.slow_call", self.slow_call)
        if self.consecutive is not None:
            check_count("CircuitBreaker.consecutive", self.consecutive)
        if self.max_open < self.open_for:
            raise ConfigurationError(
                f"CircuitBreaker.max_open={self.max_open!r} is less than open_for={self.open_for!r}; raise it"
            )
        if self.mode not in MODES:
            raise ConfigurationError(f'CircuitBreaker.mode must be "normal" or "metrics_only", not {shown(self.mode)}')
        for name in ("counts", "key"):
            check_function(f"CircuitBreaker.{name}", getattr(self, name), none=True)
        check_function("CircuitBreaker.random", self.random)
        check_name("CircuitBreaker.name", self.name)
        self._check_listeners()

    @staticmethod
    def _check_rate(name: str, value: float) -> None:
        check_share(name, value)
        if value == 0:
            raise ConfigurationError(f"{name} must be more than 0, not {shown(value)}; disable(target) switches it off")

    def _check_listeners(self) -> None:
        if not isinstance(self.listeners, tuple | list):
            raise ConfigurationError(f"CircuitBreaker.listeners must be a tuple, not {shown(self.listeners)}")
        for listener in self.listeners:
            missing = [hook for hook in HOOKS if not callable(getattr(listener, hook, None))]
            if missing or isinstance(listener, type):
                raise ConfigurationError(
                    f"CircuitBreaker.listeners: {shown(listener)} is no listener; subclass "
                    "pybreaker.CircuitBreakerListener and pass an instance"
                )
