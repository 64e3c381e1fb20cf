"""How soon a caller knows of a failure, and how many requests a server that fails is sent."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence

import tenacity

from benchmarks import broker
from benchmarks.drive import say
from benchmarks.families import Found, Point
from benchmarks.plan import Plan
from benchmarks.policies import make
from benchmarks.process import party, servers
from resilient_rpc import AsyncClient, Call, Policy, Reply
from resilient_rpc.chain import compose
from resilient_rpc.errors import CircuitOpen, DeadlineExceeded, NoServer, Overloaded, RpcError, ServerLost, Unroutable
from resilient_rpc.options import default_policies
from resilient_rpc.policies import CircuitBreaker, Retry
from resilient_rpc.runtime import running_runtime

TIMES = 50
LIMIT, LIVENESS = 0.2, 1.0
CALLS, AT_ONCE, ATTEMPTS, PATIENCE = 300, 300, 3, 4.0


async def _until(kind: type[RpcError], client: AsyncClient, method: str, timeout: float = 30.0) -> float:
    """Microseconds until a call ends in an error of that kind; any other end is a fault of ours."""
    begin = time.perf_counter()
    try:
        await client.call(method, {"n": 1, "seconds": 60.0}, timeout=timeout)
    except kind:
        return (time.perf_counter() - begin) * 1e6
    raise AssertionError(f"{method} did not fail")


async def _open_circuit(url: str, method: str) -> float:
    async with AsyncClient(url, policies=[CircuitBreaker()]) as client:
        for _ in range(1000):
            try:
                await client.call(method, {"n": 1})
            except CircuitOpen:
                return statistics.median([await _until(CircuitOpen, client, method) for _ in range(TIMES)])
            except Unroutable:
                continue
    raise AssertionError("the circuit stayed closed")


async def client(options: Namespace) -> None:
    """Fails in each way, and says what it took; the parent kills the server when it is told to."""
    missing, nap = f"{options.service}missing.echo", f"{options.service}.nap"
    async with AsyncClient(options.url, policies=(), liveness=LIVENESS) as client:
        await client.call(f"{options.service}.echo", {"n": 1})
        unroutable = statistics.median([await _until(Unroutable, client, missing) for _ in range(TIMES)])
        late = await _until(DeadlineExceeded, client, nap, timeout=LIMIT) - LIMIT * 1e6
        circuit = await _open_circuit(options.url, missing)
        doomed = asyncio.create_task(_until(ServerLost, client, nap))
        await asyncio.sleep(LIVENESS)  # it has had the first beat
        say(event="kill")
        await doomed
        known = time.time()
    async with AsyncClient(options.url, policies=(), when_no_server="fail") as client:
        nobody = await _until(NoServer, client, f"{options.service}.echo")
    say(event="done", unroutable=unroutable, late=late, circuit=circuit, nobody=nobody, known=known)


def until_known(plan: Plan) -> Iterator[tuple[Point, Found]]:
    """The probe."""
    service = f"bench{secrets.token_hex(4)}"
    common = ("--url", plan.url, "--service", service)
    try:
        with servers(1, "ours-server", *common) as (server,), party("failing-client", *common) as caller:
            caller.hear("kill")
            killed = time.time()
            server.end()
            found = caller.hear("done")
    finally:
        broker.forget(plan.url, f"rpc.{service}")
    named = {
        "circuit open": found["circuit"],
        "no such service": found["unroutable"],
        f"a deadline of {LIMIT:g} s: how late": found["late"],
        "no server, when_no_server=fail": found["nobody"],
        f"server killed, liveness={LIVENESS:g}": (found["known"] - killed) * 1e6,
    }
    for name, elapsed in named.items():
        yield Point(key=f"until-{name}", x=name, series="AsyncClient", quick=True), {"elapsed_us": elapsed}


class _Failing:
    """A target that is down, and counts."""

    def __init__(self) -> None:
        self.requests = 0

    async def __call__(self, _: Call, /) -> Reply:
        self.requests += 1
        raise Overloaded("down")


async def _all(chain: Sequence[Policy], *, by_tenacity: bool) -> float:
    target, gate = _Failing(), asyncio.Semaphore(AT_ONCE)
    handler = compose(chain, target)
    if by_tenacity:
        again = tenacity.retry(stop=tenacity.stop_after_attempt(ATTEMPTS), wait=tenacity.wait_none(), reraise=True)
        handler = again(target.__call__)

    async def one() -> None:
        async with gate:
            with contextlib.suppress(RpcError):
                runtime = running_runtime()
                await handler(make(runtime).replace(deadline=runtime.now() + PATIENCE))

    await asyncio.gather(*[one() for _ in range(CALLS)])
    return target.requests / CALLS


def requests_sent(_: Plan) -> Iterator[tuple[Point, Found]]:
    """The probe of the load on a target that fails."""
    chains: dict[str, list[Policy]] = {
        "no policies": [],
        "default policies": default_policies(),
        f"Retry(attempts={ATTEMPTS}) alone": [Retry(attempts=ATTEMPTS)],
        f"tenacity, {ATTEMPTS} attempts": [],
    }
    for name, chain in chains.items():
        attempts = asyncio.run(_all(chain, by_tenacity=name.startswith("tenacity")))
        yield Point(key=f"sent-{name}", x=name, series="AsyncClient", quick=True), {"attempts": attempts}
