"""AmqpConsumer: declares a service's queue and consumes it with manual acks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from pika import exceptions

from resilient_rpc.errors import ConfigurationError, ConnectionLost, NotConnected
from resilient_rpc.transport.amqp.acks import Acks
from resilient_rpc.transport.amqp.causes import NOT_FOUND, channel_error
from resilient_rpc.transport.amqp.control import ControlQueue
from resilient_rpc.transport.amqp.lane import Lane, Reports
from resilient_rpc.transport.amqp.session import Session
from resilient_rpc.transport.base import ConsumerEvents, Delivery, QueueSpec
from resilient_rpc.transport.topology import Binding, Exchange, Queue, Step, Unbinding, ear, topology

log = logging.getLogger(__name__)
APART = 1.0
"""Seconds that a session waits for what it can do without; it is declared afterwards, then."""
COUNTING = ("quorum", "stream")
"""Kinds of queues that know of each message how often it was delivered, or at what place it stands."""


class AmqpConsumer(Session):
    """`transport.base.Consumer` on a connection of its own: in an alarm it still gets its acks through."""

    def __init__(
        self, events: ConsumerEvents, spec: QueueSpec, where: str, *, prefetch: int, lane: bool, max_body: int
    ) -> None:
        super().__init__(events.lost, where, lane=lane, max_body=max_body)
        self._events, self._spec, self._prefetch = events, spec, prefetch
        self._tags: list[str] = []
        self._cancelled = False
        self._control: ControlQueue | None = None
        self._apart: asyncio.Task[None] | None = None

    @property
    def control(self) -> str:
        """See `transport.base.Consumer`."""
        return self._control.name if self._control is not None else ""

    @property
    def unmarked_by(self) -> str:
        """See `transport.base.Consumer`."""
        broker = self._connection.broker
        return "" if broker.marks or self._spec.arguments.get("x-queue-type") in COUNTING else broker.said

    def ack(self, tag: int) -> None:
        """See `transport.base.Consumer`."""
        self._acks.add(tag)

    def nack(self, tag: int, *, requeue: bool) -> None:
        """See `transport.base.Consumer`."""
        if requeue:
            self._acks.skip(tag)
            self._lane.nack(tag, requeue=True)
        else:
            self._acks.reject(tag)

    async def cancel(self) -> None:
        """See `transport.base.Consumer`."""
        if self._cancelled or self._ended is not None:
            return
        self._cancelled = True
        self._reports.delivered = self._give_back
        with contextlib.suppress(ConnectionLost, NotConnected, ConfigurationError):  # ended: there is nothing to cancel
            for tag in self._tags:
                await self.ask(self._channel.basic_cancel, tag)

    async def close(self) -> None:
        """See `transport.base.Consumer`."""
        if self._control is not None:
            await self._control.close()
        if self._ended is None:
            self._acks.flush()
        await super().close()

    async def _set_up(self) -> None:
        loop, lane = asyncio.get_running_loop(), self._lane
        self._acks = Acks(
            loop.call_soon, lane.ack, some_time=loop.call_later, reject=functools.partial(lane.nack, requeue=False)
        )
        self._reports.delivered = lambda delivery: self._tell(self._events.delivered, delivery)
        before, needed = _parted(topology(self._spec), self._spec.name)
        await self._wait_apart(self._declare_apart(before))
        for step in needed:
            self.phase = f"declaring {step}"
            await self._declare(step)
        channel = self._channel
        self.phase = "consuming"
        await self.ask(channel.basic_qos, prefetch_count=self._prefetch)
        channel.add_on_cancel_callback(self._on_cancelled)
        await self._consume(self._spec.name)
        if self._spec.fanout:
            self.phase = f"listening to {self._spec.fanout}"
            exchange, queue, binding = ear(self._spec.fanout)
            for step in (exchange, queue, binding):
                await self._declare(step)
            await self._consume(queue.name)

    async def _consume(self, queue: str) -> None:
        started = await self.ask(self._channel.basic_consume, queue, self._lane.on_deliver)
        self._tags.append(started.method.consumer_tag)

    def _connect_reports(self) -> None:
        if not self._cancelled:
            self._reports.delivered = self._events.delivered
        self.ack = self._acks.add  # type: ignore[method-assign]  # saves a call for each
        if self._spec.control:  # afterwards: nobody who wants to be served needs to wait for it
            self._control = ControlQueue(self._spec.control, self._open_control, self.ask)
            self._control.start()

    async def _open_control(self) -> tuple[Any, Lane]:
        channel, reports = await self._new_channel(), Reports()
        reports.delivered = lambda delivery: self._tell(self._events.control, delivery)
        return channel, self._new_lane(channel, reports)

    async def _wait_apart(self, declaring: Coroutine[Any, Any, None]) -> None:
        """Wait for it a while only: RabbitMQ 4 looks for a minute for a classic queue whose node is down."""
        task = self._apart = asyncio.create_task(declaring, name="rpc-dead-letters")
        await asyncio.wait((task,), timeout=APART)
        if self._ended is not None:
            raise self._ended
        if task.done():
            await task
        else:
            log.warning("%s: dead letters may be lost for now: the broker is still %s", self._where, self.phase)
            task.add_done_callback(_note_late)

    def _mute(self) -> None:
        super()._mute()
        if self._apart is not None:
            self._apart.cancel()

    async def _declare_apart(self, steps: Sequence[Step]) -> None:
        """Declare what the service can do without for a while: a classic queue is down as long as its node is."""
        channel, down = None, set()
        for step in steps:
            if isinstance(step, Binding) and step.queue in down:
                continue
            if self._held is not None:
                self.phase = f"declaring {step}"
            if channel is None:
                channel = await self._new_channel()
            try:
                method, options = _declaration(channel, step)
                await self.ask_on(channel, method, **options)
            except exceptions.ChannelClosed as error:
                if error.reply_code != NOT_FOUND or not isinstance(step, Queue):
                    raise channel_error(error, None, self._where, opening=True) from error
                log.warning("no dead letters are kept for now: %s", error.reply_text)
                down.add(step.name)
                channel = None
        if channel is not None:
            channel.close()

    async def _declare(self, step: Step) -> None:
        method, options = _declaration(self._channel, step)
        await self.ask(method, **options)

    def _give_back(self, delivery: Delivery) -> None:
        """It was on its way when the consumer was cancelled."""
        self.nack(delivery.tag, requeue=True)

    def _on_cancelled(self, _frame: Any) -> None:
        self._end(Exception(f"the broker cancelled the consumer: queue {self._spec.name!r} was deleted or moved"))


def _note_late(task: asyncio.Task[None]) -> None:
    """What nobody waits for any more."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("no dead letters are kept: %s", error)


def _parted(steps: Sequence[Step], queue: str) -> tuple[Sequence[Step], Sequence[Step]]:
    """What stands before a queue, and the rest."""
    at = next((at for at, step in enumerate(steps) if isinstance(step, Queue) and step.name == queue), 0)
    return steps[:at], steps[at:]


def _declaration(channel: Any, step: Step) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What of pika's channel is to be called, and with what."""
    if isinstance(step, Exchange):
        return channel.exchange_declare, {"exchange": step.name, "exchange_type": step.type, "durable": True}
    if isinstance(step, Unbinding):
        return channel.queue_unbind, {"queue": step.queue, "exchange": step.exchange, "routing_key": step.key}
    arguments = dict(step.arguments)
    if isinstance(step, Binding):
        bound = {"queue": step.queue, "exchange": step.exchange, "routing_key": step.key or None}
        return channel.queue_bind, {**bound, "arguments": arguments}
    kind = {"durable": step.durable, "exclusive": step.exclusive, "auto_delete": step.exclusive}
    return channel.queue_declare, {"queue": step.name, **kind, "arguments": arguments}
