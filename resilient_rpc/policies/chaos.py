"""Faults on purpose: to see that everything else holds."""

from __future__ import annotations

import functools
import logging
import os
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from resilient_rpc.chain.order import ORDER
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.events import PolicyBypassed, PolicyEvent
from resilient_rpc.policies import chaos_kinds as kinds
from resilient_rpc.policies.chaos_kinds import Fault
from resilient_rpc.policies.naming import name_of
from resilient_rpc.policies.settings import check_count, check_name, check_seconds, check_share, shown

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policy import Handler

log = logging.getLogger(__name__)
SWITCH = "RESILIENT_RPC_CHAOS"
"""The variable of the environment that switches it on, with the value 1."""
_INSIDE = "chaos stands for the network and the server: whatever is to cope with them stands outside of it"


class ChaosInjected(PolicyEvent, frozen=True, kw_only=True):
    """An attempt is disturbed."""

    log_level: ClassVar[int] = logging.WARNING

    kind: str
    """``fault``, ``latency``, ``drop_reply`` or ``duplicate``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chaos:
    """Disturbs a share of the attempts, in one of the given ways: each is as likely as the others.

    Off unless it is switched on. Stands innermost, so that every other policy meets its faults as if they came from
    the network. Ways that shall have shares of their own are put into several `Chaos`, one inside of another.

    `seed` makes the sequence of draws repeatable; calls that run at the same time take from it as they come.

    ConfigurationError when no way is given, and for a wrong value.
    """

    role: ClassVar[str] = "chaos"
    below: ClassVar[Mapping[str, str]] = {other: _INSIDE for other in ORDER if other != "chaos"}

    rate: float = 0.001
    """Share of the attempts that are disturbed, from 0 to 1."""
    fault: Fault | None = None
    """Fails at once, and sends nothing: an error (copied each time), its class, or a function from call to error."""
    latency: float | tuple[float, float] | None = None
    """Seconds that pass before it is sent, or a range of them; at most until the deadline."""
    drop_reply: Literal["timeout", "connection"] | None = None
    """Carried out, and its reply lost: ``timeout`` waits for the deadline, ``connection`` fails once it is lost."""
    duplicate: bool = False
    """Delivered twice, one after the other, with the same key; its caller gets the second answer."""
    seed: int | None = None
    """Makes the draws repeatable; None: other ones each time."""
    enabled: bool | Callable[[], bool] | None = None
    """A function is asked for each attempt. None: whether RESILIENT_RPC_CHAOS is 1 when this object is made."""
    when: Callable[[Call], bool] | None = None
    """Which attempts it may disturb; None: all."""
    name: str = ""
    """Shown in events, in place of the class."""
    _ways: tuple[tuple[str, kinds.Way], ...] = field(init=False, repr=False)
    _random: Callable[[], float] = field(init=False, repr=False)
    _is_on: Callable[[], bool] | None = field(init=False, repr=False)
    """None: it is off for ever."""

    def __post_init__(self) -> None:
        check_share("Chaos.rate", self.rate)
        if self.seed is not None:
            check_count("Chaos.seed", self.seed, least=0)
        draw = random.random if self.seed is None else random.Random(self.seed).random
        ways = tuple(self._given(draw))
        if not ways:
            raise ConfigurationError("Chaos: give at least one of fault, latency, drop_reply, duplicate")
        if self.when is not None and not callable(self.when):
            raise ConfigurationError(f"Chaos.when must be a function of the call, not {shown(self.when)}")
        check_name("Chaos.name", self.name)
        object.__setattr__(self, "_random", draw)
        object.__setattr__(self, "_ways", ways)
        object.__setattr__(self, "_is_on", _switch(self.enabled))

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        """Carry the call on, now and then disturbed."""
        if self._is_on is None or self._random() >= self.rate or not self._may(call, self._is_on):
            return await proceed(call)
        return await self._disturb(call, proceed)

    def _may(self, call: Call, is_on: Callable[[], bool]) -> bool:
        """Whether the functions of its user allow it; one that fails is a no."""
        try:
            return is_on() and (self.when is None or self.when(call))
        except Exception:
            log.exception("%s leaves the call alone: `enabled` or `when` failed", name_of(self))
            call.announce(PolicyBypassed, name_of(self), reason="failed")
            return False

    def _given(self, draw: Callable[[], float]) -> list[tuple[str, kinds.Way]]:
        ways: list[tuple[str, kinds.Way]] = []
        if self.fault is not None:
            kinds.check_fault(self.fault)
            ways.append(("fault", functools.partial(kinds.fail, self.fault)))
        if self.latency is not None:
            low, high = _range(self.latency)
            ways.append(("latency", lambda call, proceed: kinds.delay(low + (high - low) * draw(), call, proceed)))
        if self.drop_reply is not None:
            if self.drop_reply not in kinds.LOSSES:
                raise ConfigurationError(
                    f"Chaos.drop_reply must be one of {kinds.LOSSES}, not {shown(self.drop_reply)}"
                )
            ways.append(("drop_reply", functools.partial(kinds.drop, self.drop_reply)))
        if type(self.duplicate) is not bool:
            raise ConfigurationError(f"Chaos.duplicate must be True or False, not {shown(self.duplicate)}")
        if self.duplicate:
            ways.append(("duplicate", kinds.repeat))
        return ways

    def _disturb(self, call: Call, proceed: Handler) -> Coroutine[Any, Any, Reply]:
        kind, way = self._ways[int(self._random() * len(self._ways))]
        if kind == "duplicate" and not call.safety.repeatable:
            call.announce(PolicyBypassed, name_of(self), reason="unsafe")
            return proceed(call)
        call.announce(ChaosInjected, name_of(self), kind=kind)
        return way(call, proceed)


def _switch(enabled: Any) -> Callable[[], bool] | None:
    if enabled is None:
        enabled = os.environ.get(SWITCH) == "1"
    if isinstance(enabled, bool):
        return _always if enabled else None
    if not callable(enabled):
        raise ConfigurationError(f"Chaos.enabled must be True, False, None or a function, not {shown(enabled)}")
    asked: Callable[[], bool] = enabled
    return asked


def _always() -> bool:
    return True


def _range(latency: Any) -> tuple[float, float]:
    low, high = latency if isinstance(latency, tuple) and len(latency) == 2 else (latency, latency)  # noqa: PLR2004
    check_seconds("Chaos.latency", low, zero=True)
    check_seconds("Chaos.latency", high, zero=True)
    if low > high:
        raise ConfigurationError(f"Chaos.latency must be a range from low to high, not {shown(latency)}")
    return low, high
