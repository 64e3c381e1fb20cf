"""F: FastStream's ``broker.request``. It has one request under way for each broker object, however many tasks call."""

from __future__ import annotations

import asyncio
import logging
from argparse import Namespace
from typing import Any

from benchmarks.drive import drive_tasks, say


async def server(options: Namespace) -> None:
    from faststream import FastStream  # noqa: PLC0415 - in its own environment alone
    from faststream.rabbit import Channel, RabbitBroker  # noqa: PLC0415

    broker = RabbitBroker(options.url, default_channel=Channel(prefetch_count=options.prefetch), logger=None)

    @broker.subscriber(f"{options.service}.faststream")
    async def echo(message: dict[str, int]) -> dict[str, int]:
        return {"n": message["n"]}

    app = FastStream(broker, logger=None)

    @app.after_startup
    async def ready() -> None:
        say(event="ready")

    await app.run(log_level=logging.ERROR)


async def client(options: Namespace) -> None:
    from faststream.rabbit import RabbitBroker  # noqa: PLC0415

    async with RabbitBroker(options.url, logger=None) as broker:
        await broker.start()
        queue = f"{options.service}.faststream"

        async def call(number: int) -> Any:
            async with asyncio.timeout(30):
                message = await broker.request({"n": number}, queue, timeout=30)
            return await message.decode()

        await drive_tasks(call, options.window, options.seconds)
