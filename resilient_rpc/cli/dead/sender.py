"""Sends one message after the other, each confirmed before the next."""

from __future__ import annotations

import asyncio
from typing import Any

from resilient_rpc.errors import UNKNOWN, BrokerBlocked, PublishRejected, RpcError, Unroutable
from resilient_rpc.transport.base import Delivery, Publisher

CONFIRM_WITHIN = 30.0


class Sender:
    """`PublisherEvents` of a session that this command alone uses."""

    def __init__(self) -> None:
        self._session: Publisher | None = None
        self._confirmed: asyncio.Future[bool] | None = None
        self._returned = False
        self._blocked: str | None = None

    async def open(self, transport: Any) -> None:
        """Connect."""
        self._session = await transport.publisher(self, replies=False, timeout=transport.connect_timeout)

    async def close(self) -> None:
        """Disconnect."""
        if self._session is not None:
            await self._session.close()

    async def send(self, target: str, body: bytes, properties: bytes) -> None:
        """Returns when a queue has it. `Unroutable`, `PublishRejected`, or why nobody knows."""
        if self._session is None:
            raise RuntimeError("not open")
        if self._blocked is not None:
            raise BrokerBlocked(f"the broker takes nothing now: {self._blocked}")
        self._returned = False
        confirmed = self._confirmed = asyncio.get_running_loop().create_future()
        self._session.publish(target, body, properties, mandatory=True)
        self._session.flush()
        try:
            ok = await asyncio.wait_for(confirmed, CONFIRM_WITHIN)
        except TimeoutError:
            raise RpcError(f"{target}: no confirm within {CONFIRM_WITHIN:g} s", certainty=UNKNOWN) from None
        if self._returned:
            raise Unroutable(f"there is no queue {target!r}")
        if not ok:
            raise PublishRejected(f"{target} does not take it")

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:  # noqa: ARG002 - one at a time
        """See `PublisherEvents`."""
        if self._confirmed is not None and not self._confirmed.done():
            self._confirmed.set_result(ok)

    def returned(self, correlation_id: str, code: int, text: str) -> None:  # noqa: ARG002
        """See `PublisherEvents`."""
        self._returned = True

    def lost(self, error: BaseException) -> None:
        """See `PublisherEvents`."""
        if self._confirmed is not None and not self._confirmed.done():
            self._confirmed.set_exception(error)

    def blocked(self, reason: str | None) -> None:
        """See `PublisherEvents`."""
        self._blocked = reason

    def delivered(self, delivery: Delivery) -> None:
        """Never."""

    def writable(self) -> None:
        """One message at a time needs no more."""
