"""The end of a server: it takes nothing new, gives back what has not begun, and waits for what has."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence

from resilient_rpc.errors import Draining, RpcError
from resilient_rpc.serving.answers import Answers
from resilient_rpc.serving.executor import Executor
from resilient_rpc.serving.job import Job, Letter
from resilient_rpc.serving.letters import Letters
from resilient_rpc.serving.outbox import Outbox
from resilient_rpc.serving.returns import Returns
from resilient_rpc.transport.base import Consumer

LAST_WORDS = 1.0
"""Seconds that a drain waits for what it has cancelled, and then for the replies of that."""


class Drain:
    """Lives on the server's loop; does nothing until `run`."""

    def __init__(
        self, letters: Letters, answers: Answers, outbox: Outbox, executor: Executor, returns: Sequence[Returns]
    ) -> None:
        self._letters, self._answers, self._outbox, self._executor = letters, answers, outbox, executor
        self._returns = returns
        self.begun = False
        self._idle = asyncio.Event()

    async def run(self, sessions: Iterable[Consumer], grace: float) -> bool:
        """Take nothing new, finish what runs, answer, ack. False if `grace` was not enough."""
        self.begun = True
        until = time.monotonic() + grace
        await asyncio.gather(*(_cancel(session, grace) for session in sessions))
        self.give_back(self._executor.scheduler.give_up())
        if not self._idle.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), max(until - time.monotonic(), 0.0))
        clean = self._idle.is_set()
        if not clean:
            await self._executor.cancel_running(LAST_WORDS)
            await self._outbox.drain(LAST_WORDS)
        return clean

    def give_back(self, unstarted: Sequence[Job]) -> None:
        """What has not begun: to another server if a repeat is harmless, else its callers are told."""
        by_letter: dict[Letter, list[Job]] = {}
        for job in unstarted:
            by_letter.setdefault(job.letter, []).append(job)
        for letter, jobs in by_letter.items():
            untouched = not letter.started and letter.left == len(jobs)
            if untouched and all(job.context.safety.repeatable for job in jobs):
                self._letters.requeue(letter)
            elif untouched and all(job.unasked for job in jobs):
                self._letters.home_of(letter).dead.return_to_sender(letter)
            else:
                self._split(letter, jobs)
        for letter in [each for returns in self._returns for each in returns.give_up()]:
            letter.session.nack(letter.tag, requeue=True)
        self.check()

    def _split(self, letter: Letter, jobs: Sequence[Job]) -> None:
        """Of a message of which something is to be answered, or has begun: who waits is told, the rest goes back."""
        dead = self._letters.home_of(letter).dead
        unasked = [job for job in jobs if job.unasked] if dead.cuttable else []
        for job in jobs:
            if job not in unasked:
                self._answers.refuse(letter, job.reply, _draining(), job.index)
        if unasked:
            dead.return_calls(letter, [job.index for job in unasked], lambda ok: self._returned(letter, unasked, ok))

    def _returned(self, letter: Letter, jobs: Sequence[Job], ok: bool) -> None:
        for job in jobs:
            if ok:
                self._outbox.skip(letter)
            else:
                self._answers.refuse(letter, job.reply, _draining(), job.index)

    def check(self) -> None:
        """Something is done with: perhaps it was the last."""
        if self.begun and not self._letters.held and not any(each.pending for each in self._returns):
            self._idle.set()


async def _cancel(session: Consumer, timeout: float) -> None:
    with contextlib.suppress(TimeoutError, OSError, RpcError):  # it has just ended, or nobody answers there
        await asyncio.wait_for(session.cancel(), timeout)


def _draining() -> Draining:
    return Draining("the server is stopping and did not begin with it; another one can", retry_after=0.0)
