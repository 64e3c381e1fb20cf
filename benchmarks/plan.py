"""What a run of the suite shall do, with what, and in what time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.families import Found, Point
from tests.servers.handle import Broker


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`budget`: seconds after set-up, in which all shall end. `own`: the broker, if it is ours to restart."""

    url: str
    redis: str = ""
    rounds: int = 5
    seconds: float = 1.5
    loop: str = "asyncio"
    quick: bool = False
    budget: float = 1170.0
    own: Broker | None = None
    peers: Sequence[str] = ()


@dataclass
class Turn:
    """One thing that a round does: a case or a peer, or the probe of a family.

    `guess`: the seconds that it takes, of which `seconds` are those that the plan may shorten.
    """

    name: str
    run: Callable[[Plan], Iterable[tuple[Point | None, Found]]]
    key: str = ""
    """Of the case or the peer."""
    once: bool = False
    ours: bool = True
    guess: float = 0.0
    seconds: float = 0.0
