"""``report.html``: one file, no script, nothing loaded; light or dark as the reader's system is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from benchmarks.families import Family
from benchmarks.goals import HEADINGS
from benchmarks.results import Change, Line
from benchmarks.svg import chart
from benchmarks.units import MEASURES, number

STYLE = """
:root{color-scheme:light dark;--ink:#1f2933;--soft:#5b6b7c;--paper:#f5f7fa;--card:#fff;--edge:#e2e8f0;--good:#0b7a4b;
--bad:#b42318;--accent:#2563eb}
@media (prefers-color-scheme:dark){:root{--ink:#e5e9f0;--soft:#9aa7b8;--paper:#0f141a;--card:#161c24;--edge:#2a3440;
--good:#4fd1a5;--bad:#ff8f80;--accent:#6ea8fe}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1020px;margin:0 auto;padding:32px 20px 64px}h1{margin:0;font-size:28px}h2{margin:0;font-size:19px}
p{margin:6px 0 12px;color:var(--soft);max-width:76ch}a{color:var(--accent);text-decoration:none}
section{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:20px 22px;margin:20px 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:22px 0}
.card{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:14px 16px}
a.card{color:inherit}.card b{display:block;font-size:24px;line-height:1.3}.card span{color:var(--soft);font-size:13px}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:14px;margin:14px 0}
svg{width:100%;height:auto;display:block;max-width:860px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13.5px;margin-top:10px}
th,td{text-align:right;padding:4px 10px;border-bottom:1px solid var(--edge);white-space:nowrap}
th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left;white-space:normal}
td{font-variant-numeric:tabular-nums}.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}
summary{cursor:pointer;color:var(--soft);font-size:14px;margin-top:8px}dl{display:grid;
grid-template-columns:max-content 1fr;gap:2px 18px;margin:8px 0;font-size:14px}dt{color:var(--soft)}dd{margin:0}
""".replace("\n", "")


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the report shows."""

    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    families: Sequence[tuple[Family, Sequence[Line]]]
    verdicts: Sequence[tuple[str, ...]] = ()
    """Rows of `goals.HEADINGS`."""
    unmeasured: Sequence[str] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    differences: Sequence[str] = ()
    compared: str = ""


def render(page: Page) -> str:
    """The file's text."""
    of, settings = page.environment, page.settings
    count = settings.get("rounds made", 0)
    made = f"in {count} round{'' if count == 1 else 's'} of {settings.get('seconds')} s in which all take turns"
    intro = (
        f"<h1>What resilient_rpc costs</h1><p>Measured {escape(str(of.get('time', '')))} on {of.get('processors')} "
        f"processors, {made}. Numbers are medians, with the least and the greatest round. Absolute figures say little "
        "of another machine; ratios say more.</p>"
    )
    parts = [
        intro,
        _cards(page),
        "<nav>"
        + "".join(f'<a href="#{family.key}">{escape(family.title)}</a>' for family, _ in page.families)
        + ('<a href="#targets">Targets</a>' if page.verdicts else "")
        + "</nav>",
        _changes(page),
        *[_family(family, lines, page.changes) for family, lines in page.families],
        _verdicts(page),
        _missing(page),
        _about(page),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width,initial-scale=1"><title>resilient_rpc: benchmark</title>'
        f"<style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _cards(page: Page) -> str:
    """The numbers that most people come for."""
    shown = []
    wanted = (
        ("peers", "async-1024", "calls a second, 1,024 in flight"),
        ("peers", "threads-64", "calls a second, 64 threads"),
        ("alone", "async-1", "for a single call, p50"),
        ("policies", "policy-the default chain-asyncio", "for the default policies"),
    )
    for family_key, key, about in wanted:
        for family, lines in page.families:
            for line in lines if family.key == family_key else ():
                if line.point.key == key:
                    text = MEASURES[line.measure].show(line.middle).removesuffix(" calls/s")
                    more = f": {number(statistics.median(line.ratio))} x {_name(family, lines)}" if line.ratio else ""
                    shown.append(f'<div class="card"><b>{escape(text)}</b><span>{escape(about + more)}</span></div>')
    judged = [reached for *_, reached, _ in page.verdicts if reached in {"yes", "no"}]
    if judged:
        met = f"{judged.count('yes')} of {len(judged)}"
        shown.append(f'<a class="card" href="#targets"><b>{met}</b><span>targets met</span></a>')
    return f'<div class="cards">{"".join(shown)}</div>' if shown else ""


def _family(family: Family, lines: Sequence[Line], changes: Sequence[Change]) -> str:
    known = {(one.key, one.x, one.series, one.measure): one for one in changes if one.family == family.key}
    many = len({line.point.series for line in lines}) > 1
    titles = [
        family.axis or "case",
        *([""] if many else []),
        f"{MEASURES[family.measure].title}, median (least - greatest)",
    ]
    titles += [f"ratio to {_name(family, lines)}"] if family.compared else []
    titles += ["since then"] if changes else []
    rows = []
    for line in lines:
        cells = [escape(line.name), *([escape(line.point.series)] if many else []), escape(line.text())]
        cells += [line.ratio_text()] if family.compared else []
        change = known.get((line.point.key, str(line.point.x), line.point.series, line.measure))
        cells += [_changed(change) if change else ""] if changes else []
        rows.append(cells)
    table = _table(titles, rows)
    return (
        f'<section id="{family.key}"><h2>{escape(family.title)}</h2><p>{escape(family.about)}</p>'
        f"{chart(family, lines)}<details{' open' if changes else ''}><summary>the numbers</summary>{table}</details>"
        "</section>"
    )


def _name(family: Family, lines: Sequence[Line]) -> str:
    return next((line.name for line in lines if line.point.key == family.compared), family.compared)


def _changed(change: Change) -> str:
    kind = {"slower": "bad", "faster": "good"}.get(change.verdict, "")
    return f'<span class="{kind}">{escape(change.text())}</span>'


def _changes(page: Page) -> str:
    if not page.compared:
        return ""
    rows = [
        [
            escape(f"{one.family}: {one.x} {one.series}"),
            MEASURES[one.measure].show(one.old),
            MEASURES[one.measure].show(one.new),
            _changed(one),
        ]
        for one in page.changes
        if one.verdict in {"slower", "faster"}
    ]
    said = f"{len(page.changes)} numbers are in both. " + (
        "" if rows or not page.changes else "None differs by more than the spread of both runs. "
    )
    warned = "".join(f"<li>{escape(text)}</li>" for text in page.differences)
    warning = f"<p class='bad'>The runs are hard to compare:</p><ul>{warned}</ul>" if warned else ""
    table = _table(["number", "then", "now", ""], rows) if rows else ""
    return f"<section><h2>Since {escape(page.compared)}</h2><p>{said}</p>{warning}{table}</section>"


def _verdicts(page: Page) -> str:
    if not page.verdicts:
        return ""
    kinds = {"yes": "good", "no": "bad"}
    rows = [
        [*map(escape, cells), f'<span class="{kinds.get(reached, "")}">{escape(reached)}</span>', escape(why)]
        for *cells, reached, why in page.verdicts
    ]
    met = sum(reached == "yes" for *_, reached, _ in page.verdicts)
    missed = sum(reached == "no" for *_, reached, _ in page.verdicts)
    said = f"{met} are met, {missed} are not."
    left = "".join(f"<li>{escape(title)}</li>" for title in page.unmeasured)
    if left:
        left = (
            f"<details><summary>{len(page.unmeasured)} that this run says nothing of</summary><ul>{left}</ul></details>"
        )
    return f'<section id="targets"><h2>Targets</h2><p>{said}</p>{_table(HEADINGS, rows)}{left}</section>'


def _missing(page: Page) -> str:
    if not page.missing:
        return ""
    rows = [[escape(name), escape(why)] for name, why in page.missing.items()]
    return f"<section><h2>Not measured</h2>{_table(['what', 'why'], rows)}</section>"


def _about(page: Page) -> str:
    def listed(entries: Mapping[str, Any]) -> str:
        return "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in entries.items())

    return (
        f"<section><h2>Machine and versions</h2><dl>{listed(page.environment)}</dl>"
        f"<h2>Settings</h2><dl>{listed(page.settings)}</dl></section>"
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
