"""The results as tables on a terminal, honest about what was missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.families import Family
from benchmarks.goals import HEADINGS
from benchmarks.results import Change, Line
from benchmarks.units import MEASURES


def show(family: Family, lines: Sequence[Line], changes: Sequence[Change], console: Console) -> None:
    """One family."""
    known = {(one.key, one.x, one.series, one.measure): one for one in changes if one.family == family.key}
    many = len({line.point.series for line in lines}) > 1
    table = Table(title=family.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column(family.axis or "", justify="left")
    if many:
        table.add_column("", justify="left")
    table.add_column(MEASURES[family.measure].title, justify="right")
    if family.compared:
        table.add_column(f"ratio to {family.compared}", justify="right")
    if changes:
        table.add_column("since then", justify="right")
    for line in lines:
        cells = [line.name, *([line.point.series] if many else []), line.text()]
        cells += [line.ratio_text()] if family.compared else []
        change = known.get((line.point.key, str(line.point.x), line.point.series, line.measure))
        colour = {"slower": "red", "faster": "green"}.get(change.verdict, "dim") if change else "dim"
        cells += [f"[{colour}]{change.text()}[/]" if change else ""] if changes else []
        table.add_row(*cells)
    console.print(table)
    console.print()


def show_verdicts(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    """The targets."""
    table = Table(title="Targets", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in HEADINGS:
        table.add_column(name, justify="left" if name in {"what", "why not"} else "right")
    for *cells, reached, why in rows:
        table.add_row(*cells, {"yes": "[green]yes[/]", "no": "[red]no[/]"}.get(reached, reached), why)
    console.print(table)
    console.print()


def show_missing(missing: Mapping[str, str], console: Console) -> None:
    """What was not measured, and why."""
    for name, why in missing.items():
        console.print(f"not measured: {name}: {why}", markup=False, style="yellow")
