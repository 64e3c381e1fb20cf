from __future__ import annotations

import asyncio

from resilient_rpc.loops import end_all


def test_end_all_returns_when_those_who_keep_the_tasks_know_of_their_end() -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(0, "done"))
        kept = {task}
        task.add_done_callback(kept.discard)
        while not task.done():  # noqa: ASYNC110 - the very turn in which it ends, before its callbacks
            await asyncio.sleep(0)
        assert kept
        await end_all(kept)
        assert not kept

    asyncio.run(main())
