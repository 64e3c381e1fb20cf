"""``python -m benchmarks overhead``: microseconds a call of the parts that need no broker."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from rich.console import Console

from resilient_rpc import Call, Reply, Safety
from resilient_rpc.caller import Caller
from resilient_rpc.chain import compose
from resilient_rpc.hub import Events
from resilient_rpc.options import CallerOptions, default_policies
from resilient_rpc.pending import Pending
from resilient_rpc.runtime import BLOCKING, drive
from resilient_rpc.stats import CallStats
from resilient_rpc.transport.properties import Template, decode_properties, encode_headers
from resilient_rpc.wire.codec import JSON, read_answers
from resilient_rpc.wire.envelope import Meta, ReplyMeta, Request, Result

COUNT, TIMES = 20_000, 7


def _best(work: Callable[[], Any], count: int = COUNT) -> float:
    laps = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        for _ in range(count):
            work()
        laps.append(time.perf_counter() - begin)
    return min(laps) / count * 1e6


def parts() -> dict[str, float]:
    """Each part alone, the best of some runs."""
    options = CallerOptions(policies=tuple(default_policies()), timeout=30.0, safety=Safety.UNSAFE, errors={})
    caller = Caller(options, Events(), CallStats())
    call = caller.build(BLOCKING, "bench.echo", {"n": 1})
    reply = Reply(result={"n": 1})

    async def answer(_: Call) -> Reply:
        return reply

    bare, chain = compose((), answer), compose(default_policies(), answer)
    stats = CallStats()
    body = JSON.join([JSON.encode(Result({"n": n}, n, ReplyMeta(7, 256, server="bench"))) for n in range(64)])
    template = Template(headers=encode_headers({"rpc-version": "1"}), reply_to="amq.rabbitmq.reply-to", type="rpc.call")
    properties = template.fill("a" * 24, 1, 30_000)
    meta = Meta(None, 30_000, 1_700_000_000_000)

    def counted() -> None:
        stats.begin()
        stats.end(0.001, None)

    def settled() -> None:
        pending: Pending[int] = Pending()
        pending.set(1)
        pending.result()

    return {
        "a call built": _best(lambda: caller.build(BLOCKING, "bench.echo", {"n": 1})),
        "a coroutine without policies, driven by a thread": _best(lambda: drive(bare(call))),
        "the default chain around it": _best(lambda: drive(chain(call))),
        "counted in the statistics": _best(counted),
        "request encoded": _best(lambda: JSON.encode(Request("echo", {"n": 1}, 7, meta))),
        "request encoded by json.dumps": _best(lambda: json.dumps({"method": "echo", "params": {"n": 1}, "id": 7})),
        "64 replies decoded, each": _best(lambda: read_answers(JSON, body), COUNT // 64) / 64,
        "properties of a message": _best(lambda: template.fill("a" * 24, 1, 30_000)),
        "properties read": _best(lambda: decode_properties(properties)),
        "a Pending made, settled, read": _best(settled),
    }


def main(_: Namespace, console: Console) -> dict[str, Any]:
    """Run it, print, and return the microseconds."""
    found = parts()
    for name, micros in found.items():
        console.print(f"{name:52} {micros:7.2f} µs")
    return {"micros": found}
