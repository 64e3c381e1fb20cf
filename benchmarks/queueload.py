"""How much of the broker's work is the queue's own: a queue is one process of Erlang, so one processor is its end."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

from benchmarks import broker
from benchmarks.families import Found, Point
from benchmarks.plan import Plan
from benchmarks.process import party, servers
from tests.servers.handle import Broker

SECONDS = 8.0
"""Long enough for two questions, each of which starts an Erlang of its own."""
WAYS = {"batching off": ("--single",), "64 in flight": (), "quorum queue, 64 in flight": ("--queue", "quorum")}
ASK = """{T, _} = erlang:statistics(exact_reductions),
Process = fun({Name, _}) -> whereis(Name); (Pid) -> Pid end,
Pids = [P || Q <- rabbit_amqqueue:list(), P <- [Process(amqqueue:get_pid(Q))], is_pid(P)],
{lists:sum([R || P <- Pids, {_, R} <- [erlang:process_info(P, reductions)]]), T}."""


def _reductions(own: Broker) -> tuple[int, int]:
    """What Erlang counts as work: of the processes of all queues, and of everything."""
    said = own.ctl("eval", ASK)
    found = re.search(r"\{(\d+),\s*(\d+)\}", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


def share(plan: Plan) -> Iterator[tuple[Point, Found]]:
    """The probe; nothing, if the broker is not ours to ask."""
    process = broker.process(plan.url)
    if plan.own is None or process is None:
        return
    for name, how in WAYS.items():
        service = f"bench{secrets.token_hex(4)}"
        common = ("--url", plan.url, "--service", service, "--seconds", str(SECONDS))
        client = ("ours-async", *common, "--window", "64", *[word for word in how if word == "--single"])
        try:
            with servers(1, "ours-server", *common, *how), party(*client) as caller:
                caller.hear("begin")
                begin, before = process.cpu_times(), _reductions(plan.own)
                after = _reductions(plan.own)
                calls = caller.hear("done")["calls"]
                end = process.cpu_times()
        finally:
            broker.forget(plan.url, f"rpc.{service}")
        part = (after[0] - before[0]) / (after[1] - before[1])
        whole = (end.user + end.system - begin.user - begin.system) / calls * 1e6
        for series, value in (("the queue", part * whole), ("everything else", (1 - part) * whole)):
            yield Point(key=f"queue-{name}-{series}", x=name, series=series), {"broker_cpu_us": value}
