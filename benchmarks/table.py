"""The results as a table, honest about what was missed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cases import CASES, MEDIAN, PEERS, RATE, Case, Target
from benchmarks.rounds import Runs, ratios


def show(runs: Runs, console: Console) -> list[dict[str, Any]]:
    """Print what was measured; returns the verdicts."""
    table = Table(title="medians of the rounds (least - greatest)", title_justify="left")
    for name in ("case", "calls/s or p50", "ratio", "target", "reached"):
        table.add_column(name, justify="left" if name == "case" else "right")
    for peer in PEERS:
        if runs.get(peer.key):
            table.add_row(f"{peer.key}: {peer.title}", _numbers(runs[peer.key], peer.unit), "", "", "")
    table.add_section()
    verdicts = []
    for case in CASES:
        for place, target in enumerate(case.targets if runs.get(case.key) else ()):
            verdict = judge(runs, case, target)
            verdicts.append(verdict)
            shown = (case.title, _numbers(runs[case.key], case.unit)) if not place else ("", "")
            table.add_row(*shown, *_cells(verdict))
    console.print(table)
    costs = Table(title="processor time of a call, µs (medians)", title_justify="left")
    for name in ("case", "client", "server", "broker", "p50", "p99"):
        costs.add_column(name, justify="left" if name == "case" else "right")
    for one in (*PEERS, *CASES):
        if found := runs.get(one.key):
            keys = ("client_cpu_us", "server_cpu_us", "broker_cpu_us", "p50_us", "p99_us")
            costs.add_row(one.title, *[f"{statistics.median(run[key] for run in found):,.1f}" for key in keys])
    console.print(costs)
    return verdicts


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


def _numbers(runs: Sequence[dict[str, Any]], unit: str) -> str:
    values = sorted(run[unit] for run in runs)
    middle = statistics.median(values)
    scale, name = (1.0, "/s") if unit == RATE else (1.0, "µs")
    if unit == MEDIAN and middle >= 1e4:
        scale, name = 1e-3, "ms"
    low, mid, high = (f"{value * scale:,.0f}" for value in (values[0], middle, values[-1]))
    return f"{mid} ({low} - {high}) {name}"


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
