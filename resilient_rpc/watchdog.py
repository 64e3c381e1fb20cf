"""Notices work that holds a loop for too long, and names it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Report = Callable[[float, str], None]
"""Called with the seconds for which the loop was held, and the name of what held it."""

LIMIT = 0.05
"""Seconds that one step of a coroutine may hold the loop before it is reported."""


def trail(coroutine: Any) -> str:
    """The qualified names of `coroutine` and of those that it stands in, the innermost last: ``one > other``.

    For a call in a chain these are its policies, too.
    """
    return " > ".join(filter(None, (getattr(here, "__qualname__", "") for here in standing(coroutine))))


def standing(coroutine: Any) -> Iterator[Any]:
    """`coroutine` and what it stands in, the innermost last."""
    here = coroutine
    while here is not None:
        yield here
        here = getattr(here, "cr_await", None) or getattr(here, "gi_yieldfrom", None) or getattr(here, "ag_await", None)


class Stepped(Generic[T]):
    """Awaits a coroutine and reports each of its steps that holds the loop for longer than `LIMIT`."""

    __slots__ = ("_coroutine", "_name", "_report")

    def __init__(self, coroutine: Coroutine[Any, Any, T], report: Report, name: str) -> None:
        self._coroutine, self._report, self._name = coroutine, report, name

    def __await__(self) -> Generator[Any, Any, T]:
        step: Callable[[Any], Any] = self._coroutine.send
        argument: Any = None
        while True:
            begin = time.perf_counter()
            try:
                waiting = step(argument)
            except StopIteration as stop:
                value: T = stop.value
                return value
            finally:
                seconds = time.perf_counter() - begin
                if seconds > LIMIT:
                    self._report(seconds, self._describe())
            try:
                argument = yield waiting
                step = self._coroutine.send
            except BaseException as error:  # what was awaited failed: that is for the coroutine
                step, argument = self._coroutine.throw, error

    def _describe(self) -> str:
        where = trail(self._coroutine)
        return self._name if where in {"", self._name} else f"{self._name}: {where}"
