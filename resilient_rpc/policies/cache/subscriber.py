"""One Redis client for each event loop, alive as long as a task that belongs to whoever used it first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilient_rpc.stores.secured import settings_for

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from resilient_rpc.policy import Runtime

IDLE = 5.0
"""Seconds after which the listener looks whether its connection still lives."""
RETRY_MIN, RETRY_MAX = 0.1, 5.0
"""Seconds between attempts to listen."""


class Connections:
    """Clients by loop.

    Args:
        url: Of Redis.
        timeout: Seconds for connecting and for each answer.
        channel: Listened to while there is a client; None: no channel.
        heard: Takes each message.
        joined: Told when listening (again): messages may have been missed before.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        channel: str | None,
        heard: Callable[[bytes], None],
        joined: Callable[[], None],
    ) -> None:
        self._url, self._timeout, self._channel, self._heard, self._joined = url, timeout, channel, heard, joined
        self._clients: dict[asyncio.AbstractEventLoop, Redis] = {}

    def after_fork(self) -> None:
        """The sockets are the parent's."""
        self._clients = {}

    def of(self, runtime: Runtime) -> Redis:
        """The client of the running loop; made, and looked after by a task of `runtime`, when first used."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._made(self._timeout)
            runtime.start(lambda _: self._look_after(loop, client))
        return client

    def _made(self, timeout: float | None) -> Redis:
        # Here: importing redis takes a tenth of a second, which only those pay who use it.
        from redis.asyncio import Redis  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        return Redis.from_url(
            self._url,
            socket_timeout=timeout,
            socket_connect_timeout=self._timeout,
            socket_keepalive=None if self._url.startswith("unix:") else True,
            health_check_interval=IDLE if timeout is None else 0,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
            protocol=2,  # and no notifications: with them a connection is used again with an answer unread on it
            **settings_for("RedisCache.url", self._url),
        )

    async def _look_after(self, loop: asyncio.AbstractEventLoop, client: Redis) -> None:
        try:
            if self._channel is None:
                await asyncio.Event().wait()
            else:
                await self._listen(self._channel)
        finally:
            self._clients.pop(loop, None)
            await client.aclose()

    async def _listen(self, channel: str) -> None:
        pause = RETRY_MIN
        while True:
            client = self._made(None)
            try:
                async with client.pubsub() as pubsub:
                    await pubsub.subscribe(channel)
                    while True:
                        pause = self._take(await pubsub.get_message(timeout=IDLE), pause)
            except Exception:  # Redis is away: it comes back
                await asyncio.sleep(pause * random.random())
                pause = min(pause * 2, RETRY_MAX)
            finally:
                await client.aclose()

    def _take(self, message: dict[str, Any] | None, pause: float) -> float:
        """What a message means; the pause before the next attempt to listen."""
        if message is None:
            return pause
        if message["type"] == "subscribe":
            self._joined()
            return RETRY_MIN
        if message["type"] == "message":
            self._heard(message["data"])
        return pause
