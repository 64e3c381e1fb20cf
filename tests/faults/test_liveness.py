"""Servers that are frozen or killed while they have a call with much time: its caller hears of it at once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from resilient_rpc import Certainty, Client, ServerLost
from tests.faults.tools import eventually, server_process, wait_for_servers

LIVENESS = 1.0
BOUND = 3.0
"""Seconds after which the caller knows: its liveness, and what a busy machine adds."""


def _heard(client: Client) -> int:
    """Of how many calls there were beats."""
    caller = client._caller
    assert caller is not None
    assert caller.pool is not None
    return len(caller.pool.links[0]._control._liveness)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("strike", [signal.SIGSTOP, signal.SIGKILL], ids=["SIGSTOP", "SIGKILL"])
def test_a_call_of_a_server_that_falls_silent_fails_within_its_liveness(
    amqp_url: str, service: str, tmp_path: Path, strike: signal.Signals
) -> None:
    with server_process(amqp_url, service, tmp_path) as process, Client(amqp_url, liveness=LIVENESS) as client:
        wait_for_servers(amqp_url, service, 1)
        future = client.submit(f"{service}.hold", {"name": "x", "seconds": 60}, timeout=60.0)
        eventually(lambda: _heard(client), "a beat")
        process.send_signal(strike)
        begin = time.monotonic()
        error = future.exception(timeout=30.0)
        assert time.monotonic() - begin < BOUND
        assert isinstance(error, ServerLost)
        assert error.certainty is Certainty.UNKNOWN
        assert str(process.pid) in error.server
        process.send_signal(signal.SIGCONT)
        if strike is signal.SIGSTOP:
            assert client.call(f"{service}.whoami", timeout=20.0) == process.pid, "it goes on as if nothing had been"


@pytest.mark.timeout(120)
def test_a_server_that_is_frozen_for_less_than_that_is_not_given_up(
    amqp_url: str, service: str, tmp_path: Path
) -> None:
    with server_process(amqp_url, service, tmp_path) as process, Client(amqp_url, liveness=5.0) as client:
        wait_for_servers(amqp_url, service, 1)
        future = client.submit(f"{service}.hold", {"name": "x", "seconds": 5.0}, timeout=60.0)
        eventually(lambda: _heard(client), "a beat")
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.0)  # of its process, which knows no clock of ours
        process.send_signal(signal.SIGCONT)
        assert future.result(timeout=30.0) == process.pid


@pytest.mark.timeout(120)
def test_a_safe_call_whose_server_was_killed_goes_on_at_another_one(
    amqp_url: str, service: str, tmp_path: Path
) -> None:
    with server_process(amqp_url, service, tmp_path) as one, server_process(amqp_url, service, tmp_path) as two:
        wait_for_servers(amqp_url, service, 2)
        processes = {one.pid: one, two.pid: two}
        with Client(amqp_url, liveness=LIVENESS, policies=[]) as client:
            call = {"name": "x", "seconds": 60}
            future = client.submit(f"{service}.hold", call, timeout=60.0, safety="read_only")
            eventually(lambda: _heard(client), "a beat")
            victim = int(next(tmp_path.glob("x.*")).name.split(".")[1])
            processes.pop(victim).kill()
            assert future.result(timeout=30.0) in processes, "the broker has given it to the other one in time"


@pytest.mark.timeout(120)
def test_a_call_that_was_given_up_while_its_server_was_frozen_is_stopped_when_it_goes_on(
    amqp_url: str, service: str, tmp_path: Path
) -> None:
    with server_process(amqp_url, service, tmp_path) as process, Client(amqp_url, liveness=LIVENESS) as client:
        wait_for_servers(amqp_url, service, 1)
        calls = [
            client.submit(f"{service}.hold", {"name": f"x{n}", "seconds": 60}, timeout=60.0) for n in range(8)
        ]  # as many as there are slots
        eventually(lambda: _heard(client) == len(calls), "beats")
        process.send_signal(signal.SIGSTOP)
        assert all(isinstance(call.exception(timeout=30.0), ServerLost) for call in calls)
        process.send_signal(signal.SIGCONT)
        assert client.call(f"{service}.whoami", timeout=20.0) == process.pid, "the slots are free again"
