"""What a run of the suite shall do, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.servers.handle import Broker


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`budget`: seconds after set-up, beyond which nothing is begun. `own`: the broker, if it is ours to restart."""

    url: str
    redis: str = ""
    rounds: int = 5
    seconds: float = 1.5
    loop: str = "asyncio"
    quick: bool = False
    budget: float = 1170.0
    own: Broker | None = None
    peers: Sequence[str] = ()
