"""One Redis as one loop knows it: its connections, and steps carried out in one round trip."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError, TryAgainError

from resilient_rpc.stores.errors import StoreError
from resilient_rpc.stores.faults import fault_of, unavailable
from resilient_rpc.stores.gate import Gate
from resilient_rpc.stores.steps import Step, command
from resilient_rpc.stores.stream import Argument, Stream, pack

log = logging.getLogger(__name__)
Group = Sequence[Step]
"""Steps that may share a call of the script: on a cluster, those of one slot."""


class Node:
    """Carries out steps, on connections that `open` makes; `name` is for the log.

    A connection that is lost with steps on it is replaced once, and the steps sent again: they may be repeated, and a
    Redis that was restarted, or has closed what was idle, costs nobody an error.
    """

    def __init__(self, open: Callable[[], Stream], name: str) -> None:  # noqa: A002 - what it does
        self._open = open
        self.name = name
        self.gate = Gate()
        self.suspect = False
        """Whoever knows where the master is should ask again."""
        self._idle: list[Stream] = []
        self._numbers = itertools.count()

    async def run(self, groups: Sequence[Group], *, asking: bool = False) -> list[tuple[Group, ResponseError]]:
        """Settle every step; returned are the groups that a cluster has elsewhere."""
        now = asyncio.get_running_loop().time()
        pause = self.gate.wait(now)
        if pause:
            for step in itertools.chain(*groups):
                step.fail(unavailable("open", sent=step.sent, retry_after=pause))
            return []
        try:
            answers = await self._ask(groups, asking=asking)
        except asyncio.CancelledError:
            self._failed("timeout")
            raise
        except (ResponseError, OSError, _Desync) as error:
            self._refuse(groups, error)
            return []
        if self.gate.passed():
            log.info("the Redis at %s answers again", self.name)
        return self._settle(groups, answers)

    def launch(self, group: Group, done: Callable[[bool], None]) -> Stream | None:
        """Send a group at once, on a connection that is idle; None: there is none, and nothing was sent.

        `done` is called once, with True when each step is settled; with False they are to be `run`, for that is where
        everything but an answer is dealt with. A lone step waits for two turns of the loop less than there.
        """
        if self.gate.shut or not self._idle:
            return None
        stream = self._idle.pop()
        if not stream.usable:
            return None
        number = b"%d" % next(self._numbers)

        def answered(answers: list[Any] | Exception) -> None:
            answer = answers[0] if isinstance(answers, list) else None
            if _is_of(answer, number, len(group)):
                self._idle.append(stream)
                self.gate.passed()
                self._settle([group], [answer])
                done(True)
                return
            for step in group:
                step.lost = not isinstance(answer, ResponseError)
            if isinstance(answer, ResponseError):
                self._idle.append(stream)
            else:
                stream.close()
            done(False)

        for step in group:
            step.sent = True
        stream.send([pack(*command(group, number, whole=False))], 1, answered)
        return stream

    def abandon(self, stream: Stream) -> None:
        """Nobody waits any longer for what was launched."""
        stream.close()
        self._failed("timeout")

    async def ask(self, *words: Argument) -> Any:
        """One command that is no step. Raises `ResponseError` for one of Redis, OSError for none."""
        stream = await self._connected()
        (answer,) = await stream.exchange([pack(*words)], 1)
        self._idle.append(stream)
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            await self._idle.pop().aclose()

    async def _ask(self, groups: Sequence[Group], *, asking: bool) -> list[Any]:
        stream = await self._connected()
        for step in itertools.chain(*groups):
            step.sent = True
        try:
            answers = await self._exchange(stream, groups, asking=asking)
        except OSError:
            for step in itertools.chain(*groups):
                step.lost = True
            await self.aclose()  # those that have been idle for longer are no better
            stream = await self._connected()
            answers = await self._exchange(stream, groups, asking=asking)
        self._idle.append(stream)
        return answers

    async def _exchange(self, stream: Stream, groups: Sequence[Group], *, asking: bool) -> list[Any]:
        answers = await self._round_trip(stream, groups, whole=False, asking=asking)
        forgotten = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if forgotten:
            again = await self._round_trip(stream, [groups[index] for index in forgotten], whole=True, asking=asking)
            for index, answer in zip(forgotten, again, strict=True):
                answers[index] = answer
        return answers

    async def _round_trip(self, stream: Stream, groups: Sequence[Group], *, whole: bool, asking: bool) -> list[Any]:
        numbers = [b"%d" % next(self._numbers) for _ in groups]
        packed: list[bytes] = []
        for group, number in zip(groups, numbers, strict=True):
            if asking:
                packed.append(pack("ASKING"))
            packed.append(pack(*command(group, number, whole=whole)))
        answers = await stream.exchange(packed, len(packed))
        if asking:
            answers = answers[1::2]
        for group, number, answer in zip(groups, numbers, answers, strict=True):
            if not isinstance(answer, ResponseError) and not _is_of(answer, number, len(group)):
                stream.close()
                raise _Desync
        return answers

    def _settle(self, groups: Sequence[Group], answers: Sequence[Any]) -> list[tuple[Group, ResponseError]]:
        elsewhere: list[tuple[Group, ResponseError]] = []
        for group, answer in zip(groups, answers, strict=True):
            if isinstance(answer, MovedError | AskError | TryAgainError):
                for step in group:
                    step.sent = False
                elsewhere.append((group, answer))
            elif isinstance(answer, ResponseError):
                for step in group:
                    fault = fault_of(str(answer))
                    self._demoted(fault.reason)
                    step.fail(fault)
            else:
                for step, each in zip(group, answer[1:], strict=True):
                    reason = step.settle(each)
                    if reason:
                        self._demoted(reason)
        return elsewhere

    def _demoted(self, reason: str) -> None:
        if reason in {"read_only", "cluster"}:
            self.suspect = True

    async def _connected(self) -> Stream:
        while self._idle:
            stream = self._idle.pop()
            if stream.usable:
                return stream
        stream = self._open()
        await stream.connect()
        return stream

    def _refuse(self, groups: Sequence[Group], error: Exception) -> None:
        for step in itertools.chain(*groups):
            step.fail(fault_of_connection(error, sent=step.sent))
        self._failed(f"{fault_of_connection(error, sent=False)}: {error}")

    def _failed(self, reason: str) -> None:
        self.suspect = True
        if self.gate.failed(asyncio.get_running_loop().time()):
            log.warning("the Redis at %s is not asked for a moment: %s", self.name, reason)


class _Desync(Exception):
    """An answer came that belongs to another question."""


def fault_of_connection(error: BaseException, *, sent: bool) -> StoreError:
    """For what ended an exchange, or kept it from beginning."""
    if isinstance(error, _Desync):
        fault: StoreError = unavailable("desync", sent=sent)
    elif isinstance(error, ResponseError):
        fault = fault_of(str(error))
    else:
        fault = unavailable("lost" if sent else "down", sent=sent)
    fault.__cause__ = error
    return fault


def _is_of(answer: Any, number: bytes, steps: int) -> bool:
    return isinstance(answer, list) and len(answer) == steps + 1 and bool(answer[0] == number)
