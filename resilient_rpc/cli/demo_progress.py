"""How far the demo is: a live line on a terminal, a plain line a second elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

PLAIN_EVERY = 1.0
"""Seconds between plain lines."""


class Display(Protocol):
    """Shows the counts of the moment."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def show(self, ended: int, failed: int) -> None:
        """So many calls have ended, and so many of them in an error."""


def display(console: Console, calls: int | None) -> Display:
    """What suits the console."""
    return Live(console, calls) if console.is_terminal else Lines(console, calls)


class _Count(ProgressColumn):
    """``1,234 of 8,000 calls``, always as wide."""

    def render(self, task: Task) -> Text:
        of = f" of {task.total:,.0f}" if task.total is not None else ""
        return Text(f"{int(task.completed):,}{of} calls")


class Live:
    """A line with a bar that stays on its place."""

    def __init__(self, console: Console, calls: int | None) -> None:
        self._progress = Progress(
            BarColumn(bar_width=24),
            _Count(),
            TextColumn("[cyan]{task.fields[rate]:>7,.0f} calls/s"),
            TextColumn("[{task.fields[colour]}]{task.fields[failed]:,} errors"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("calls", total=calls, rate=0.0, failed=0, colour="dim")
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, ended: int, failed: int) -> None:
        """See `Display`."""
        rate = ended / max(time.monotonic() - self._began, 1e-3)
        colour = "yellow" if failed else "dim"
        self._progress.update(self._task, completed=ended, rate=rate, failed=failed, colour=colour)


class Lines:
    """A line now and then."""

    def __init__(self, console: Console, calls: int | None) -> None:
        self._console = console
        self._of = f" of {calls:,}" if calls is not None else ""
        self._next = time.monotonic() + PLAIN_EVERY
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to be done."""

    def show(self, ended: int, failed: int) -> None:
        """See `Display`."""
        late = time.monotonic() - self._next
        if late < 0:
            return
        rate = (ended - self._shown) / (PLAIN_EVERY + late)
        self._console.print(f"{ended:,}{self._of} calls, {rate:,.0f} calls/s, {failed:,} errors")
        self._next, self._shown = time.monotonic() + PLAIN_EVERY, ended
