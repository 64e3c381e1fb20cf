"""Many calls of one method, in order, a window of them under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.loops import end_all

if TYPE_CHECKING:
    from resilient_rpc.caller import Caller
    from resilient_rpc.runtime import AsyncioRuntime


async def map_calls(
    caller: Caller,
    runtime: AsyncioRuntime,
    method: str,
    params: Iterable[Any],
    how: Mapping[str, Any],
    *,
    window: int,
    return_errors: bool,
) -> list[Any]:
    """The results in the order of `params`. A fixed number of tasks take calls in turn: no task for each call."""
    if type(window) is not int or window < 1:
        raise ConfigurationError(f"window={window!r}: give a whole number of at least 1")
    todo = list(params)
    results: list[Any] = [None] * len(todo)
    places = iter(range(len(todo)))
    build, request = caller.build, caller.request

    async def one(place: int) -> None:
        try:
            results[place] = (await request(build(runtime, method, todo[place], **how))).result
        except Exception as error:
            if not return_errors:
                raise
            results[place] = error

    async def take() -> None:
        for place in places:
            await one(place)

    first = next(places, None)
    if first is None:
        return results
    await one(first)  # alone: its reply says whether the server takes batches, and how quick it is
    tasks = [asyncio.ensure_future(take()) for _ in range(min(window, len(todo) - 1))]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end_all(tasks)
    return results
