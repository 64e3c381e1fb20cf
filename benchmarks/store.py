"""The Redis of a run: named by the user, or one that is started as the tests start theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.servers import choose
from tests.servers.redis import LocalRedis


@contextlib.contextmanager
def redis_url(url: str | None) -> Iterator[str]:
    """The URL of a running Redis."""
    if url:
        yield url
        return
    chosen = choose.redis_server()
    if isinstance(chosen, LocalRedis):  # the tests have theirs wait for the disk at each write
        chosen._more["appendfsync"] = "everysec"
    with chosen as started:
        yield started.url
