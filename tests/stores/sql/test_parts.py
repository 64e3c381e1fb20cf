"""A job between a loop and a thread, step by step; and a row that stands in nobody's way."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from resilient_rpc.stores import Mismatch, Record, SqlStore
from resilient_rpc.stores.sql.job import Job
from resilient_rpc.stores.sql.rows import began_of
from resilient_rpc.stores.sql.workers import Talk, Workers

TALK = Talk(object)


class Queue:
    """Workers that work when the test says so."""

    def __init__(self) -> None:
        self.works: list[Any] = []

    def put(self, work: Any) -> None:
        self.works.append(work)

    def work(self) -> None:
        self.works.pop(0)(TALK)


async def started(queue: Queue, job: Job[int]) -> asyncio.Task[int]:
    task = asyncio.create_task(job.done(cast("Workers", queue), 20.0))
    await asyncio.sleep(0)
    return task


async def cancelled(task: asyncio.Task[int]) -> bool:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return task.cancelled()


@pytest.mark.parametrize("undoes", [True, False])
def test_a_result_on_its_way_to_who_was_cancelled_is_taken_back(undoes: bool) -> None:
    undone: list[int] = []

    async def main() -> None:
        queue = Queue()
        task = await started(queue, Job(lambda _: 5, (lambda _, result: undone.append(result)) if undoes else None))
        queue.work()
        assert await cancelled(task)
        queue.work()
        assert not queue.works

    asyncio.run(main())
    assert undone == ([5] if undoes else [])


def test_what_is_cancelled_while_it_is_done_is_taken_back_at_once() -> None:
    undone: list[int] = []

    async def main() -> None:
        queue, tasks = Queue(), []

        def work(_: Talk) -> int:
            tasks[0]._given_up = True
            return 5

        tasks.append(Job(work, lambda _, result: undone.append(result)))
        task = await started(queue, tasks[0])
        queue.work()
        assert undone == [5]
        assert await cancelled(task)

    asyncio.run(main())


def test_what_is_cancelled_before_it_begins_is_not_done() -> None:
    done: list[int] = []

    async def main() -> None:
        queue = Queue()
        task = await started(queue, Job(lambda _: done.append(1) or 5))
        assert await cancelled(task)
        queue.work()
        assert not queue.works

    asyncio.run(main())
    assert not done


def test_an_undo_that_fails_is_left_to_the_end_of_the_lease() -> None:
    async def main() -> None:
        def undo(_: Talk, result: int) -> None:
            raise OSError(result)

        queue = Queue()
        task = await started(queue, Job(lambda _: 5, undo))
        queue.work()
        assert await cancelled(task)
        queue.work()

    asyncio.run(main())


@pytest.mark.parametrize("progress", ["abandoned", "running", "taken_over"])
def test_a_record_that_became_free_meanwhile_stands_in_nobodys_way(progress: Any) -> None:
    assert began_of(Record(progress, 1, b"args", 0.0, None), b"args", "rerun") is None


def test_an_answer_that_gave_nothing_away_has_nothing_to_be_taken_back() -> None:
    SqlStore(object)._give_back("id", TALK, Mismatch())  # TALK would raise: it has no database
