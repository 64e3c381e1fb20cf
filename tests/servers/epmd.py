"""The Erlang port mapper that our RabbitMQ nodes share.

A node would start it as a daemon in a session of its own, on a port of the whole machine, where nobody ends it.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import socket
import tempfile
from pathlib import Path

from tests.servers import binaries
from tests.servers.guard import GUARD
from tests.servers.handle import ServerError
from tests.servers.ports import HOST, free_port
from tests.servers.process import Process


def port() -> int:
    """Its port; 0 when there is no `epmd` to be found, and each node shall use the machine's."""
    return _mapper()[0]


@functools.cache
def _mapper() -> tuple[int, Process | None]:  # started once for all nodes, and referred to until the tests end
    found = binaries.program("epmd") or shutil.which("epmd")
    binary = found or next(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"), None)
    if binary is None:
        return 0, None
    folder = Path(tempfile.mkdtemp(prefix="rpc-test-epmd-"))
    GUARD.remove(str(folder))
    for _ in range(3):
        chosen = free_port()
        command = [str(binary), "-port", str(chosen), "-address", HOST]
        process = Process(command, port=chosen, env=os.environ, log=folder / "console.log")
        try:
            process.wait_ready(functools.partial(_listens, chosen), seconds=10, what="epmd")
        except ServerError:
            process.kill()
        else:
            atexit.register(_end, process, os.getpid())
            return chosen, process
    raise ServerError(f"epmd does not start:\n{process.tail()}")


def _end(process: Process, owner: int) -> None:
    if os.getpid() == owner:  # a fork of the tests must not
        process.kill()


def _listens(at: int) -> bool:
    try:
        socket.create_connection((HOST, at), timeout=1).close()
    except OSError:
        return False
    return True
