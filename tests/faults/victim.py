"""A server in a process of its own, to be killed: `python -m tests.faults.victim URL SERVICE FOLDER`.

Its handlers leave a file in FOLDER when they begin, one for each execution, so that a test knows when to strike and how
often something ran.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from resilient_rpc import Context, Server


def build(url: str, service: str, folder: Path) -> Server:
    """The server."""
    server = Server(url, service=service, concurrency=8)

    def note(name: str) -> None:
        (folder / f"{name}.{os.getpid()}.{len(list(folder.iterdir()))}").touch()

    @server.method
    async def whoami() -> int:
        return os.getpid()

    @server.method
    async def spent() -> float:
        return time.process_time()

    @server.method
    async def hold(ctx: Context, name: str, seconds: float) -> int:
        note(name)
        if not ctx.redelivered:
            await asyncio.sleep(seconds)
        return os.getpid()

    return server


if __name__ == "__main__":
    build(sys.argv[1], sys.argv[2], Path(sys.argv[3])).run()
