"""Rounds in which all parties take turns, until the rounds or the time are used up."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import psutil

from benchmarks import broker
from benchmarks.cases import IDEAL_US, PEERS, Case, Peer, Target
from benchmarks.families import Catalogue, Family, Found, Point
from benchmarks.peers import environments
from benchmarks.plan import Plan
from benchmarks.process import party, starting

Runs = dict[str, list[Found]]
"""For each key of a point what was found, a round each."""
START_SECONDS = 1.5
"""What a client and a server take to start, for a first guess."""

PROBE_SECONDS = 10.0


@dataclass
class Turn:
    """One thing that a round does: a case or a peer, or the probe of a family."""

    name: str
    run: Callable[[], Iterable[tuple[Point | None, Found]]]
    key: str = ""
    """Of the case or the peer."""
    once: bool = False
    ours: bool = True
    guess: float = START_SECONDS


@dataclass
class Outcome:
    """All that was found."""

    runs: Runs = field(default_factory=dict)
    points: dict[str, list[Point]] = field(default_factory=dict)
    """Of the probes, by the key of their family."""
    missing: dict[str, str] = field(default_factory=dict)
    """What was not measured, and why."""
    rounds: int = 0


def wanted(families: Sequence[Family], catalogue: Catalogue, plan: Plan, only: Sequence[str] = ()) -> list[Case | Peer]:
    """The cases and the peers behind the points of the families, in the order of a round; `only`: of these cases."""
    keys = [point.key for family in families for point in family.chosen(quick=plan.quick)]
    cases = [case for key, case in catalogue.cases.items() if (key in only if only else key in keys)]
    compared = {target.peer for case in cases for target in case.targets} | set(() if only else keys)
    return [*(peer for peer in PEERS if peer.key in compared and peer.key in plan.peers), *cases]


def turns(families: Sequence[Family], parties: Sequence[Case | Peer], plan: Plan) -> list[Turn]:
    """What a round does."""
    process = broker.process(plan.url)

    def of(one: Case | Peer) -> Turn:
        ours = isinstance(one, Case)
        guess = START_SECONDS + plan.seconds
        return Turn(one.title, lambda: [(None, run(plan, one, process))], key=one.key, ours=ours, guess=guess)

    def probing(family: Family) -> Turn:
        assert family.probe is not None
        measure = family.probe.run
        once = family.probe.once or plan.quick
        return Turn(family.title, lambda: measure(plan), key=family.key, once=once, guess=PROBE_SECONDS)

    chosen = [family for family in families if family.probe and (family.quick or not plan.quick)]
    last = [family for family in chosen if family.key == "recovery"]  # it takes the broker from the others
    return [*map(probing, [family for family in chosen if family not in last]), *map(of, parties), *map(probing, last)]


def measure(todo: Sequence[Turn], plan: Plan, tell: Callable[[int, Turn], None]) -> Outcome:
    """Run it all. A failure of ours ends it; a peer's is noted, and the peer left out from then on."""
    outcome, begin = Outcome(), time.monotonic()
    for number in range(1, plan.rounds + 1):
        for turn in todo:
            if turn.name in outcome.missing or (turn.once and number > 1):
                continue
            if time.monotonic() - begin + turn.guess > plan.budget:
                if number == 1:
                    outcome.missing[turn.name] = f"no time was left of {plan.budget:,.0f} s"
                continue
            tell(number, turn)
            started = time.monotonic()
            try:
                _note(outcome, turn, list(turn.run()))
            except (RuntimeError, OSError) as error:
                if turn.ours:
                    raise
                outcome.missing[turn.name] = str(error).strip().splitlines()[-1][:300]
                outcome.runs.pop(turn.key, None)
            turn.guess = time.monotonic() - started
            outcome.rounds = number
    return outcome


def _note(outcome: Outcome, turn: Turn, found: Sequence[tuple[Point | None, Found]]) -> None:
    if not found:
        outcome.missing[turn.name] = "it needs a broker of its own: leave --broker out"
    for point, numbers in found:
        outcome.runs.setdefault(turn.key if point is None else point.key, []).append(numbers)
        if point is not None and point not in outcome.points.setdefault(turn.key, []):
            outcome.points[turn.key].append(point)


def run(plan: Plan, one: Case | Peer, process: psutil.Process | None) -> Found:
    """Servers, a client, and what the client reports; with the processor time of a call in each process."""
    service = f"bench{secrets.token_hex(4)}"
    common = ("--url", plan.url, "--service", service, "--seconds", str(plan.seconds), "--loop", plan.loop)
    if plan.redis:
        common = (*common, "--redis", plan.redis)
    how = environments.interpreter(one.environment) if isinstance(one, Peer) and one.environment else None
    try:
        with (
            starting(one.servers, *one.server, *common, how=how) as serving,
            party(*one.client, *common, "--hold", how=how) as client,  # it imports while the servers do
        ):
            for server in serving:
                server.hear("ready")
            client.go()
            client.hear("begin")
            before = sum(server.cpu() for server in serving), _cpu(process)
            found = client.hear("done")
            after = sum(server.cpu() for server in serving), _cpu(process)
    finally:
        broker.forget(plan.url, f"rpc.{service}")
    for name, begin, end in zip(("server", "broker"), before, after, strict=True):
        found[f"{name}_cpu_us"] = (end - begin) / found["calls"] * 1e6
    if "--payload" in one.client:
        found["bytes_per_s"] = found["calls_per_s"] * int(one.client[one.client.index("--payload") + 1])
    return {name: value for name, value in found.items() if name != "event"}


def _cpu(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return times.user + times.system


def ratios(runs: Runs, case: Case, target: Target) -> list[float]:
    """The case's number as a multiple of the peer's, or what it has more, for each round."""
    peer = target.peer
    ours = [found[case.unit] for found in runs[case.key]]
    theirs = [IDEAL_US] * len(ours) if peer == "ideal" else [found[case.unit] for found in runs.get(peer, ())]
    pairs = zip(ours, theirs, strict=False)
    return [mine - other if target.more else mine / other for mine, other in pairs]
