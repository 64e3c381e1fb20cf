"""The results as tables on a terminal, honest about what was missed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cases import MEDIAN, RATE, Case, Target
from benchmarks.families import Family
from benchmarks.results import Change, Line
from benchmarks.rounds import Runs, ratios
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
    for name in ("case", "ratio", "target", "reached"):
        table.add_column(name, justify="left" if name == "case" else "right")
    for row in rows:
        table.add_row(*row[:-1], {"yes": "[green]yes[/]", "no": "[red]no[/]"}.get(row[-1], row[-1]))
    console.print(table)
    console.print()


def show_missing(missing: Mapping[str, str], console: Console) -> None:
    """What was not measured, and why."""
    for name, why in missing.items():
        console.print(f"not measured: {name}: {why}", markup=False, style="yellow")


def judge_all(runs: Runs, cases: Mapping[str, Case]) -> list[dict[str, Any]]:
    """The verdicts of all that was measured."""
    return [judge(runs, case, target) for case in cases.values() if runs.get(case.key) for target in case.targets]


def judge(runs: Runs, case: Case, target: Target) -> dict[str, Any]:
    """Whether a case reached what it shall; `reached` is None without the peer."""
    found = ratios(runs, case, target)
    verdict: dict[str, Any] = {
        "case": case.key,
        "peer": target.peer,
        "limit": target.limit,
        "more": target.more,
        "at_most": case.unit == MEDIAN,
        "ratio": statistics.median(found) if found else None,
        "ratios": found,
        "reached": None,
    }
    if found:
        ratio = verdict["ratio"]
        verdict["reached"] = ratio >= target.limit if case.unit == RATE else ratio <= target.limit
    return verdict


def verdict_rows(verdicts: Sequence[dict[str, Any]], cases: Mapping[str, Case]) -> Iterator[tuple[str, ...]]:
    """Case, ratio, target, reached."""
    for verdict in verdicts:
        yield cases[verdict["case"]].title, *_cells(verdict)


def _cells(verdict: dict[str, Any]) -> tuple[str, str, str]:
    peer, limit = verdict["peer"], verdict["limit"]
    wanted = f"{'≤' if verdict['at_most'] else '≥'} {limit:g} x {peer}"
    if verdict["more"]:
        wanted = f"≤ {peer} + {limit:g} µs"
    if verdict["ratio"] is None:
        return "-", wanted, "not compared"
    low, high = min(verdict["ratios"]), max(verdict["ratios"])
    shown = f"{verdict['ratio']:.2f} ({low:.2f} - {high:.2f})"
    if verdict["more"]:
        shown = f"+ {verdict['ratio']:.0f} ({low:.0f} - {high:.0f}) µs"
    return shown, wanted, "yes" if verdict["reached"] else "no"
