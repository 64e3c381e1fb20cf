"""One run: servers up, calls and faults, peace, the account. What of it depends on the mix, the mix says."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from resilient_rpc import Client, RpcError
from tests.faults.soak.callers import Callers
from tests.faults.soak.fleet import Fleet
from tests.faults.soak.keyed import Keyed
from tests.faults.soak.ledger import read
from tests.faults.soak.mix import Mix, Result, Stage
from tests.faults.soak.republish import connection
from tests.faults.soak.schedule import plan
from tests.faults.soak.storm import Storm
from tests.faults.tools import eventually
from tests.servers import choose
from tests.servers.guard import GUARD
from tests.servers.proxy import Proxy

SERVERS = 3
RECOVERED_WITHIN = 10.0
"""Seconds after the last fault, in which a call must succeed."""
EXPIRED_WITHIN = 5.0
"""Seconds that what was asked last can be in the queue."""
ASKING = 2
"""A server that is asked for its state is running the question, and has not acked it."""


def soak(
    seed: int, seconds: float, folder: Path, mix: type[Mix] = Keyed, say: Callable[[str], object] = print
) -> Result:
    """Run it. The servers' logs and the ledger stay in `folder`."""
    before = _warm_up()
    with contextlib.ExitStack() as opened:
        broker = opened.enter_context(choose.broker(private=True))
        stage = Stage(
            seed=seed,
            folder=folder,
            service=f"soak{secrets.token_hex(4)}",
            broker=broker,
            client_way=opened.enter_context(Proxy(broker.url)),
            server_way=opened.enter_context(Proxy(broker.url)),
            opened=opened,
        )
        mixed = mix(stage)
        fleet = opened.enter_context(Fleet(mixed.servers(), folder, size=SERVERS))
        wait_for_servers(broker.url, stage.service, fleet)
        descriptors = max(psutil.Process(pid).num_fds() for pid in fleet.pids)
        callers, strikes = mixed.callers(), mixed.strikes(fleet)
        say(f"seed {seed}: {seconds:g} s of faults")
        with fleet.revived():
            callers.start()
            try:
                with mixed.aside(callers):
                    Storm(strikes, plan(seed, seconds, mix.lanes), seconds).run()
            finally:
                leaks = _recovery(callers)
                callers.stop()
            wait_for_servers(broker.url, stage.service, fleet)
            leaks += mixed.in_peace(callers)
        wait_for_servers(broker.url, stage.service, fleet)
        leaks += _idle(broker.url, stage.service, fleet) + _descriptors(fleet, descriptors + mix.connections)
        fleet.drain_all()
        leaks += fleet.unclean + _left_over(broker.url, stage.service)
    for name, known in (("strikes", strikes.record), ("said", callers.said)):
        (folder / name).write_text("".join(f"{one}\n" for one in known))
    account = mixed.settle(list(read(folder / "ledger")), callers, strikes, fleet)
    account.leaks = leaks + _leaked(before)
    return Result(account, Counter(strike.kind for strike in strikes.record))


def wait_for_servers(url: str, service: str, fleet: Fleet) -> None:
    """Until each of them answers."""
    answered: set[int] = set()
    with Client(url, batching=None, policies=[]) as client:

        def asked() -> bool:
            with contextlib.suppress(RpcError):
                answered.add(client.call(f"{service}.state", timeout=1.0, safety="read_only")["pid"])
            return answered.issuperset(fleet.pids) and len(fleet.pids) == fleet.size

        try:
            eventually(asked, f"{fleet.size} servers", 30.0)
        except AssertionError as error:
            raise AssertionError(f"{error}: of {fleet.pids} {answered} answered: {fleet.last_words()}") from None


def _recovery(callers: Callers) -> list[str]:
    """The last fault is over: calls must succeed again, on the connections that there are."""
    begin, known = time.monotonic(), len(callers.said)
    while time.monotonic() < begin + RECOVERED_WITHIN:
        if any(said.answer is not None and said.begin > begin for said in callers.said[known:]):
            return []
        time.sleep(0.05)
    return [f"no call has succeeded within {RECOVERED_WITHIN:g} s after the last fault"]


def _idle(url: str, service: str, fleet: Fleet) -> list[str]:
    """Each server holds nothing but the question."""
    busy: dict[int, str] = {}

    def looked() -> bool:
        busy.clear()
        busy.update(_busy(url, service, fleet))
        return not busy

    with contextlib.suppress(AssertionError):
        eventually(looked, "idle servers", RECOVERED_WITHIN)
    return [f"server {pid} is not idle: {state}" for pid, state in busy.items()]


def _busy(url: str, service: str, fleet: Fleet) -> dict[int, str]:
    states: dict[int, dict[str, int]] = {}
    with Client(url, batching=None, policies=[]) as client:
        for _ in range(4 * len(fleet.pids)):
            with contextlib.suppress(RpcError):
                state = client.call(f"{service}.state", timeout=2.0, safety="read_only")
                states[state["pid"]] = state
    held = ("running", "waiting", "unacked", "unconfirmed_replies")
    busy = {pid: str(state) for pid, state in states.items() if sum(state[name] for name in held) > ASKING}
    return busy | dict.fromkeys(set(fleet.pids) - set(states), "it does not answer")


def _descriptors(fleet: Fleet, most: int) -> list[str]:
    """Files and sockets of servers that have nothing to do."""
    held = {pid: psutil.Process(pid).num_fds() for pid in fleet.pids}
    return [f"server {pid} holds {count} descriptors, not {most}" for pid, count in held.items() if count > most]


def _left_over(url: str, service: str) -> list[str]:
    """A service that was drained leaves nothing in its queue, but what expires there: a question that it gave back."""
    queue, found = f"rpc.{service}", ""

    def looked() -> bool:
        nonlocal found
        with connection(url) as opened:
            channel = opened.channel()
            queued = channel.queue_declare(queue, passive=True).method.message_count
            got, properties, body = channel.basic_get(queue)
            found = f"{queued} messages are left in the queue: {got} {properties} {body!r:.200}" if queued else ""
        return not found

    with contextlib.suppress(AssertionError):
        eventually(looked, "an empty queue", EXPIRED_WITHIN)
    return [found] if found else []


def _warm_up() -> dict[str, int]:
    """Make what is made once for a process; returns what it holds then."""
    GUARD.forget(0)  # its process is started with the first word to it
    with Client("memory://soak", policies=[]) as client, contextlib.suppress(RpcError):
        client.call("nobody.here", timeout=0.1)
    return _holdings()


def _holdings() -> dict[str, int]:
    process = psutil.Process()
    return {
        # Those of the I/O loop's pool, which looks names up, come when they are first needed, and stay.
        "threads": sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate()),
        "sockets": len(process.net_connections("all")),
    }


def _leaked(before: dict[str, int]) -> list[str]:
    after: dict[str, int] = {}

    def settled() -> bool:
        after.update(_holdings())
        return all(after[name] <= before[name] for name in before)

    with contextlib.suppress(AssertionError):
        eventually(settled, "what was there before", 5.0)
    return [f"{after[name]} {name}, before {before[name]}" for name in before if after[name] > before[name]]
