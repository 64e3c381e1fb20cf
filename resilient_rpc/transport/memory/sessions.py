"""Session: one pretended connection. Reports hop to its loop; what the broker does not read yet is held."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from resilient_rpc.errors import RpcError

if TYPE_CHECKING:
    from resilient_rpc.transport.memory.broker import Broker

T = TypeVar("T")
Report = Callable[..., None]


class Session(ABC):
    """What publishers and consumers share. Its state changes during a turn of the broker only."""

    publishes = False
    """Whether an alarm concerns it."""

    def __init__(self, broker: Broker, lost: Report, *, name: str, keep: object) -> None:
        self.name = name
        self.loop = asyncio.get_running_loop()
        self.gated = False
        self._broker, self._turn = broker, broker.turn
        self._keep = keep  # the Bus: as long as a session is open, somebody uses it
        self._lost = lost
        self._reports: list[tuple[Report, tuple[Any, ...]]] = []
        self._woken = True  # reports wait until `begin`: nobody knows the session before
        self._held: deque[tuple[Report, tuple[Any, ...]]] = deque()
        self._asked: dict[asyncio.Future[Any], None] = {}
        self._end: BaseException | None = None
        self._mute = False
        self._killed = False

    async def begin(self, opening: Callable[[], None]) -> None:
        """Have the broker do `opening`, then report. If the session ends meanwhile, raise why."""
        with self._turn:
            self._broker.register(self)
        try:
            await self.ask(opening)
        except BaseException:
            with self._turn:
                self._finish(ConnectionError("never opened"), mute=True)
            raise
        with self._turn:
            if self._end is not None:
                self._mute = True
                raise self._end
            self._woken = bool(self._reports)
            if self._woken:
                self._turn.then(self._wake)

    async def close(self) -> None:
        """End the session; nothing is reported any more."""
        with self._turn:
            self._finish(ConnectionError("the session was closed"), mute=True)

    async def ask(self, question: Callable[[], T]) -> T:
        """What the broker answers, when it reads the question."""
        future: asyncio.Future[T] = self.loop.create_future()
        with self._turn:
            self._check_open()
            self._asked[future] = None
            self.do(self._answer, future, question)
        try:
            return await future
        finally:
            self._asked.pop(future, None)

    def drop(self, error: BaseException) -> None:
        """The connection broke: report it, and nothing else. During a turn."""
        if self._end is None:
            self._reports.append((self._lost, (error,)))
            self._finish(error, mute=False)
            self._summon()

    def vanish(self) -> None:
        """Its process was killed: it neither hears nor says anything from here on. During a turn."""
        self._killed = self._killed or self._end is None
        self._finish(ConnectionError("its process was killed"), mute=True)

    def expire(self) -> None:
        """It was inherited by a fork, and its broker was not."""
        self._finish(ConnectionError("the session belongs to the process that was forked"), mute=True)

    def gate(self, closed: bool) -> None:
        """Stop reading from this session, or read on, first of all what was held. During a turn."""
        self.gated = closed
        while self._held and not self.gated:
            operation, args = self._held.popleft()
            operation(*args)

    def do(self, operation: Report, *args: Any) -> None:
        """Carry out what the session sent, as soon as the broker reads it. During a turn."""
        if self.gated:
            self._held.append((operation, args))
        else:
            operation(*args)

    def post(self, report: Report, *args: Any) -> None:
        """Put a report on its way. During a turn."""
        if self._end is None:
            self._reports.append((report, args))
            self._summon()

    @abstractmethod
    def halt(self) -> None:
        """Take nothing more from the broker. During a turn."""

    @abstractmethod
    def leave(self) -> None:
        """Give back to the broker what the session had. During a turn."""

    def _summon(self) -> None:
        if not self._woken:
            self._woken = True
            self._turn.then(self._wake)

    def _wake(self) -> None:
        self._hop(self._tell)

    def _hop(self, callback: Report, *args: Any) -> None:
        try:
            if asyncio._get_running_loop() is self.loop:  # noqa: SLF001 - the public one raises where there is none
                self.loop.call_soon(callback, *args)
            else:
                self.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop was closed under the session: nobody is there any more
            with self._turn:
                self.vanish()

    def _tell(self) -> None:
        with self._turn:
            reports, self._reports, self._woken = self._reports, [], False
        for report, args in reports:
            if self._mute:
                return
            try:
                report(*args)
            except Exception as error:
                context = {"message": f"a report of memory session {self.name!r} failed", "exception": error}
                self.loop.call_exception_handler(context)

    def _answer(self, future: asyncio.Future[T], question: Callable[[], T]) -> None:
        try:
            settle = partial(_settle, future, question(), None)
        except (RpcError, OSError) as error:
            settle = partial(_settle, future, None, error)
        self._turn.then(partial(self._hop, settle))

    def _check_open(self) -> None:
        if self._end is not None:
            raise ConnectionError(f"the session has ended: {self._end}") from self._end

    def _finish(self, error: BaseException, *, mute: bool) -> None:
        self._mute = self._mute or mute
        if self._end is not None:
            return
        self._end = error
        self._held.clear()
        for future in list(self._asked):
            self._turn.then(partial(self._hop, _settle, future, None, error))
        self._broker.forget(self)
        self.leave()


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():  # cancelled meanwhile
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
