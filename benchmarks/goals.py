"""The targets: those of cases beside a peer, and those of a number by itself; what was reached, and why not."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.cases import MEDIAN, Case, Target
from benchmarks.policies import CHAIN, HIT, POLICY
from benchmarks.probes import MEMORY_CALLS, SOAK_CALLS
from benchmarks.recordsize import ANSWER
from benchmarks.rounds import Outcome, Runs, ratios
from benchmarks.units import MEASURES


@dataclass(frozen=True, kw_only=True)
class Goal:
    """At most `limit` of a measure, at the point of that key."""

    key: str
    title: str
    measure: str
    limit: float
    why: str = ""


Verdict = dict[str, Any]
UNEXPECTED = "not known: other runs on this kind of machine have met it"
HOURS = "µs of a machine with quicker and slower hours: see what other libraries took in the same run"
MISS = "a miss costs a key, a flight that others can join, a copy that nobody can change, and an eviction"


def _policies() -> Iterator[Goal]:
    names = ("Retry", "CircuitBreaker", "Deadline", "AttemptTimeout", "Bulkhead", "AdaptiveLimit", "RateLimit")
    names += ("Fallback", "Chaos, off", "Hedge, passed by", "Cache, passed by")
    limits = [(name, POLICY, HOURS) for name in names]
    limits += [("the default chain", CHAIN, HOURS), ("Cache that misses, Retry, CircuitBreaker", HIT, MISS)]
    limits += [("a cache hit through client.call", HIT, HOURS)]
    for name, limit, why in limits:
        for colour, who in (("blocking", "Client"), ("asyncio", "AsyncClient")):
            key = f"policy-{name}-{colour}"
            yield Goal(key=key, title=f"{name}, {who}", measure="micros", limit=limit, why=why)


GOALS = (
    Goal(
        key=f"memory-a process with {MEMORY_CALLS:,} calls that wait",
        title=f"resident memory with {MEMORY_CALLS:,} calls that wait",
        measure="bytes",
        limit=450e6,
    ),
    Goal(
        key="memory-a call that waits, beyond its task",
        title="a call that waits, beyond the caller's own task and coroutines",
        measure="bytes",
        limit=1.2 * 1024,
        why="it counts the caller's own arguments too, some 230 B",
    ),
    *(
        Goal(key=f"soak-{who}", title=f"growth of the {who} over {SOAK_CALLS:,} calls", measure="growth", limit=2.0)
        for who in ("client", "server")
    ),
    *(
        Goal(key=f"idle-{who}", title=f"an idle {who}", measure="share", limit=0.005)
        for who in ("server", "AsyncClient", "Client")
    ),
    Goal(
        key="until-no such service",
        title="until a caller knows that there is no such service",
        measure="elapsed_us",
        limit=100e3,
    ),
    Goal(
        key="recovery",
        title="the first call after a restart of the broker",
        measure="elapsed_us",
        limit=5e6,
    ),
    *_policies(),
    Goal(key="cached-1", title="a cache hit, AsyncClient on a broker", measure=MEDIAN, limit=HIT),
    Goal(key="cached-threads-1", title="a cache hit, Client on a broker", measure=MEDIAN, limit=HIT),
    Goal(key="keyed-1", title="a fresh key: round trips to Redis", measure="round_trips", limit=2.01),
    Goal(key="keyed-1-replay", title="a replay: round trips to Redis", measure="round_trips", limit=1.01),
    Goal(
        key="memory-a record in Redis",
        title=f"a record in Redis, with a reply of {len(ANSWER)} B",
        measure="bytes",
        limit=512 + len(ANSWER),
    ),
)


def judge_all(outcome: Outcome, cases: Mapping[str, Case]) -> list[Verdict]:
    """The verdicts of all that was measured."""
    runs = outcome.runs
    made = [judge(runs, case, target) for case in cases.values() if runs.get(case.key) for target in case.targets]
    return made + [alone(goal, found) for goal in GOALS if (found := _values(runs, goal))]


def _values(runs: Runs, goal: Goal) -> list[float]:
    return [found[goal.measure] for found in runs.get(goal.key, ()) if goal.measure in found]


def judge(runs: Runs, case: Case, target: Target) -> Verdict:
    """Whether a case reached what it shall; `reached` is None without the peer."""
    found = ratios(runs, case, target)
    ratio = statistics.median(found) if found else None
    at_most = case.unit == MEDIAN
    reached = None if ratio is None else ratio <= target.limit if at_most else ratio >= target.limit
    measured = "-"
    if ratio is not None:
        low, high = min(found), max(found)
        measured = f"{ratio:.2f} ({low:.2f} - {high:.2f})"
        if target.more:
            measured = f"+ {ratio:.0f} ({low:.0f} - {high:.0f}) µs"
    wanted = f"{'≤' if at_most else '≥'} {target.limit:g} x {target.peer}"
    return {
        "case": case.key,
        "peer": target.peer,
        "title": case.title,
        "measured": measured,
        "target": f"≤ {target.peer} + {target.limit:g} µs" if target.more else wanted,
        "ratios": found,
        "reached": reached,
        "why": "" if reached is not False else target.why or UNEXPECTED,
    }


def alone(goal: Goal, found: Sequence[float]) -> Verdict:
    """Whether a number is as small as it shall be."""
    unit, middle = MEASURES[goal.measure], statistics.median(found)
    reached = middle <= goal.limit
    return {
        "case": goal.key,
        "peer": "",
        "title": goal.title,
        "measured": unit.spread(min(found), middle, max(found)) if len(found) > 1 else unit.show(middle),
        "target": f"≤ {unit.show(goal.limit)}",
        "ratios": [],
        "reached": reached,
        "why": "" if reached else goal.why or UNEXPECTED,
    }


def rows(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """What, measured, target, reached, why not."""
    said = {True: "yes", False: "no", None: "not compared"}
    return [(one["title"], one["measured"], one["target"], said[one["reached"]], one["why"]) for one in verdicts]


def unmeasured(outcome: Outcome, cases: Mapping[str, Case]) -> list[str]:
    """The targets of which this run says nothing."""
    names = [case.title for case in cases.values() if case.targets and not outcome.runs.get(case.key)]
    return names + [goal.title for goal in GOALS if not _values(outcome.runs, goal)]


HEADINGS = ("what", "measured", "target", "reached", "why not")
