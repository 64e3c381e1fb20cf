"""Servers that are stopped in the end, however it comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from resilient_rpc import Server


@contextmanager
def running(server: Server, *others: Server, gate: threading.Event | None = None) -> Iterator[Server]:
    """Start them, and stop them at the end; `gate` is what their handlers wait for: it is opened before."""
    servers = (server, *others)
    try:
        for one in servers:
            one.start()
        yield server
    finally:
        if gate is not None:
            gate.set()
        for one in servers:
            one.stop()
