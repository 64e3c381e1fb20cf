"""Rounds in which all parties take turns, until the rounds or the time are used up."""

from __future__ import annotations

import contextlib
import secrets
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks import broker, store
from benchmarks.cases import IDEAL_US, PEERS, Case, Peer, Target
from benchmarks.families import Catalogue, Family, Found, Point
from benchmarks.pace import Pace
from benchmarks.peers import environments
from benchmarks.plan import Plan, Turn
from benchmarks.process import party, shards

Runs = dict[str, list[Found]]
"""For each key of a point what was found, a round each."""
START_SECONDS, PEER_SECONDS = 0.7, 2.0
"""What a client and a server take to start, and those of a peer, for a first guess."""


@dataclass
class Outcome:
    """All that was found."""

    runs: Runs = field(default_factory=dict)
    points: dict[str, list[Point]] = field(default_factory=dict)
    """Of the probes, by the key of their family."""
    missing: dict[str, str] = field(default_factory=dict)
    """What was not measured, and why."""
    rounds: int = 0
    notes: list[str] = field(default_factory=list)
    """Where the time did not suffice for the plan."""


def wanted(families: Sequence[Family], catalogue: Catalogue, plan: Plan, only: Sequence[str] = ()) -> list[Case | Peer]:
    """The cases and the peers behind the points of the families, in the order of a round; `only`: of these cases."""
    keys = [point.key for family in families for point in family.chosen(quick=plan.quick)]
    cases = [case for key, case in catalogue.cases.items() if (key in only if only else key in keys)]
    compared = {target.peer for case in cases for target in case.targets} | set(() if only else keys)
    return [*(peer for peer in PEERS if peer.key in compared and peer.key in plan.peers), *cases]


def turns(families: Sequence[Family], parties: Sequence[Case | Peer], plan: Plan) -> list[Turn]:
    """What a round does."""

    def of(one: Case | Peer) -> Turn:
        start = PEER_SECONDS if isinstance(one, Peer) and one.environment else START_SECONDS
        return Turn(
            one.title,
            lambda now: [(None, run(now, one))],
            key=one.key,
            ours=isinstance(one, Case),
            guess=start + plan.seconds,
            seconds=plan.seconds,
        )

    def probing(family: Family) -> Turn:
        assert family.probe is not None
        probe = family.probe
        guess = probe.quick_seconds if plan.quick else probe.seconds
        return Turn(family.title, probe.run, key=family.key, once=probe.once or plan.quick, guess=guess)

    chosen = [family for family in families if family.probe and (family.quick or not plan.quick)]
    last = [family for family in chosen if family.key == "recovery"]  # it takes the broker from the others
    return [*map(of, parties), *map(probing, [family for family in chosen if family not in last]), *map(probing, last)]


def measure(todo: Sequence[Turn], pace: Pace, tell: Callable[[int, Turn], None]) -> Outcome:
    """Run it all. A failure of ours ends it; a peer's is noted, and the peer left out from then on.

    The first round is made in any case, if need be of shorter runs; another one only if all of it fits into the budget.
    """
    outcome = Outcome()
    for number in range(1, pace.plan.rounds + 1):
        due = [turn for turn in todo if turn.name not in outcome.missing and not (turn.once and number > 1)]
        if number > 1 and not (due and pace.fits(due)):
            break
        for place, turn in enumerate(due):
            now = pace.first(due[place:]) if number == 1 else pace.plan
            if now is None:
                outcome.missing[turn.name] = f"no time was left of {pace.plan.budget:,.0f} s"
                continue
            tell(number, turn)
            before = pace.left
            try:
                _note(outcome, turn, list(turn.run(now)))
            except (RuntimeError, OSError) as error:
                if turn.ours:
                    raise
                outcome.missing[turn.name] = str(error).strip().splitlines()[-1][:300]
                outcome.runs.pop(turn.key, None)
            pace.took(turn, before - pace.left)
            outcome.rounds = number
    outcome.notes = pace.notes(outcome.rounds if any(not turn.once for turn in todo) else pace.plan.rounds)
    return outcome


def _note(outcome: Outcome, turn: Turn, found: Sequence[tuple[Point | None, Found]]) -> None:
    if not found:
        outcome.missing[turn.name] = "it needs a broker of its own: leave --broker out"
    for point, numbers in found:
        outcome.runs.setdefault(turn.key if point is None else point.key, []).append(numbers)
        if point is not None and point not in outcome.points.setdefault(turn.key, []):
            outcome.points[turn.key].append(point)


def run(plan: Plan, one: Case | Peer) -> Found:
    """Servers, clients, and what the clients report; with the processor time of a call in each process."""
    process = broker.process(plan.url)  # each time: a probe may have restarted it
    service = f"bench{secrets.token_hex(4)}"
    queues = shards(service, int(_option(one.client, "--shards", "1")))
    common = ("--url", plan.url, "--service", service, "--seconds", str(plan.seconds), "--loop", plan.loop)
    if plan.redis:
        common = (*common, "--redis", plan.redis)
    how = environments.interpreter(one.environment) if isinstance(one, Peer) and one.environment else None
    redis = plan.redis if "redis" in one.server else ""
    try:
        with contextlib.ExitStack() as running:
            serving = [
                running.enter_context(party(*one.server, *common, "--service", queues[number % len(queues)], how=how))
                for number in range(one.servers)
            ]
            calling = [  # they import while the servers do
                running.enter_context(party(*one.client, *common, "--hold", how=how)) for _ in range(one.clients)
            ]
            for server in serving:
                server.hear("ready")
            for client in calling:
                client.go()
            for client in calling:
                client.hear("begin")
            before = sum(server.cpu() for server in serving), _cpu(process), store.work(redis)
            found = _together([client.hear("done") for client in calling])
            after = sum(server.cpu() for server in serving), _cpu(process), store.work(redis)
    finally:
        for queue in queues:
            broker.forget(plan.url, f"rpc.{queue}")
    for name, begin, end in zip(("server", "broker"), before, after, strict=False):
        found[f"{name}_cpu_us"] = (end - begin) / found["calls"] * 1e6
    if redis:
        for name, begin, end in zip(("round_trips", "redis_cpu_us"), before[2], after[2], strict=True):
            found[name] = (end - begin) / found["calls"]
    if "--payload" in one.client:
        found["bytes_per_s"] = found["calls_per_s"] * int(_option(one.client, "--payload", "0"))
    return found


def _option(words: Sequence[str], name: str, otherwise: str) -> str:
    return words[words.index(name) + 1] if name in words else otherwise


def _together(said: Sequence[dict[str, Any]]) -> Found:
    """What several clients found: rates add up, of all else the median counts."""
    names = [name for name in said[0] if name != "event"]
    found = {name: statistics.median(one[name] for one in said) for name in names}
    return found | {name: sum(one[name] for one in said) for name in ("calls", "calls_per_s")}


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
