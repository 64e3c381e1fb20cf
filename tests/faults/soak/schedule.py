"""Which fault when: drawn from a seed, so that a run that found something can be had again.

A mix has lanes that run beside each other, so that faults of different kinds overlap. In a lane one fault follows
another, all kinds of it in random order, then all again.
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
    "broker-stop",
    "broker-alarm",
    "broker-full",
    "channels-close",
    "queue-delete",
    "replies-delete",
    "client-bytes",
    "client-handshake",
    "server-freeze-link",
    "server-bytes",
    "server-handshake",
    "hostile-body",
    "hostile-header",
    "hostile-address",
    "hostile-reply",
    "dead-caller",
    "flood",
    "poison",
]
Spread = tuple[float, float]
Lanes = Mapping[str, Mapping[Kind, Spread]]
KEYED: Lanes = {
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
"""For calls with keys: servers, the broker with the links to it, and Redis with the link to it."""
LINKS: Lanes = {
    "node": {
        "broker-kill": (0.2, 0.8),
        "broker-stop": (0.1, 0.5),  # in order, and started again
        "broker-freeze": (0.5, 1.5),
    },
    "operator": {
        "broker-close": (0.0, 0.1),
        "broker-alarm": (0.3, 1.0),  # memory: nothing is read from publishers
        "broker-full": (0.2, 0.8),  # the queue of the service refuses what is published
        "channels-close": (0.0, 0.1),  # 406, each channel there is, as after a double ack
        "queue-delete": (0.0, 0.1),  # of the service, under its servers
        "replies-delete": (0.0, 0.1),  # the named ones, under their clients
    },
    "clients": {
        "client-cut": (0.0, 0.1),
        "client-freeze": (0.3, 1.2),
        "client-up": (0.3, 1.2),
        "client-down": (0.3, 1.2),
        "client-bytes": (0.1, 0.5),  # RST after some bytes of either way
        "client-handshake": (0.1, 0.5),  # RST, and again amid the handshake that follows
    },
    "links": {
        "server-cut": (0.0, 0.1),
        "server-freeze-link": (0.3, 1.2),
        "server-up": (0.3, 1.2),
        "server-down": (0.3, 1.2),
        "server-bytes": (0.1, 0.5),
        "server-handshake": (0.1, 0.5),
    },
    "messages": {
        "hostile-body": (0.0, 0.1),
        "hostile-header": (0.0, 0.1),
        "hostile-address": (0.0, 0.1),  # forged reply addresses
        "hostile-reply": (0.0, 0.1),  # duplicate, late, unknown and foreign replies
        "dead-caller": (0.0, 0.1),  # it is gone before its reply
        "flood": (0.0, 0.1),  # more slow calls than there are slots, which expire in the queue
        "poison": (0.0, 0.1),  # a call that kills the server that runs it
    },
}
"""For plain calls: rows 1-9 and 16-29 of the fault matrix."""
GAP: Spread = (0.3, 1.0)
"""Seconds of peace between two faults of a lane."""
RESTS: Mapping[str, Spread] = {"node": (5.0, 10.0), "operator": (3.0, 6.0)}
"""Peace of some lanes after all of their kinds: a broker that boots most of the time has no calls to lose."""
COSTS: Mapping[Kind, float] = {
    "broker-kill": 5.0,
    "broker-stop": 6.0,
    "broker-close": 1.0,
    "broker-alarm": 1.0,
    "broker-full": 1.0,
    "channels-close": 1.0,
    "replies-delete": 1.0,
    "server-drain": 1.0,
    "server-outlive": 2.0,
}
"""Seconds that some take besides their own: a boot, a tool, a handler's rest, a lease."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`at`: seconds after the beginning, at the earliest, and `gap` after the fault before it.

    `draw`: from 0 to 1, chooses among several targets.
    """

    at: float
    gap: float
    kind: Kind
    seconds: float
    draw: float


def plan(seed: int, seconds: float, lanes: Lanes = KEYED) -> dict[str, list[Fault]]:
    """For each lane its faults, in order; the last one ends before `seconds` are over."""
    return {
        lane: list(_lane(random.Random(f"{seed} {lane}"), kinds, seconds, RESTS.get(lane, (0.0, 0.0))))
        for lane, kinds in lanes.items()
    }


def _lane(draw: random.Random, kinds: Mapping[Kind, Spread], seconds: float, rest: Spread) -> Iterator[Fault]:
    at = gap = draw.uniform(*GAP)
    while True:
        deck = list(kinds)
        draw.shuffle(deck)
        for kind in deck:
            length = draw.uniform(*kinds[kind])
            if at + length + COSTS.get(kind, 0.0) > seconds:
                return
            yield Fault(at=at, gap=gap, kind=kind, seconds=length, draw=draw.random())
            gap = draw.uniform(*GAP)
            at += length + COSTS.get(kind, 0.0) + gap
        peace = draw.uniform(*rest)
        at, gap = at + peace, gap + peace
