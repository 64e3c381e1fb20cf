"""What the demo's second part found: success, load and times of each chain in each phase."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from resilient_rpc.cli.demo_report import new_table, verdict
from resilient_rpc.cli.demo_tally import SLACK, percentiles
from resilient_rpc.cli.demo_trouble import IN_A_ROW, LIMIT, PHASES, Counted, Side


def report_trouble(console: Console, sides: Sequence[Side]) -> bool:
    """Print all; True if every call ended in time, and every result was its call's own."""
    table = new_table(
        "With and without policies", "phase", "chain", "calls", "results", "sent a call", "p95 ms", words=2
    )
    for place, phase in enumerate(PHASES):
        for side in sides:
            table.add_row(phase.name if side is sides[0] else "", side.name, *_cells(side.phases[place]))
        table.add_section()
    console.print()
    console.print(table)
    console.print()
    for side in sides:
        after = "not in this time" if side.recovered is None else f"{side.recovered:.2f} s after the server was back"
        console.print(Text(f"{IN_A_ROW} results in a row again, chain {side.name}: {after}"))
    calls = [call for side in sides for phase in side.phases for call in phase.calls]
    late = sum(call.ended - call.began > LIMIT + SLACK for call in calls)
    results = sum(call.error is None for call in calls)
    wrong = sum(call.wrong for call in calls)
    right = verdict(console, not wrong, f"every result is its call's own: {results - wrong:,} of {results:,}")
    in_time = f"every call ended by its deadline: {len(calls) - late:,} of {len(calls):,}"
    return verdict(console, not late, in_time) and right


def _cells(counted: Counted) -> tuple[str, ...]:
    calls = len(counted.calls)
    p95 = percentiles((call.ended - call.began for call in counted.calls), (0.95,))[0]
    return f"{calls:,}", f"{counted.ok:.1%}", f"{counted.sent / max(calls, 1):.2f}", f"{p95 * 1000:,.0f}"
