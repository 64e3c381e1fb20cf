"""``resilient-rpc dead list``: how many dead letters there are, why, and since when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

from resilient_rpc.cli.dead.letter import DeadLetter, shown_time
from resilient_rpc.cli.dead.match import Methods, Reasons, Since, matching
from resilient_rpc.cli.dead.queue import PREFIX, DeadQueue, Prefix, Service, Url, run
from resilient_rpc.transport.topology import expired_queue


@dataclass
class Row:
    """Letters of one reason and method."""

    letters: int = 0
    calls: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def add(self, letter: DeadLetter) -> None:
        """Count one more."""
        self.letters += 1
        self.calls += letter.calls
        if letter.when is not None:
            self.first = letter.when if self.first is None else min(self.first, letter.when)
            self.last = letter.when if self.last is None else max(self.last, letter.when)

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        return str(self.letters), str(self.calls), shown_time(self.first), shown_time(self.last)


def list_letters(
    service: Service,
    *,
    url: Url,
    prefix: Prefix = PREFIX,
    reason: Reasons = None,
    method: Methods = None,
    since: Since = None,
    each: Annotated[bool, typer.Option("--each", help="A line for each letter, with its number, as well.")] = False,
) -> None:
    """Count dead letters by reason and method. Takes none out, and leaves their order as it is."""
    match = matching(service, reason, method, since)

    async def command(queue: DeadQueue) -> None:
        rows: dict[tuple[str, str], Row] = {}
        total = Row()
        lines: list[tuple[str, ...]] = [("number", "died", "reason", "method", "attempts", "message id")]
        async for number, letter, _ in queue.letters():
            if match(letter):
                rows.setdefault((letter.reason, letter.method), Row()).add(letter)
                total.add(letter)
                if each:
                    lines.append(_line(number, letter))
        first, last = shown_time(total.first), shown_time(total.last)
        typer.echo(f"{queue.name}: {total.letters} of {queue.waiting} dead letters, first {first}, last {last}")
        if rows:
            head = ("reason", "method", "letters", "calls", "first", "last")
            cells = [(reason, method or "-", *row.cells()) for (reason, method), row in sorted(rows.items())]
            typer.echo(table([head, *cells]))
        if each and total.letters:
            typer.echo(table(lines))
        expired = expired_queue(queue.requests)
        typer.echo(f"{expired}: {await queue.count(expired)} expired")

    run(url, service, prefix, command)


def _line(number: int, letter: DeadLetter) -> tuple[str, ...]:
    attempts = "-" if letter.attempts is None else str(letter.attempts)
    return str(number), shown_time(letter.when), letter.reason, letter.method or "-", attempts, letter.message_id


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Aligned columns, two spaces between them: for eyes, and for awk."""
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
