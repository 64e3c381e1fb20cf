"""Recorder: what a session reported, in order, and a way to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from resilient_rpc.transport.base import Consumer, Delivery

PATIENCE = 20.0


class Recorder:
    """Events of a publisher or of a consumer. Set `on_delivery` to act on each delivery at once."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Any]] = []
        self.deliveries: list[Delivery] = []
        self.controls: list[Delivery] = []
        self.settled: dict[int, bool] = {}
        self.returns: list[tuple[str, int, str]] = []
        self.blocks: list[str | None] = []
        self.errors: list[BaseException] = []
        self.on_delivery: Callable[[Delivery], None] | None = None
        self._changed = asyncio.Event()

    def delivered(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self._note("delivered", delivery.body)
        if self.on_delivery is not None:
            self.on_delivery(delivery)

    def control(self, delivery: Delivery) -> None:
        self.controls.append(delivery)
        self._note("control", delivery.body)

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        for each in range(1 if multiple else tag, tag + 1):
            self.settled.setdefault(each, ok)
        self._note("confirmed", tag)

    def returned(self, correlation_id: str, code: int, text: str) -> None:
        self.returns.append((correlation_id, code, text))
        self._note("returned", correlation_id)

    def blocked(self, reason: str | None) -> None:
        self.blocks.append(reason)
        self._note("blocked", reason)

    def writable(self) -> None:
        self._note("writable", None)

    def lost(self, error: BaseException) -> None:
        self.errors.append(error)
        self._note("lost", error)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.entries]

    async def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def received(self, count: int) -> list[Delivery]:
        await self.until(lambda: len(self.deliveries) >= count)
        return self.deliveries

    async def confirmation(self, tag: int) -> bool:
        await self.until(lambda: tag in self.settled)
        return self.settled[tag]

    async def loss(self) -> BaseException:
        await self.until(lambda: bool(self.errors))
        return self.errors[0]

    def _note(self, kind: str, value: Any) -> None:
        self.entries.append((kind, value))
        self._changed.set()


class Worker(Recorder):
    """A consumer's recorder that can ack at once; it knows how many messages it had at most."""

    def __init__(self, *, acks: bool) -> None:
        super().__init__()
        self.consumer: Consumer | None = None
        self.acks = acks

    def delivered(self, delivery: Delivery) -> None:
        super().delivered(delivery)
        if self.acks and self.consumer is not None:
            self.consumer.ack(delivery.tag)
