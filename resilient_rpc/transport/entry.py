"""One attempt on its way: what a link keeps of it, and where its answer appears."""

from __future__ import annotations

from enum import IntEnum

from resilient_rpc.pending import Pending
from resilient_rpc.transport.batching import Route
from resilient_rpc.wire.envelope import Answer


class Stage(IntEnum):
    """How far it came; from it follows what may be said about a call that got no answer."""

    QUEUED = 0
    """Not handed to the transport: surely not executed."""
    SENT = 1
    """Handed over, not confirmed by the broker."""
    CONFIRMED = 2
    """In the broker's queue, or beyond."""


class Entry(Pending[Answer]):
    """Settled with the `Answer`, or with the error that ended it. `data` is dropped once it is sent."""

    __slots__ = ("codec", "data", "deadline", "id", "message", "method", "modern", "route", "stage")

    def __init__(self, id: int, method: str, route: Route, data: bytes, deadline: float) -> None:  # noqa: A002 - JSON-RPC's name; fields
        super().__init__()
        self.id, self.method, self.route, self.data = id, method, route, data
        self.deadline = deadline
        self.stage = Stage.QUEUED
        self.message = 0
        self.modern = False
        self.codec = route.codec
