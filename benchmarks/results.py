"""What is saved: every number of every run, and how to read it; and what became slower than in another file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.families import Family, Point
from benchmarks.rounds import Outcome
from benchmarks.units import MEASURES

FORMAT = 1
FLOOR = 0.05
"""A smaller difference is never more than noise: the machine itself drifts as much between two runs."""
ENOUGH = 3
"""Rounds on both sides, below which a spread says too little."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One point of one family: its numbers, their median and their spread."""

    point: Point
    measure: str
    values: tuple[float, ...]
    ratio: tuple[float, ...] = ()
    """Multiples of the point that the family is compared with, within the rounds."""

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.point.x:,}" if isinstance(self.point.x, int) else str(self.point.x)

    @property
    def middle(self) -> float:
        """The median."""
        return statistics.median(self.values)

    def text(self) -> str:
        """``458 (455 - 465) µs``, or the number alone if there was one run."""
        unit = MEASURES[self.measure]
        if len(self.values) == 1:
            return unit.show(self.middle)
        return unit.spread(min(self.values), self.middle, max(self.values))

    def ratio_text(self) -> str:
        """``10.1 (9.9 - 11.2)``."""
        if not self.ratio:
            return ""
        low, middle, high = min(self.ratio), statistics.median(self.ratio), max(self.ratio)
        return f"{middle:.2f} ({low:.2f} - {high:.2f})" if len(self.ratio) > 1 else f"{middle:.2f}"


def lines(family: Family, outcome: Outcome, *, quick: bool) -> list[Line]:
    """The points of a family that were measured."""
    points: Sequence[Point] = outcome.points.get(family.key, ()) if family.probe else family.chosen(quick=quick)
    base = [found.get(family.measure, 0.0) for found in outcome.runs.get(family.compared, ())]
    made = []
    for point in points:
        measure = point.measure or family.measure
        values = tuple(found[measure] for found in outcome.runs.get(point.key, ()) if measure in found)
        if not values:
            continue
        ratio = tuple(mine / other for mine, other in zip(values, base, strict=False) if other)
        made.append(Line(point=point, measure=measure, values=values, ratio=ratio if family.compared else ()))
    return made


def document(
    families: Sequence[Family],
    outcome: Outcome,
    *,
    environment: dict[str, Any],
    settings: dict[str, Any],
    verdicts: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """``results.json``."""
    shown = []
    for family in families:
        found = [
            {"key": line.point.key, "x": line.point.x, "series": line.point.series, "measure": line.measure}
            | {"median": line.middle, "least": min(line.values), "greatest": max(line.values)}
            | {"rounds": len(line.values)}
            for line in lines(family, outcome, quick=settings["quick"])
        ]
        shown.append({"key": family.key, "title": family.title, "measure": family.measure, "points": found})
    return {
        "format": FORMAT,
        "environment": environment,
        "settings": settings,
        "families": [family for family in shown if family["points"]],
        "missing": outcome.missing,
        "verdicts": list(verdicts),
        "runs": outcome.runs,
    }


@dataclass(frozen=True, kw_only=True)
class Change:
    """A number beside the same of another run. `factor`: new by old. `verdict`: slower, faster, noise or unsure."""

    family: str
    key: str
    x: str
    series: str
    measure: str
    old: float
    new: float
    verdict: str

    @property
    def factor(self) -> float:
        """New by old."""
        return self.new / self.old if self.old else 1.0

    def text(self) -> str:
        """``1.31 x, slower``."""
        return f"{self.factor:.2f} x" + (f", {self.verdict}" if self.verdict != "noise" else "")


def judge(measure: str, old: dict[str, float], new: dict[str, float]) -> str:
    """Whether two medians differ by more than both spreads: the ranges do not touch, and the step is a real one."""
    step = abs(new["median"] - old["median"])
    wide = max(run["greatest"] - run["least"] for run in (old, new))
    apart = new["least"] > old["greatest"] or new["greatest"] < old["least"]
    if not apart or step <= wide or step <= FLOOR * abs(old["median"]):
        return "noise"
    if min(old["rounds"], new["rounds"]) < ENOUGH:
        return "unsure"
    more = new["median"] > old["median"]
    better = more == MEASURES[measure].more_is_better
    return "faster" if better else "slower"


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """All that both have."""
    known = {(family["key"], *_place(point)): point for family in old["families"] for point in family["points"]}
    found = []
    for family in new["families"]:
        for point in family["points"]:
            before = known.get((family["key"], *_place(point)))
            if before is None:
                continue
            found.append(
                Change(
                    family=family["key"],
                    key=point["key"],
                    x=str(point["x"]),
                    series=point["series"],
                    measure=point["measure"],
                    old=before["median"],
                    new=point["median"],
                    verdict=judge(point["measure"], before, point),
                )
            )
    return found


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What makes two files hard to compare: another machine, other servers, other settings."""
    names = ("processors", "processor", "memory", "system", "python", "rabbitmq", "redis")
    here = [(name, old["environment"].get(name), new["environment"].get(name)) for name in names]
    here += [(name, old["settings"].get(name), new["settings"].get(name)) for name in ("seconds", "loop")]
    return [f"{name}: {before} then, {now} now" for name, before, now in here if before != now]


def load(path: Path) -> dict[str, Any]:
    """A file of another run; `ValueError` for what is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is no results.json of this suite (format {FORMAT})")
    return found


def _place(point: dict[str, Any]) -> tuple[str, str, str, str]:
    return point["key"], str(point["x"]), point["series"], point["measure"]
