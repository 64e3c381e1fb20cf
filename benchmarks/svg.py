"""Charts as SVG, without a library: lines over a number, or bars beside names, each with its spread.

Colours are CSS variables with a light and a dark set. A chart carries its style, so that it can
stand alone in a page of the docs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from benchmarks.families import Family
from benchmarks.results import Line
from benchmarks.units import MEASURES, number

WIDTH, TOP, RIGHT, BOTTOM = 760, 34, 24, 46
LINES_HEIGHT, BAR, GAP = 320, 17, 11
LABEL_WIDTH, CHARACTER = 300, 6.6
SERIES = 6
STYLE = """
.chart{--ink:#1f2933;--soft:#64748b;--grid:#e2e8f0;--paper:#ffffff;
--s0:#2563eb;--s1:#ea7317;--s2:#0f9d76;--s3:#9b4dca;--s4:#d1345b;--s5:#0e7490;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-size:12px}
@media (prefers-color-scheme:dark){.chart{--ink:#e5e9f0;--soft:#9aa7b8;--grid:#2f3a48;--paper:#161c24;
--s0:#6ea8fe;--s1:#ffa24c;--s2:#4fd1a5;--s3:#c792ea;--s4:#ff7b9c;--s5:#56c7dc}}
.chart .paper{fill:var(--paper)}.chart text{fill:var(--ink)}.chart .soft{fill:var(--soft)}
.chart .grid{stroke:var(--grid);stroke-width:1}.chart .whisker{stroke:var(--ink);stroke-width:1.2;opacity:.65}
.chart .line{fill:none;stroke-width:2.2;stroke-linejoin:round}
""".replace("\n", "")
STYLE += "".join(
    f".chart .f{place}{{fill:var(--s{place})}}.chart .l{place}{{stroke:var(--s{place})}}" for place in range(SERIES)
)


class Scale:
    """Values to pixels. Logarithmic where the values differ by more than `wide`."""

    def __init__(self, values: Sequence[float], begin: float, end: float, wide: float) -> None:
        least, most = min(values), max(values)
        self.log = least > 0 and most / least > wide
        self.begin, self.end = begin, end
        if self.log:
            self.low, self.high = 10.0 ** math.floor(math.log10(least)), most * 1.15
        else:
            self.low, self.high = 0.0, most * 1.08 or 1.0

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Round numbers between low and high."""
        if self.log:
            first, last = round(math.log10(self.low)), math.floor(math.log10(self.high))
            steps = (1,) if last - first > 2 else (1, 2, 5)
            places = [10.0**power * times for power in range(first, last + 1) for times in steps]
            return [place for place in places if self.low <= place <= self.high]
        rough = self.high / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
        return [step * count for count in range(int(self.high / step) + 1)]


def chart(family: Family, lines: Sequence[Line]) -> str:
    """The chart that suits the points."""
    if family.stacked:
        return _stacks(family, lines)
    names = {line.point.x for line in lines}
    if all(isinstance(x, int | float) for x in names) and len(names) > 1:
        return _curves(family, lines)
    return _bars(family, lines)


def _series(lines: Sequence[Line]) -> list[str]:
    """In their order, but ours has the first colour wherever it stands beside others."""
    found = dict.fromkeys(line.point.series for line in lines)
    return sorted(found, key=lambda name: name != "resilient_rpc")


def _ticks(measure: str) -> Callable[[float], str]:
    unit = MEASURES[measure]

    def label(value: float) -> str:
        worth, name = unit.step(value)
        return f"{value / worth:,.10g} {name}".strip() if value else "0"

    return label


def _curves(family: Family, lines: Sequence[Line]) -> str:
    height, left = LINES_HEIGHT, 104
    xs = sorted({float(line.point.x) for line in lines})
    wide_x = math.log(xs[-1] / xs[0]) if xs[0] > 0 else 0.0
    across: Callable[[float], float]
    if wide_x > math.log(8):
        across = lambda x: left + 16 + (WIDTH - RIGHT - left - 32) * math.log(x / xs[0]) / wide_x  # noqa: E731
    else:
        across = lambda x: left + 16 + (WIDTH - RIGHT - left - 32) * (x - xs[0]) / ((xs[-1] - xs[0]) or 1)  # noqa: E731
    up = Scale([value for line in lines for value in line.values], height - BOTTOM, TOP + 8, 40)
    label, parts = _ticks(family.measure), []
    for tick in up.ticks():
        at = up(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="soft" x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{label(tick)}</text>')
    for x in xs:
        shown = f"{x:,.0f}"
        parts.append(
            f'<text class="soft" x="{across(x):.1f}" y="{height - BOTTOM + 18}" text-anchor="middle">{shown}</text>'
        )
    parts.append(
        f'<text class="soft" x="{(left + WIDTH - RIGHT) / 2:.0f}" y="{height - 8}" text-anchor="middle">'
        f"{escape(family.axis)}</text>"
    )
    for place, name in enumerate(_series(lines)):
        own = sorted((line for line in lines if line.point.series == name), key=lambda line: float(line.point.x))
        colour = place % SERIES
        spots = [(across(float(line.point.x)), line) for line in own]
        band = [f"{x:.1f},{up(max(line.values)):.1f}" for x, line in spots]
        band += [f"{x:.1f},{up(min(line.values)):.1f}" for x, line in reversed(spots)]
        path = " ".join(f"{x:.1f},{up(line.middle):.1f}" for x, line in spots)
        parts.append(f'<polygon class="f{colour}" opacity=".16" points="{" ".join(band)}"/>')
        parts.append(f'<polyline class="line l{colour}" points="{path}"/>')
        for x, line in spots:
            hint = escape(f"{name}, {line.name} {family.axis}: {line.text()}")
            parts.append(
                f'<circle class="f{colour}" cx="{x:.1f}" cy="{up(line.middle):.1f}" r="3.6">'
                f"<title>{hint}</title></circle>"
            )
    return _frame(family, height, _series(lines), parts)


def _bars(family: Family, lines: Sequence[Line]) -> str:
    names = list(dict.fromkeys(line.name for line in lines))
    series = _series(lines)
    many = len(series)
    left = min(LABEL_WIDTH, int(max(map(len, names)) * CHARACTER) + 20)
    right = WIDTH - RIGHT - 120
    along = Scale([value for line in lines for value in line.values], left, right, 1000)
    side_by_side = len(lines) > len(names)
    thick = BAR - 4 if side_by_side else BAR
    parts, y = [], float(TOP + (6 if many > 1 else -10))
    for name in names:
        own = [line for line in lines if line.name == name]
        middle = y + len(own) * thick / 2 + 4
        parts.append(f'<text x="{left - 10}" y="{middle:.1f}" text-anchor="end">{escape(name)}</text>')
        for line in own:
            colour = series.index(line.point.series) % SERIES
            end = along(line.middle)
            hint = escape(f"{name}: {line.text()}")
            parts.append(
                f'<rect class="f{colour}" x="{left}" y="{y:.1f}" width="{max(end - left, 1):.1f}" '
                f'height="{thick - 2}" rx="2"><title>{hint}</title></rect>'
            )
            least, most = along(min(line.values)), along(max(line.values))
            if most - least > 1:
                at = y + (thick - 2) / 2
                parts.append(f'<line class="whisker" x1="{least:.1f}" x2="{most:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
            shown = MEASURES[line.measure].show(line.middle)
            parts.append(f'<text class="soft" x="{max(end, most) + 6:.1f}" y="{y + thick - 5:.1f}">{shown}</text>')
            y += thick
        y += GAP if side_by_side else GAP - 4
    note = "the bars are logarithmic" if along.log else ""
    return _frame(family, int(y + (22 if note else 6)), series if many > 1 else [], parts, note)


def _stacks(family: Family, lines: Sequence[Line]) -> str:
    names = list(dict.fromkeys(line.name for line in lines))
    series = _series(lines)
    left = min(LABEL_WIDTH, int(max(map(len, names)) * CHARACTER) + 20)
    totals = {name: sum(line.middle for line in lines if line.name == name) for name in names}
    along = Scale([*totals.values()], left, WIDTH - RIGHT - 120, math.inf)
    parts, y = [], float(TOP + 6)
    for name in names:
        parts.append(f'<text x="{left - 10}" y="{y + 12:.1f}" text-anchor="end">{escape(name)}</text>')
        reached = 0.0
        for line in [line for line in lines if line.name == name]:
            begin, end = along(reached), along(reached + line.middle)
            hint = escape(f"{name}, {line.point.series}: {line.text()}")
            parts.append(
                f'<rect class="f{series.index(line.point.series) % SERIES}" x="{begin:.1f}" y="{y:.1f}" '
                f'width="{max(end - begin, 0.5):.1f}" height="{BAR - 2}"><title>{hint}</title></rect>'
            )
            reached += line.middle
        parts.append(f'<text class="soft" x="{along(reached) + 6:.1f}" y="{y + 12:.1f}">{number(reached)} µs</text>')
        y += BAR + GAP - 4
    return _frame(family, int(y + 6), series, parts)


def _frame(family: Family, height: int, series: Sequence[str], parts: Sequence[str], note: str = "") -> str:
    legend, x = [], 12.0
    for place, name in enumerate(series if len(series) > 1 else ()):
        legend.append(f'<rect class="f{place % SERIES}" x="{x:.0f}" y="10" width="11" height="11" rx="2"/>')
        legend.append(f'<text x="{x + 16:.0f}" y="20">{escape(name)}</text>')
        x += 16 + len(name) * CHARACTER + 22
    below = f'<text class="soft" x="{WIDTH - RIGHT}" y="{height - 8}" text-anchor="end">{note}</text>' if note else ""
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(family.title, quote=True)}"><style>{STYLE}</style>'
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>{"".join(legend)}{"".join(parts)}{below}</svg>'
    )
