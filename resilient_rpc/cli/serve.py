"""``resilient-rpc serve``: runs a server until it is told to stop."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from resilient_rpc.cli.fail import USAGE, fail
from resilient_rpc.cli.logs import LogLevel, log_to_stderr
from resilient_rpc.cli.target import load_server
from resilient_rpc.errors import ConfigurationError, UsageError
from resilient_rpc.events import ConnectionStateChanged
from resilient_rpc.server import Server
from resilient_rpc.serving.lastresort import LastResort

READY = "ready:"
"""How the line begins that is printed on stdout when the server takes calls for the first time."""
LINGER = 5.0
"""Seconds that the process may take to end when the server has."""
log = logging.getLogger(__name__)


def serve(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:SERVER",
            help="A Server, or a function without arguments that makes one; imported from the current directory.",
            show_default=False,
        ),
    ],
    *,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged, on stderr.")] = LogLevel.INFO,
) -> None:
    """Run a server. SIGTERM and SIGINT let it finish what it has begun; a second one ends it at once."""
    log_to_stderr(log_level)
    try:
        server = load_server(target)
        _announce(server)
        server.run()
        LastResort().arm(LINGER)  # threads that are no daemons keep a process: those of `to_thread`, or the user's own
    except (ConfigurationError, UsageError) as error:
        fail(str(error), USAGE)


def _announce(server: Server) -> None:
    """Tell who waits for it on stdout, and who reads the log later."""
    announced = False

    def changed(event: ConnectionStateChanged) -> None:
        nonlocal announced
        if event.state == "connected":
            log.info("serving %s as %s", server.service, server.name)
            if not announced:
                announced = True
                print(READY, server.service, flush=True)
        elif event.state == "lost":
            log.warning("the connection was lost: %s", event.reason)

    server.on(ConnectionStateChanged, changed)
