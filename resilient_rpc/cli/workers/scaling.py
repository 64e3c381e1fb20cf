"""How many workers a backlog calls for. Nothing here waits or knows a clock: what is decided depends on what is given.

More come soon and fewer leave late: a worker too many costs memory, one too few makes every caller wait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from resilient_rpc.cli.workers.count import Count


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the workers report, taken together."""

    backlog: int | None
    """Messages in the queue, besides those that the workers have taken; None: the broker has not said."""
    busy: int
    """Calls that run in them, or wait there."""
    slots: int
    """Calls that may run in them."""
    workers: int
    """How many report."""


@dataclass(frozen=True, kw_only=True)
class Mood:
    """Since when it has been the same: too much for the workers, or too little. None: it is not."""

    pressed: float | None = None
    calm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The rule. Seconds."""

    count: Count
    up_after: float = 2.0
    """How long the backlog must be too long without a break."""
    down_after: float = 30.0
    """How long it must be empty, and the workers idle enough, for one of them to leave."""
    fill: float = 0.5
    """The share of their slots that those who stay would have in use, at most."""

    def decide(self, load: Load, wanted: int, mood: Mood, now: float) -> tuple[int, Mood]:
        """How many workers there should be, and what to remember until the next time.

        Nothing changes while `wanted` workers do not report yet: what the last change does is not known.
        """
        if load.backlog is None or load.workers != wanted or load.slots < 1:
            return wanted, Mood()
        each = load.slots / load.workers
        if load.backlog >= each and wanted < self.count.most:
            since = mood.pressed if mood.pressed is not None else now
            if now - since < self.up_after:
                return wanted, Mood(pressed=since)
            more = min(math.ceil(load.backlog / each), wanted)  # at most twice as many: then it looks again
            return min(wanted + more, self.count.most), Mood()
        if load.backlog == 0 and wanted > self.count.least and load.busy <= (wanted - 1) * each * self.fill:
            since = mood.calm if mood.calm is not None else now
            return (wanted, Mood(calm=since)) if now - since < self.down_after else (wanted - 1, Mood())
        return wanted, Mood()
