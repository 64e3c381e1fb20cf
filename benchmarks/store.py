"""The Redis of a run: named by the user, or one that is started as the tests start theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis

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


def work(url: str) -> tuple[float, float]:
    """Steps that Redis has made for its clients since it started, and the microseconds of its processor in them."""
    if not url:
        return 0.0, 0.0
    with redis.Redis.from_url(url) as client:
        found = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0, "usec": 0})
    return float(found["calls"]), float(found["usec"])
