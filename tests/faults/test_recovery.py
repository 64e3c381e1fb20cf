"""Rows 36, 37, 39, 41 and 42 of the fault matrix for calls without a key: clocks, threads, storms, rights."""

from __future__ import annotations

import asyncio
import bisect
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resilient_rpc import AsyncClient, Certainty, Client, ConfigurationError, RpcError
from resilient_rpc.events import CallEnded, ConnectionStateChanged
from resilient_rpc.ioloop import io_loop
from resilient_rpc.policies import CircuitBreaker, Retry
from tests.faults.group import MACHINE, PATIENT, Watch
from tests.faults.plain import Desk, account, answers
from tests.faults.tools import eventually, server_process, wait_for_servers
from tests.servers.handle import Broker
from tests.servers.proxy import Proxy

pytestmark = [pytest.mark.broker, pytest.mark.fault, pytest.mark.timeout(120)]
CLIENTS = 50


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_plain_row_36_a_clock_that_jumps_ends_no_call_early_or_late_and_opens_no_circuit(
    amqp_url: str, desk: Desk, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    desk.serve(amqp_url)
    real = time.time
    with Client(amqp_url, policies=[CircuitBreaker()], timeout=20.0) as client:
        for n in range(3):
            assert client.call(desk.name("look"), [n]) == n
        held = {1: client.submit(desk.name("hold"), [1])}
        desk.has_begun()
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        for n in range(10, 60):
            assert client.call(desk.name("echo"), [n], timeout=5.0) == n
        watch = Watch()
        with pytest.raises(RpcError):
            client.call(desk.name("hold"), [2], timeout=0.5)
        assert 0.45 < watch.seconds < 0.5 + MACHINE
        desk.go.set()
        assert account(desk, held, timeout=5.0) == {"answered": 1}
        assert client.stats().timed_out == 1
    assert all(desk.runs[n] == 1 for n in range(10, 60))


class Nonsense(BaseException):
    """What no code expects: neither an Exception nor known to anybody."""


@pytest.mark.parametrize("error", [MemoryError, SystemExit, KeyboardInterrupt, Nonsense, RuntimeError])
def test_plain_row_37_whatever_is_raised_on_the_io_thread_and_the_servers_the_next_calls_are_answered(
    amqp_url: str, desk: Desk, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    server = desk.serve(amqp_url)

    def fail(*_: object) -> None:
        raise error("on purpose")

    with Client(amqp_url, policies=[], timeout=10.0) as client:
        assert answers(client, desk, within=10.0)
        held = {n: client.submit(desk.name("hold"), [n]) for n in range(5)}
        desk.has_begun(5)
        io_loop().call_soon(fail)
        io_loop().loop.call_soon_threadsafe(fail)
        server._current().loop.call_soon_threadsafe(fail)
        watch = Watch()
        eventually(lambda: answers(client, desk), "an answer", 5.0)
        assert watch.seconds < 1.0 + MACHINE
        if issubclass(error, Exception):
            client.on(CallEnded, fail)
            assert answers(client, desk), "hooks are nobody's business"
        desk.go.set()
        found = account(desk, held, timeout=10.0)
        assert found == {"answered": 5}


def test_plain_row_39_a_server_that_is_told_to_stop_answers_what_runs_and_leaves_the_rest_to_its_peer(
    amqp_url: str, service: str, tmp_path: Path
) -> None:
    with server_process(amqp_url, service, tmp_path) as one, server_process(amqp_url, service, tmp_path) as two:
        wait_for_servers(amqp_url, service, 2)
        with Client(amqp_url, policies=[Retry()], batching=None, timeout=30.0) as client:
            futures = [  # unsafe: those that wait at the server are answered with Draining, and go to the other one
                client.submit(f"{service}.hold", {"name": f"n{n}", "seconds": 0.5})
                for n in range(40)  # more than the 16 slots of both
            ]
            eventually(lambda: len(list(tmp_path.iterdir())) >= 16, "work at both")
            one.terminate()
            watch = Watch()
            assert one.wait(15.0) == 0
            assert watch.seconds < 2.0 + 2 * MACHINE
            found = [future.result(timeout=31.0) for future in futures]
        assert set(found) == {one.pid, two.pid}
        runs = [path.name.split(".")[0] for path in tmp_path.iterdir()]
        assert sorted(runs) == sorted(f"n{n}" for n in range(40)), "each once"


def test_plain_row_41_fifty_clients_serve_again_within_ten_seconds_and_do_not_come_all_at_once(
    private_broker: Broker, desk: Desk, proxy: Callable[[str], Proxy]
) -> None:
    way = proxy(private_broker.url)
    desk.serve(private_broker.url)

    async def storm() -> tuple[list[float], list[float], list[float], int]:
        clients = [AsyncClient(way.url, policies=PATIENT, timeout=60.0) for _ in range(CLIENTS)]
        connected: list[float] = []
        for client in clients:
            client.on(ConnectionStateChanged, lambda event: _note(connected, event))
        name = desk.name("look")
        await asyncio.gather(*[client.call(name, [n], safety="read_only") for n, client in enumerate(clients)])
        await asyncio.to_thread(private_broker.kill)
        connected.clear()
        calls = [client.submit(name, [n], safety="read_only") for n, client in enumerate(clients)]
        await asyncio.to_thread(private_broker.start)
        up, attempts = time.monotonic(), way.accepted
        served = []

        async def answered(call: asyncio.Task[int]) -> None:
            await call
            served.append(time.monotonic() - up)

        await asyncio.gather(*map(answered, calls))
        afterwards = way.accepted - attempts
        print(f"attempts while it was down: {attempts - CLIENTS}, after that: {afterwards}")
        await asyncio.gather(*[client.close() for client in clients])
        came = [moment - up for moment in way.arrivals[-CLIENTS:]]
        return sorted(served), came, sorted(moment - up for moment in connected), afterwards

    def _note(connected: list[float], event: ConnectionStateChanged) -> None:
        if event.state == "connected":
            connected.append(time.monotonic())

    served, came, connected, afterwards = asyncio.run(storm())
    rates = [bisect.bisect_left(came, at + 0.1) - bisect.bisect_left(came, at) for at in came]
    print(f"all {CLIENTS} served after {served[-1]:.1f} s; of the last to come in 0.1 s, at most: {max(rates)}")
    # The first may have come before it was known that the broker is up.
    seconds = range(math.floor(connected[0]), math.floor(connected[-1]) + 1)
    print("connections per second:", [sum(s <= at < s + 1 for at in connected) for s in seconds])
    assert len(connected) == CLIENTS
    assert served[-1] < 10.0
    # RabbitMQ 4 takes connections before it answers them, and then answers all at once: what counts is when they came.
    assert came[-1] - came[0] > 0.2, "a herd"
    assert afterwards <= 2 * CLIENTS


@pytest.mark.parametrize("how", ["rights", "password", pytest.param("vhost", marks=pytest.mark.slow)])
def test_plain_row_42_rights_that_are_taken_away_are_told_at_once_without_a_storm_and_all_is_well_when_they_are_back(
    private_broker: Broker, desk: Desk, proxy: Callable[[str], Proxy], how: str
) -> None:
    ctl, user = private_broker.ctl, desk.service
    ctl("add_user", user, "old")
    ctl("add_vhost", user)
    ctl("set_permissions", "-p", user, user, ".*", ".*", ".*")
    ctl("set_permissions", "-p", user, "guest", ".*", ".*", ".*")
    host = private_broker.url.rpartition("@")[2].rstrip("/")
    way = proxy(private_broker.url)
    desk.serve(f"amqp://guest:guest@{host}/{user}")
    url = way.url.replace("guest:guest", f"{user}:old").rstrip("/") + f"/{user}"
    with Client(url, policies=PATIENT, timeout=20.0) as client:
        assert answers(client, desk, within=10.0)
        if how == "rights":
            ctl("clear_permissions", "-p", user, user)
        elif how == "password":
            ctl("change_password", user, "new")
        else:
            ctl("delete_vhost", user)
        way.reset()
        errors: list[RpcError] = []
        eventually(lambda: _refused(client, desk, errors), "the refusal", 10.0)
        assert errors[-1].certainty is Certainty.NOT_EXECUTED
        assert not errors[-1].retryable
        assert "old" not in str(errors[-1]).replace(user, "")
        before, watch = way.accepted, Watch()
        while watch.seconds < 1.0:
            _refused(client, desk, errors)
        assert way.accepted - before < 12, "no hot loop"
        if how == "vhost":
            ctl("add_vhost", user)
            ctl("set_permissions", "-p", user, "guest", ".*", ".*", ".*")
        ctl("change_password", user, "old")
        ctl("set_permissions", "-p", user, user, ".*", ".*", ".*")
        eventually(lambda: answers(client, desk), "an answer", 20.0)
    for server in desk.servers:
        server.stop()
    ctl("delete_vhost", user)
    ctl("delete_user", user)


def _refused(client: Client, desk: Desk, errors: list[RpcError]) -> bool:
    try:
        client.call(desk.name("echo"), [1], timeout=2.0)
    except ConfigurationError as error:
        errors.append(error)
        return True
    except RpcError as error:
        errors.append(error)
    return False
