"""What a server that runs says of itself in the log of its process."""

from __future__ import annotations

import logging
from collections.abc import Callable

from resilient_rpc.events import ConnectionStateChanged, QueueLimit
from resilient_rpc.server import Server

READY = "ready:"
"""How the line begins that is printed on stdout when calls are taken for the first time."""
log = logging.getLogger("resilient_rpc.cli.serve")  # the command, whichever process runs it


def announce(server: Server, ready: Callable[[], object]) -> None:
    """Log its connections and its jams, and call `ready` the first time that it takes calls."""
    announced = False

    def changed(event: ConnectionStateChanged) -> None:
        nonlocal announced
        if event.state == "connected":
            log.info("serving %s as %s", server.service, server.name)
            if not announced:
                announced = True
                ready()
        elif event.state == "lost":
            log.warning("the connection was lost: %s", event.reason)

    def jammed(event: QueueLimit) -> None:
        if event.over:
            log.warning("%d messages wait in %s, the limit is %d", event.messages, event.queue, event.limit)
        else:
            log.info("%d messages wait in %s, below the limit of %d again", event.messages, event.queue, event.limit)

    server.on(ConnectionStateChanged, changed)
    server.on(QueueLimit, jammed)
