"""What the benchmark makes of its numbers: which differences it believes, what a chart and the report show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import goals, results
from benchmarks.cases import PEERS
from benchmarks.families import Family, Point
from benchmarks.pace import Pace
from benchmarks.plan import Plan, Turn
from benchmarks.report import Page, render
from benchmarks.results import Line
from benchmarks.rounds import Outcome, measure
from benchmarks.svg import chart
from benchmarks.sweeps import CATALOGUE, FAMILIES
from benchmarks.units import MEASURES

KNOWN = {*(peer.key for peer in PEERS), *CATALOGUE.cases}


def numbers(least: float, median: float, greatest: float, rounds: int = 5) -> dict[str, float]:
    return {"least": least, "median": median, "greatest": greatest, "rounds": rounds}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (numbers(95, 100, 105), numbers(70, 75, 80), "slower"),
        (numbers(95, 100, 105), numbers(125, 130, 135), "faster"),
        (numbers(95, 100, 105), numbers(90, 94, 98), "noise"),  # the spreads touch
        (numbers(99, 100, 101), numbers(95.5, 96, 96.5), "noise"),  # apart, but by less than a machine drifts
        (numbers(60, 100, 101), numbers(50, 55, 59), "slower"),
        (numbers(60, 100, 101), numbers(57, 59, 59.5), "noise"),  # apart, but by no more than one of them is wide
        (numbers(100, 100, 100, rounds=1), numbers(50, 50, 50, rounds=1), "unsure"),
    ],
)
def test_a_rate_is_slower_only_beyond_both_spreads(old: dict[str, float], new: dict[str, float], said: str) -> None:
    assert results.judge("calls_per_s", old, new) == said


def test_of_a_time_more_is_slower() -> None:
    assert results.judge("p50_us", numbers(9, 10, 11), numbers(19, 20, 21)) == "slower"
    assert results.judge("p50_us", numbers(19, 20, 21), numbers(9, 10, 11)) == "faster"


FAMILY = Family(
    key="window",
    title="By <window>",
    about="A & B",
    axis="in flight",
    points=(
        Point(key="one", x=1, series="S"),
        Point(key="two", x=64, series="S"),
        Point(key="none", x=256, series="S"),
    ),
    compared="one",
)


def outcome(factor: float = 1.0) -> Outcome:
    runs = {
        "one": [{"calls_per_s": value} for value in (90.0, 100.0, 110.0)],
        "two": [{"calls_per_s": value * factor} for value in (190.0, 200.0, 210.0)],
    }
    return Outcome(runs=runs, rounds=3, missing={"nameko": "it needs <another> Python"})


def document(factor: float = 1.0, seconds: float = 1.0) -> dict[str, Any]:
    settings = {"quick": False, "seconds": seconds}
    return results.document([FAMILY], outcome(factor), environment={"processors": 2}, settings=settings, verdicts=[])


def test_a_line_has_its_median_its_spread_and_ratios_within_the_rounds() -> None:
    one, two = results.lines(FAMILY, outcome(), quick=False)  # what was not measured has none
    assert two.text() == "200 (190 - 210) calls/s"
    assert two.ratio == pytest.approx((190 / 90, 2.0, 210 / 110))
    assert one.ratio_text() == "1.00 (1.00 - 1.00)"


def test_the_comparison_marks_what_became_slower_and_warns_of_other_settings() -> None:
    old, new = document(), document(factor=0.5, seconds=2.0)
    assert {change.key: change.verdict for change in results.changes(old, new)} == {"one": "noise", "two": "slower"}
    assert results.differences(old, new) == ["seconds: 1.0 then, 2.0 now"]


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    for text in ("{", "[]", '{"format": 0}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"results\.json"):
            results.load(file)


def test_the_report_stands_alone_and_escapes_what_it_shows() -> None:
    found, changes = outcome(0.5), results.changes(document(), document(factor=0.5))
    lines = results.lines(FAMILY, found, quick=False)
    page = Page(
        environment={"time": "today", "processors": 2},
        settings={"rounds made": 3, "seconds": 1.0},
        families=[(FAMILY, lines)],
        verdicts=[("two", "2.0", "≥ 1 x one", "yes", ""), ("three", "0.5", "≥ 1 x one", "no", "so <slow>")],
        unmeasured=["four & five"],
        missing=found.missing,
        changes=changes,
        compared="old.json",
    )
    html = render(page)
    for shown in (
        "By &lt;window&gt;",
        "A &amp; B",
        "&lt;another&gt;",
        "0.50 x, slower",
        "100 (95.0 - 105) calls/s",
        "so &lt;slow&gt;",
        "four &amp; five",
    ):
        assert shown in html
    for outside in ("<script", "<link", "<img", "url("):
        assert outside not in html
    assert html.replace("http://www.w3.org/2000/svg", "").count("http") == 0


@pytest.mark.parametrize("kind", ["lines", "bars", "stacked", "wide"])
def test_a_chart_is_well_formed_and_names_every_number(kind: str) -> None:
    places: list[Any] = ["a <b>", "c"] if kind == "bars" else [1, 64]
    spread = 1e5 if kind == "wide" else 2.0
    lines = [
        Line(point=Point(key=f"{x}{s}", x=x, series=s), measure="p50_us", values=(n * spread**n, n * spread**n * 1.2))
        for n, x in enumerate(places, 1)
        for s in ("client", "server")
    ]
    family = Family(key="k", title="A title", about="", measure="p50_us", axis="x", stacked=kind == "stacked")
    drawn = ET.fromstring(chart(family, lines))  # noqa: S314 - ours
    hints = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert len(hints) == len(lines)
    values = [float(v) for e in drawn.iter() for k, v in e.attrib.items() if k in {"x", "y", "cx", "cy", "width"}]
    assert min(values) >= 0
    assert max(values) <= 760


def test_a_peer_that_fails_is_missing_and_a_failure_of_ours_ends_it() -> None:
    def fail(_: Plan) -> list[tuple[None, dict[str, float]]]:
        raise RuntimeError("trace\nnameko-client ended with 1")

    peer, ours = Turn("nameko", fail, key="N", ours=False), Turn("async-64", fail, key="async-64")
    pace = Pace(Plan(url="amqp://nowhere", rounds=3))
    assert measure([peer], pace, lambda *_: None).missing == {"nameko": "nameko-client ended with 1"}
    with pytest.raises(RuntimeError):
        measure([ours], pace, lambda *_: None)


def test_the_catalogue_holds_together() -> None:
    assert len({family.key for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert family.measure in MEASURES
        assert bool(family.points) != bool(family.probe)
        assert {point.key for point in family.points} <= KNOWN, family.key
        assert {point.measure for point in family.points} <= {"", *MEASURES}
        assert not family.compared or family.compared in KNOWN
    assert any(family.chosen(quick=True) for family in FAMILIES)
    shown = {point.key for family in FAMILIES for point in family.points}
    assert {case.key for case in CATALOGUE.cases.values() if case.targets} <= shown  # every target is judged
    commands = [case.command for case in CATALOGUE.cases.values()]
    assert len(set(commands)) == len(commands)  # nothing is measured twice


def test_every_target_is_judged_and_what_is_missed_says_why() -> None:
    runs = {
        "soak-client": [{"growth": 3.0}],
        "soak-server": [{"growth": 0.1}],
        "memory-a call that waits, beyond its task": [{"bytes": 1500.0}],
        "cached-1": [{"p50_us": 3.0}, {"p50_us": 4.0}, {"p50_us": 9.0}],
        "threads-1": [{"p50_us": 900.0}],
        "P1": [{"p50_us": 450.0}],
    }
    found = Outcome(runs=runs, rounds=1)
    rows = {row[0]: row[1:] for row in goals.rows(goals.judge_all(found, CATALOGUE.cases))}
    assert rows["growth of the client over 1,000,000 calls"] == ("3.00 B", "≤ 2.00 B", "no", goals.UNEXPECTED)
    assert rows["growth of the server over 1,000,000 calls"][2] == "yes"
    assert rows["a cache hit, AsyncClient on a broker"] == ("4.00 (3.00 - 9.00) µs", "≤ 5.00 µs", "yes", "")
    case, goal = CATALOGUE.cases["threads-1"], rows["a call that waits, beyond the caller's own task and coroutines"]
    assert rows[case.title] == ("2.00 (2.00 - 2.00)", "≤ 1 x P1", "no", case.targets[0].why)
    assert goal[2] == "no"
    assert "arguments" in goal[3]
    left = goals.unmeasured(found, CATALOGUE.cases)
    assert len(left) + len({verdict["title"] for verdict in goals.judge_all(found, CATALOGUE.cases)}) == len(
        {case.title for case in CATALOGUE.cases.values() if case.targets} | {goal.title for goal in goals.GOALS}
    )
