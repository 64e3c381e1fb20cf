"""The demo's tables, and the checks that decide about its exit code."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resilient_rpc.cli.demo_calls import KINDS
from resilient_rpc.cli.demo_load import Side
from resilient_rpc.cli.demo_tally import Tally, percentiles, together
from resilient_rpc.cli.fail import one_line


def report(console: Console, sides: Sequence[Side]) -> bool:
    """Print all; True if every check holds."""
    total = together(side.total() for side in sides)
    for table in (_by_method(total), _by_client(sides), *([_by_error(total)] if total.failures else [])):
        console.print()
        console.print(table)
    console.print()
    return all([_adds_up(console, sides, total), _right(console, total), _in_time(console, total)])


def new_table(title: str, *columns: str, words: int = 1) -> Table:
    """A table whose first `words` columns are text, and the others numbers."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < words else "right", no_wrap=True)
    return table


def _by_method(total: Tally) -> Table:
    table = new_table("Calls", "method", "safety", "calls", "results", "errors", words=2)
    for kind in KINDS:
        results, errors = total.results[kind.method], total.errors[kind.method]
        table.add_row(kind.method, kind.safety, *_numbers(results + errors, results, errors))
    results = sum(total.results.values())
    table.add_section()
    table.add_row("all", "", *_numbers(results + total.failed, results, total.failed), style="bold")
    return table


def _by_client(sides: Sequence[Side]) -> Table:
    table = new_table("Clients", "client", "calls", "calls/s", "p50 ms", "p95 ms", "p99 ms")
    totals = [side.total() for side in sides]
    names = [side.name for side in sides]
    for name, tally in zip([*names, "both"], [*totals, together(totals)], strict=True):
        rate = tally.ended / max(tally.last - tally.first, 1e-3)
        times = (f"{seconds * 1000:,.1f}" for seconds in percentiles(tally.seconds, (0.5, 0.95, 0.99)))
        if name == "both":
            table.add_section()
        table.add_row(name, f"{tally.ended:,}", f"{rate:,.0f}", *times, style="bold" if name == "both" else None)
    return table


def _by_error(total: Tally) -> Table:
    table = new_table("Errors", "class", "certainty", "calls", words=2)
    table.add_column("the first one said", ratio=1)
    for failure, count in total.failures.most_common():
        table.add_row(failure.error, failure.certainty, f"{count:,}", Text(one_line(total.examples[failure])))
    return table


def _numbers(*values: int) -> list[str]:
    return [f"{value:,}" for value in values]


def _adds_up(console: Console, sides: Sequence[Side], total: Tally) -> bool:
    """What was begun has ended, and the clients counted the same."""
    results = sum(total.results.values())
    equal = total.begun == results + total.failed
    for side in sides:
        stats, mine = side.stats(), side.total()
        seen = (stats.total, stats.completed, stats.failed, stats.pending)
        equal = equal and seen == (mine.begun, sum(mine.results.values()), mine.failed, 0)
    sign = "=" if equal else "!="
    line = f"the counts add up: {total.begun:,} calls {sign} {results:,} results + {total.failed:,} errors"
    return verdict(console, equal, line if equal else line.replace("add up", "do not add up", 1))


def _right(console: Console, total: Tally) -> bool:
    results = sum(total.results.values())
    return verdict(
        console, not total.wrong, f"every result is its call's own: {results - total.wrong:,} of {results:,}"
    )


def _in_time(console: Console, total: Tally) -> bool:
    ok = total.in_time == total.begun
    return verdict(console, ok, f"every call ended by its deadline: {total.in_time:,} of {total.begun:,}")


def verdict(console: Console, ok: bool, text: str) -> bool:
    """Print what was checked; returns `ok`."""
    console.print(Text(text, style="green" if ok else "bold red"))
    return ok
