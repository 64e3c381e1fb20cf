"""``python -m benchmarks publish bench/results.json``: a run as a page of the docs, with its tables and pictures."""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from benchmarks import goals, results
from benchmarks.process import ROOT
from benchmarks.rounds import Outcome
from benchmarks.sweeps import CATALOGUE, FAMILIES
from benchmarks.units import MEASURES

PAGE, PICTURES = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "images" / "benchmarks"


def main(options: Namespace, console: Console) -> dict[str, Any]:
    """Write them, in place of those of another run."""
    found = results.load(options.file)
    pictures = [family["key"] for family in found["families"]]
    missing = [key for key in pictures if not (options.file.parent / f"{key}.svg").exists()]
    if missing:
        raise ValueError(f"beside {options.file} there is no {missing[0]}.svg: it is written by bench --out")
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    for key in pictures:
        shutil.copy(options.file.parent / f"{key}.svg", PICTURES / f"{key}.svg")
    PAGE.write_text("\n".join(page(found)))
    console.print(f"written: {PAGE.relative_to(ROOT)} and {len(pictures)} pictures", markup=False)
    return {"pictures": pictures}


def page(found: dict[str, Any]) -> Iterator[str]:
    """The lines of the page."""
    around, settings = found["environment"], found["settings"]
    count = settings["rounds made"]
    abouts = {family.key: family.about for family in FAMILIES}
    yield "# Benchmarks"
    yield ""
    yield "What one run of the suite measured. `python -m benchmarks publish` writes this page from its `results.json`;"
    yield "[Performance](performance.md) says how to run it, what is compared and where the time goes,"
    yield "[Growth](scaling.md) what follows for more of everything."
    yield ""
    yield (
        f"{around['time']}; {around['processors']} processors ({around['processor']}), {around['memory']}, "
        f"{around['system'].split()[0]}, load {around['load before']} before. Python {around['python']}, "
        f"RabbitMQ {around.get('rabbitmq', '-')}, Redis {around.get('redis', '-')}, "
        + ", ".join(f"{name} {around[name]}" for name in ("pika", "aio-pika", "msgspec", "uvloop") if around.get(name))
        + "."
    )
    yield ""
    yield (
        f"{count} round{'' if count == 1 else 's'} of {settings['seconds']} s, in which all take turns; medians, with "
        "the least and the greatest round. Absolute figures say little of another machine; ratios say more."
    )
    yield ""
    verdicts = goals.judge_all(Outcome(runs=found["runs"]), CATALOGUE.cases)  # by the targets and reasons of today
    if verdicts:
        yield from _targets(verdicts)
    for family in found["families"]:
        yield f"## {family['title']}"
        yield ""
        yield abouts.get(family["key"], "")
        yield ""
        yield f"![{family['title']}](images/benchmarks/{family['key']}.svg)"
        yield ""
        yield from _points(family)
    if found["missing"]:
        yield "## Not measured"
        yield ""
        yield from _table(("what", "why"), list(found["missing"].items()))


def _targets(verdicts: Sequence[goals.Verdict]) -> Iterator[str]:
    met = sum(one["reached"] is True for one in verdicts)
    missed = sum(one["reached"] is False for one in verdicts)
    yield "## Targets"
    yield ""
    yield (
        f"Every target that was set for the library: {met} are met in this run, {missed} are not. "
        "A, P, P1 are the peers that [Performance](performance.md#method) describes."
    )
    yield ""
    yield from _table(goals.HEADINGS, goals.rows(verdicts))


def _points(family: dict[str, Any]) -> Iterator[str]:
    points = family["points"]
    many = len({point["series"] for point in points}) > 1
    rows = []
    for point in points:
        unit = MEASURES[point["measure"]]
        shown = unit.show(point["median"])
        if point["rounds"] > 1:
            shown = unit.spread(point["least"], point["median"], point["greatest"])
        where = f"{point['x']:,}" if isinstance(point["x"], int) else str(point["x"])
        rows.append((where, *([point["series"]] if many else []), shown))
    yield '??? note "The numbers"'
    yield ""
    head = ("", *([""] if many else []), MEASURES[family["measure"]].title)
    yield from (f"    {line}".rstrip() for line in _table(head, rows))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""
