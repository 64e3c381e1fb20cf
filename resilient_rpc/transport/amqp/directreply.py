"""Finds out whether the broker passes direct replies on yet.

RabbitMQ 3.12 to 4.1 accepts connections a moment before it counts its own node among those that run, and until then
drops what is published to a direct reply address of that node, confirmed and without a word. So the first calls after
a start of the broker would be executed, and never answered. A message to ourselves shows when that moment is over.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import pika
from pika import exceptions

from resilient_rpc.transport.amqp.session import fail, settle
from resilient_rpc.transport.base import DIRECT_REPLY

AGAIN = 0.05
"""Seconds after which another message is sent."""
Expecting = Callable[[], AbstractContextManager["asyncio.Future[Any]"]]


async def passes_replies(
    channel: Any, expecting: Expecting, ask_on: Callable[..., Awaitable[Any]], enough: asyncio.Future[Any]
) -> None:
    """Return once a message to a direct reply address of `channel`, which is for this alone, has arrived.

    `expecting` makes a future that fails when the session ends; `ask_on` awaits one of pika's operations. `enough` ends
    it at once. Nothing is waited for, either, where the broker does not show the address that it gave us, or forbids
    to publish: then nothing can be found out.
    """
    with expecting() as shown, expecting() as arrived:
        for each in (shown, arrived, enough):
            each.add_done_callback(_seen)

        def closed(_channel: Any, error: BaseException) -> None:
            fail(shown, error)
            fail(arrived, error)

        channel.add_on_close_callback(closed)
        channel.add_on_return_callback(lambda *returned: settle(shown, returned[2].reply_to))
        try:
            take = {"on_message_callback": lambda *_: settle(arrived, None), "auto_ack": True}
            await ask_on(channel, channel.basic_consume, queue=DIRECT_REPLY, **take)
            # To nobody: what comes back shows the address that the broker puts in place of the general name.
            asking = pika.BasicProperties(reply_to=DIRECT_REPLY)
            channel.basic_publish("", f"rpc.nobody.{secrets.token_hex(8)}", b"", asking, mandatory=True)
            await asyncio.wait((shown, enough), return_when=asyncio.FIRST_COMPLETED)
            if enough.done() or not str(await shown).startswith(f"{DIRECT_REPLY}."):
                return
            while not (arrived.done() or enough.done()):
                channel.basic_publish("", shown.result(), b"")
                await asyncio.wait((arrived, enough), timeout=AGAIN, return_when=asyncio.FIRST_COMPLETED)
            if arrived.done():
                await arrived
        except exceptions.ChannelClosed:
            return
        finally:
            if channel.is_open:
                channel.close()


def _seen(future: asyncio.Future[Any]) -> None:
    """Whoever fails one of them fails all, and one of them is awaited."""
    if not future.cancelled():
        future.exception()
