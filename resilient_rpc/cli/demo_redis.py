"""The Redis of the demo: looked for before anything begins, and left as it was found."""

from __future__ import annotations

import itertools
import secrets
from typing import Any

from resilient_rpc.cli.demo_servers import DemoError
from resilient_rpc.cli.fail import one_line
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores.connect import read_url

SCHEMES = ("redis://", "rediss://", "unix://")
WITHIN = 5.0
"""Seconds for each of its answers."""
CHUNK = 500
"""Keys that are deleted at once."""


class Redis:
    """One Redis, and a prefix in it that is the demo's own."""

    def __init__(self, url: str) -> None:
        """Connect nothing. Raises `ConfigurationError`."""
        address = read_url("--redis", url)
        if not url.startswith(SCHEMES):
            raise ConfigurationError(f"--redis: give one Redis ({', '.join(SCHEMES)}), which the demo can clean up")
        host, port = address.addresses[0]
        self.url, self.namespace = url, f"rpc-demo-{secrets.token_hex(4)}"
        self.shown = f"{host}:{port}" if port else host

    def knock(self) -> None:
        """Raises `DemoError` if it does not answer as it should."""
        from redis import RedisError  # noqa: PLC0415 - a quarter of a second, which only those pay who use it

        try:
            with self._connected() as client:
                client.set(f"{self.namespace}:knock", 1, ex=1)
        except (RedisError, OSError) as error:
            said = one_line(str(error)) or type(error).__name__
            raise DemoError(f"no use of the Redis at {self.shown}: {said}") from error

    def clear(self) -> None:
        """Delete what is below the prefix; what cannot be reached any more goes away by itself in some minutes."""
        from redis import RedisError  # noqa: PLC0415

        try:
            with self._connected() as client:
                found = client.scan_iter(match=f"{self.namespace}:*", count=CHUNK)
                while keys := list(itertools.islice(found, CHUNK)):
                    client.unlink(*keys)
        except (RedisError, OSError) as error:
            said = one_line(str(error)) or type(error).__name__
            raise DemoError(f"keys {self.namespace}:* were left in Redis for some minutes: {said}") from error

    def _connected(self) -> Any:
        import redis  # noqa: PLC0415

        return redis.Redis.from_url(self.url, socket_timeout=WITHIN, socket_connect_timeout=WITHIN, protocol=2)
