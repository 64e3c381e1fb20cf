"""Which fault when: drawn from a seed, so that a run that found something can be had again.

Three lanes run beside each other, so that faults of different kinds overlap: servers, the broker with the links to it,
and Redis with the link to it. In a lane one fault follows another, all kinds of it in random order, then all again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "server-kill",
    "server-freeze",
    "server-outlive",
    "server-drain",
    "broker-kill",
    "broker-freeze",
    "broker-close",
    "client-cut",
    "client-freeze",
    "client-up",
    "client-down",
    "server-cut",
    "server-up",
    "server-down",
    "redis-kill",
    "redis-freeze",
    "redis-cut",
    "redis-hang",
    "redis-lose",
    "redis-flush",
]
Spread = tuple[float, float]
LANES: Mapping[str, Mapping[Kind, Spread]] = {
    "servers": {
        "server-kill": (0.1, 1.0),  # SIGKILL, and a new one so much later
        "server-freeze": (0.3, 1.2),  # SIGSTOP for less than a lease
        "server-outlive": (0.1, 0.6),  # SIGSTOP for so much more than a lease
        "server-drain": (0.0, 0.2),  # SIGTERM
    },
    "broker": {
        "broker-kill": (0.2, 0.8),  # and the time that it takes to boot
        "broker-freeze": (0.5, 1.5),
        "broker-close": (0.0, 0.1),  # close_all_connections: 320
        "client-cut": (0.0, 0.1),  # RST
        "client-freeze": (0.3, 1.2),  # both ways, for a while, then RST
        "client-up": (0.3, 1.2),  # half-open: what the clients send is lost
        "client-down": (0.3, 1.2),
        "server-cut": (0.0, 0.1),
        "server-up": (0.3, 1.2),
        "server-down": (0.3, 1.2),
    },
    "redis": {
        "redis-kill": (0.1, 1.0),
        "redis-freeze": (0.2, 1.0),
        "redis-cut": (0.0, 0.1),
        "redis-hang": (0.2, 0.8),  # the link is frozen, and goes on with what it held
        "redis-lose": (0.1, 0.5),  # the next answer is lost, and the connection with it
        "redis-flush": (0.0, 0.1),  # SCRIPT FLUSH
    },
}
GAP: Spread = (0.3, 1.0)
"""Seconds of peace between two faults of a lane."""
COSTS: Mapping[Kind, float] = {"broker-kill": 5.0, "broker-close": 1.0, "server-drain": 1.0, "server-outlive": 2.0}
"""Seconds that some take besides their own: a boot, a tool, a handler's rest, a lease."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`at`: seconds after the beginning, at the earliest. `draw`: from 0 to 1, chooses among several targets."""

    at: float
    kind: Kind
    seconds: float
    draw: float


def plan(seed: int, seconds: float) -> dict[str, list[Fault]]:
    """For each lane its faults, in order; the last one ends before `seconds` are over."""
    return {lane: list(_lane(random.Random(f"{seed} {lane}"), kinds, seconds)) for lane, kinds in LANES.items()}


def _lane(draw: random.Random, kinds: Mapping[Kind, Spread], seconds: float) -> Iterator[Fault]:
    at = draw.uniform(*GAP)
    while True:
        deck = list(kinds)
        draw.shuffle(deck)
        for kind in deck:
            length = draw.uniform(*kinds[kind])
            if at + length + COSTS.get(kind, 0.0) > seconds:
                return
            yield Fault(at=at, kind=kind, seconds=length, draw=draw.random())
            at += length + COSTS.get(kind, 0.0) + draw.uniform(*GAP)
