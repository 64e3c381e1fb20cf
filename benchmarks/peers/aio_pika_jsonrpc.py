"""A: `patterns.JsonRPC` of aio-pika."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from typing import Any

from benchmarks.drive import drive_tasks, say


async def server(options: Namespace) -> None:
    from aio_pika import connect_robust  # noqa: PLC0415 - an extra
    from aio_pika.patterns import JsonRPC  # noqa: PLC0415

    async def echo(*, n: int) -> dict[str, int]:
        return {"n": n}

    connection = await connect_robust(options.url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=256)
    rpc = await JsonRPC.create(channel)
    await rpc.register(f"{options.service}.echo", echo, auto_delete=True)
    say(event="ready")
    await asyncio.Event().wait()


async def client(options: Namespace) -> None:
    from aio_pika import connect_robust  # noqa: PLC0415
    from aio_pika.patterns import JsonRPC  # noqa: PLC0415

    connection = await connect_robust(options.url)
    channel = await connection.channel()
    rpc = await JsonRPC.create(channel)
    method = f"{options.service}.echo"

    async def call(number: int) -> Any:
        return await rpc.call(method, kwargs={"n": number})

    await drive_tasks(call, options.window, options.seconds)
    await connection.close()
