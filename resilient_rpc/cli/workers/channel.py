"""What a worker and the one that looks after it say to each other: lines of JSON on a socket that both hold.

The end of it says as much: that the other one is gone.
"""

from __future__ import annotations

import msgspec

DRAIN = b"drain\n"
"""All that a worker is told."""
LONGEST = 65_536


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker says."""

    ready: str = ""
    """The service that it serves, the first time that it takes calls."""
    grace: float = 0.0
    backlog: int | None = None
    """Of the queue, as far as it knows."""
    busy: int = 0
    """Calls that run, or wait here."""
    slots: int = 0
    alive: bool = False
    """That its event loop turns, and nothing else."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Report)


def encode(report: Report) -> bytes:
    """One line."""
    return _encoder.encode(report) + b"\n"


def decode(line: bytes) -> Report:
    """From one line. Raises `msgspec.MsgspecError`."""
    return _decoder.decode(line)
