"""Rounds in which all parties take turns."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks import broker
from benchmarks.cases import CASES, IDEAL_US, PEERS, Case, Peer, Target
from benchmarks.process import party, servers

Runs = dict[str, list[dict[str, Any]]]
"""For each key of a case or a peer what its client reported, a round each."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure."""

    url: str
    rounds: int = 5
    seconds: float = 3.0
    cases: Sequence[str] = tuple(case.key for case in CASES)
    peers: Sequence[str] = tuple(peer.key for peer in PEERS)
    loop: str = "asyncio"
    redis: str = ""

    def parties(self) -> list[Case | Peer]:
        """In the order of a round; peers with whom no case is compared are left out."""
        cases = [case for case in CASES if case.key in self.cases]
        wanted = {target.peer for case in cases for target in case.targets} & set(self.peers)
        return [*(peer for peer in PEERS if peer.key in wanted), *cases]


def measure(plan: Plan) -> Iterator[tuple[int, Case | Peer, dict[str, Any]]]:
    """Run it all; yields after each run."""
    parties, process = plan.parties(), broker.process(plan.url)
    for number in range(1, plan.rounds + 1):
        for one in parties:
            yield number, one, run(plan, one, process)


def run(plan: Plan, one: Case | Peer, process: psutil.Process | None) -> dict[str, Any]:
    """Servers, a client, and what the client reports; with the processor time of a call in each process."""
    service = f"bench{secrets.token_hex(4)}"
    common = ("--url", plan.url, "--service", service, "--seconds", str(plan.seconds), "--loop", plan.loop)
    if plan.redis:
        common = (*common, "--redis", plan.redis)
    count = one.servers if isinstance(one, Case) else 1
    try:
        with servers(count, *one.server, *common) as serving, party(*one.client, *common) as client:
            client.hear("begin")
            before = sum(server.cpu() for server in serving), _cpu(process)
            found = client.hear("done")
            after = sum(server.cpu() for server in serving), _cpu(process)
    finally:
        broker.forget(plan.url, f"rpc.{service}")
    for name, begin, end in zip(("server", "broker"), before, after, strict=True):
        found[f"{name}_cpu_us"] = (end - begin) / found["calls"] * 1e6
    return found


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
