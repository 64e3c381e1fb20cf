"""Where the programs of servers are looked for: in one folder only, when the environment names it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.handle import ServerError

BINARIES = "RESILIENT_RPC_TEST_BINARIES"
"""The folder of rabbitmq-server, rabbitmqctl, epmd and redis-server, for another version than the machine's."""


def folder() -> Path | None:
    """The named folder, or None when none is named. `ServerError` if it is not there."""
    named = os.environ.get(BINARIES)
    if not named:
        return None
    found = Path(named).absolute()
    if not found.is_dir():
        raise ServerError(f"{BINARIES} names {named}, which is no folder")
    return found


def program(name: str) -> Path | None:
    """A program of the named folder, if it is there."""
    named = folder()
    found = named / name if named else None
    return found if found and os.access(found, os.X_OK) else None
