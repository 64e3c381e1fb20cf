"""The suite: measure the chosen families with a progress display, print tables, write the files."""

from __future__ import annotations

import contextlib
import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import broker, goals, machine, results, store, table
from benchmarks.cases import PEERS, Case, Peer
from benchmarks.families import Family
from benchmarks.pace import Pace
from benchmarks.peers import environments
from benchmarks.plan import Plan, Turn
from benchmarks.report import Page, render
from benchmarks.rounds import Outcome, measure, turns, wanted
from benchmarks.svg import chart
from benchmarks.sweeps import CATALOGUE, FAMILIES

QUICK_BUDGET, FULL_BUDGET = 80.0, 1150.0
"""Seconds after set-up, in which all must be measured; the rest of 90 s and 20 minutes is for the report."""
QUICK, FULL = (3, 0.4), (5, 1.2)
"""Rounds, and seconds of each run."""


def chosen(options: Namespace) -> list[Family]:
    """The families that were asked for."""
    if options.cases:
        return [family for family in FAMILIES if any(point.key in options.cases for point in family.points)]
    return [family for family in FAMILIES if family.key in (options.only or {one.key for one in FAMILIES})]


def main(options: Namespace, console: Console) -> dict[str, Any]:
    """Returns what ``results.json`` holds."""
    old = results.load(options.compare) if options.compare else None
    families = chosen(options)
    rounds, seconds = QUICK if options.quick else FULL
    with contextlib.ExitStack() as running:
        with console.status("starting RabbitMQ and Redis"):
            url, own = running.enter_context(broker.opened(options.broker))
            redis = running.enter_context(store.redis_url(options.redis)) if _records(options, families) else ""
        plan = Plan(
            url=url,
            redis=redis,
            rounds=options.rounds or rounds,
            seconds=options.seconds or seconds,
            loop=options.loop,
            quick=options.quick,
            budget=options.budget or (QUICK_BUDGET if options.quick else FULL_BUDGET),
            own=own,
            peers=options.peers,
        )
        environment = machine.environment(url, redis)
        console.print(", ".join(f"{name} {value}" for name, value in environment.items()), markup=False)
        parties = wanted(families, CATALOGUE, plan, options.cases)
        missing = _install(parties, console)
        parties = [one for one in parties if one.title not in missing]
        if options.cases:
            families = [family for family in families if not family.probe]
        todo, pace = turns(families, parties, plan), Pace(plan)
        console.print(pace.describe(todo), markup=False)
        outcome = _measure(todo, pace, console)
    outcome.missing |= missing
    verdicts = goals.judge_all(outcome, CATALOGUE.cases)
    settings = {
        "rounds": plan.rounds,
        "rounds made": outcome.rounds,
        "seconds": round(pace.plan.seconds, 3),
        "for want of time": "; ".join(outcome.notes) or "nothing was left out",
        "loop": plan.loop,
        "quick": plan.quick,
        "broker": "of the suite" if own else "given by the user",
    }
    found = results.document(families, outcome, environment=environment, settings=settings, verdicts=verdicts)
    _tell(options, families, outcome, found, old, console)
    return found


def _records(options: Namespace, families: Sequence[Family]) -> bool:
    """Whether anything that was chosen keeps records in Redis."""
    keys = options.cases or [point.key for family in families for point in family.chosen(quick=options.quick)]
    stores = any("redis" in CATALOGUE.cases[key].server for key in keys if key in CATALOGUE.cases)
    return stores or bool({"store", "memory"} & {family.key for family in families} and not options.quick)


def _install(parties: Sequence[Case | Peer], console: Console) -> dict[str, str]:
    """Environments of the peers that need their own; what cannot be had, and why."""
    missing = {}
    for one in parties:
        if isinstance(one, Peer) and one.environment:
            with console.status(f"setting up {one.title}"):
                _, why = environments.ready(one.environment)
            if why:
                missing[one.title] = why
    return missing


def _measure(todo: Sequence[Turn], pace: Pace, console: Console) -> Outcome:
    with _progress(console, todo, pace.plan.rounds) as tell:
        return measure(todo, pace, tell)


@contextlib.contextmanager
def _progress(console: Console, todo: Sequence[Turn], rounds: int) -> Iterator[Any]:
    """A bar on a terminal; elsewhere a line for each round."""
    turns = sum(1 if turn.once else rounds for turn in todo)
    if not console.is_terminal:
        seen: set[int] = set()

        def line(number: int, _: Turn) -> None:
            if number not in seen:
                seen.add(number)
                console.print(f"round {number} of {rounds}")

        yield line
        return
    columns = (TextColumn("{task.description:44.44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Twice a second: what draws the bar must not take the processors from what is measured.
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        task = progress.add_task("", total=turns, completed=-1)

        def bar(number: int, turn: Turn) -> None:
            progress.update(task, advance=1, description=f"{number}/{rounds} {turn.name}")

        yield bar
        progress.update(task, completed=turns, description="done")


def _tell(
    options: Namespace,
    families: Sequence[Family],
    outcome: Outcome,
    found: dict[str, Any],
    old: dict[str, Any] | None,
    console: Console,
) -> None:
    """Tables, and the files."""
    changes = results.changes(old, found) if old else []
    shown = [(family, results.lines(family, outcome, quick=options.quick)) for family in families]
    shown = [(family, lines) for family, lines in shown if lines]
    for family, lines in shown:
        table.show(family, lines, changes, console)
    rows = goals.rows(found["verdicts"])
    if rows:
        table.show_verdicts(rows, console)
    table.show_missing(outcome.missing, console)
    differences = results.differences(old, found) if old else []
    for text in outcome.notes:
        console.print(text, style="yellow", markup=False)
    for text in differences:
        console.print(f"hard to compare: {text}", style="yellow", markup=False)
    if old:
        slower = sum(change.verdict == "slower" for change in changes)
        console.print(f"{slower} of {len(changes)} numbers became slower beyond the spread of both runs")
    if options.out is None:
        return
    page = Page(
        environment=found["environment"],
        settings=found["settings"],
        families=shown,
        verdicts=rows,
        unmeasured=goals.unmeasured(outcome, CATALOGUE.cases),
        missing=outcome.missing,
        changes=changes,
        differences=differences,
        compared=str(options.compare or ""),
    )
    write(options.out, page, found)
    console.print(f"written: {options.out / 'report.html'}, results.json and {len(shown)} charts", markup=False)


def write(out: Path, page: Page, found: dict[str, Any]) -> None:
    """``results.json``, ``report.html``, and each chart as a file of its own."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "report.html").write_text(render(page))
    for family, lines in page.families:
        (out / f"{family.key}.svg").write_text(chart(family, lines) + "\n")


PEER_KEYS = [*(peer.key for peer in PEERS), "powertools"]
