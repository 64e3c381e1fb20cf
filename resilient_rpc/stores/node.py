"""One Redis as one loop knows it: its connections, and steps carried out in one round trip."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from resilient_rpc.stores.errors import StoreError
from resilient_rpc.stores.faults import fault_of, unavailable
from resilient_rpc.stores.gate import Gate
from resilient_rpc.stores.steps import Argument, Step, command

log = logging.getLogger(__name__)
Group = Sequence[Step]
"""Steps that may share a call of the script: on a cluster, those of one slot."""


class Node:
    """Carries out steps, on connections that `open` makes; `name` is for the log.

    A connection that is lost with steps on it is replaced once, and the steps sent again: they may be repeated, and a
    Redis that was restarted, or has closed what was idle, costs nobody an error.
    """

    def __init__(self, open: Callable[[], AbstractConnection], name: str) -> None:  # noqa: A002 - what it does
        self._open = open
        self.name = name
        self.gate = Gate()
        self.suspect = False
        """Whoever knows where the master is should ask again."""
        self._idle: list[AbstractConnection] = []
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
        except (RedisError, OSError, _Desync) as error:
            self._refuse(groups, error)
            return []
        if self.gate.passed():
            log.info("the Redis at %s answers again", self.name)
        return self._settle(groups, answers)

    async def ask(self, *words: Argument) -> Any:
        """One command that is no step. Raises what redis-py raises."""
        connection = await self._connected()
        try:
            await connection.send_packed_command(_pack(words), check_health=False)
            answer = await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return answer

    async def aclose(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _ask(self, groups: Sequence[Group], *, asking: bool) -> list[Any]:
        connection = await self._connected()
        for step in itertools.chain(*groups):
            step.sent = True
        try:
            answers = await self._exchange(connection, groups, asking=asking)
        except (RedisConnectionError, OSError) as error:
            if _is_answer(error):
                raise
            for step in itertools.chain(*groups):
                step.lost = True
            await self.aclose()  # those that have been idle for longer are no better
            connection = await self._connected()
            answers = await self._exchange(connection, groups, asking=asking)
        self._idle.append(connection)
        return answers

    async def _exchange(self, connection: AbstractConnection, groups: Sequence[Group], *, asking: bool) -> list[Any]:
        answers = await self._round_trip(connection, groups, whole=False, asking=asking)
        forgotten = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if forgotten:
            again = await self._round_trip(
                connection, [groups[index] for index in forgotten], whole=True, asking=asking
            )
            for index, answer in zip(forgotten, again, strict=True):
                answers[index] = answer
        return answers

    async def _round_trip(
        self, connection: AbstractConnection, groups: Sequence[Group], *, whole: bool, asking: bool
    ) -> list[Any]:
        numbers = [b"%d" % next(self._numbers) for _ in groups]
        packed: list[bytes] = []
        for group, number in zip(groups, numbers, strict=True):
            if asking:
                packed.append(_pack(("ASKING",)))
            packed.append(_pack(tuple(command(group, number, whole=whole))))
        await connection.send_packed_command(packed, check_health=False)
        answers = []
        for group, number in zip(groups, numbers, strict=True):
            if asking:
                await _read(connection)
            answer = await _read(connection)
            if not isinstance(answer, ResponseError) and not _is_of(answer, number, len(group)):
                await connection.disconnect(nowait=True)
                raise _Desync
            answers.append(answer)
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
                    fault = fault_of(_text(answer))
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

    async def _connected(self) -> AbstractConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_connected and not await connection.can_read():
                return connection
            await connection.disconnect(nowait=True)
        connection = self._open()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

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


def _is_answer(error: BaseException) -> bool:
    """Whether Redis said it, which did nothing then: redis-py counts some refusals as failures of a connection."""
    said = bool(getattr(error, "status_code", None))
    return isinstance(error, RedisError) and (said or type(error) is not RedisConnectionError)


def fault_of_connection(error: BaseException, *, sent: bool) -> StoreError:
    """For what ended an exchange, or kept it from beginning."""
    if isinstance(error, _Desync):
        fault: StoreError = unavailable("desync", sent=sent)
    elif _is_answer(error):
        fault = fault_of(_text(error))
    else:
        fault = unavailable("lost" if sent else "down", sent=sent)
    fault.__cause__ = error
    return fault


def _is_of(answer: Any, number: bytes, steps: int) -> bool:
    return isinstance(answer, list) and len(answer) == steps + 1 and bool(answer[0] == number)


def _pack(words: tuple[Argument, ...]) -> bytes:
    # redis-py's asyncio connections pack in Python, in five times the time. The stub knows tuples of one word only.
    packed: bytes = pack_command(words)  # type: ignore[arg-type]
    return packed


async def _read(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _text(error: BaseException) -> str:
    """As Redis sent it: redis-py takes the first word off."""
    return f"{getattr(error, 'status_code', None) or ''} {error}"
