"""Beats: who is to be told that their calls are still here, and when.

A client that says how long it puts up with silence (the header `rpc-live`) hears of its calls every half of that, from
the half on, for as long as this server has them: waiting or running. They come from the server's loop, so a handler
that blocks it is silent, too: that is what the caller wants to know.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from resilient_rpc.errors import MalformedMessage
from resilient_rpc.serving.job import Job, Letter
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.properties import decode_headers
from resilient_rpc.wire.control import LEAST, LIVE, MAX_IDS, MOST, is_named

YOUNG = LEAST / 2
"""Seconds: for what has been here for less nothing is looked up."""
_HEADER = LIVE.encode()


@dataclass(slots=True)
class Beat:
    """One message: to the address and token of `letter`, for all of its calls that are still here."""

    letter: Letter
    seconds: float
    """After which it is old news."""
    ids: list[int | str] = field(default_factory=list)


class Beats:
    """When each message's beats are due. It knows no clock and sends nothing."""

    def __init__(self) -> None:
        self._next: dict[Letter, float] = {}

    def due(self, jobs: Iterable[Job], now: float) -> list[Beat]:
        """What is to be sent now; `jobs` are all that are here. What is not among them any more is forgotten."""
        known, kept = self._next, dict[Letter, float]()
        found: dict[tuple[tuple[str, str], str | None], Beat] = {}
        beats: list[Beat] = []
        told: dict[Letter, float] = {}
        for job in jobs:
            letter = job.letter
            if job.finished or now - letter.arrived < YOUNG or not is_named(job.reply):
                continue
            at = kept.get(letter)
            if at is None:
                at = known.get(letter)
                kept[letter] = at = letter.arrived + _half(letter) if at is None else at
            if at > now:
                continue
            if letter not in told:
                told[letter] = now + _half(letter)
            beat = found.get((letter.address, letter.principal))
            if beat is None or len(beat.ids) >= MAX_IDS:
                beat = found[letter.address, letter.principal] = Beat(letter, 2 * (told[letter] - now))
                beats.append(beat)
            beat.ids.append(job.reply)
        self._next = kept | told
        return beats


def _half(letter: Letter) -> float:
    """Half of what its caller puts up with, seconds; infinite if it does not say."""
    return liveness(letter.delivery) / 2 if letter.ours and letter.reply_to else math.inf


def liveness(delivery: Delivery) -> float:
    """What the sender of a request puts up with, seconds; infinite if it does not say, or says what makes no sense."""
    headers = delivery.properties.get("headers", b"")
    if _HEADER not in headers:
        return math.inf
    try:
        told = decode_headers(headers).get(LIVE)
    except MalformedMessage:
        return math.inf
    return told / 1000 if type(told) is int and LEAST <= told / 1000 <= MOST else math.inf
