"""The Redis of a run: named by the user, or one that is started as the tests start theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.servers import choose


@contextlib.contextmanager
def redis_url(url: str | None) -> Iterator[str]:
    """The URL of a running Redis."""
    if url:
        yield url
        return
    with choose.redis_server() as started:
        yield started.url
