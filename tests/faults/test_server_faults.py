"""Servers that are killed or cut off while they work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from resilient_rpc import Certainty, Client, RemoteError, Server
from tests.faults.tools import eventually, server_process, wait_for_servers
from tests.servers.handle import Broker
from tests.servers.proxy import Proxy


def _runs(folder: Path, name: str) -> list[int]:
    """The processes that began it, in order."""
    found = sorted(folder.glob(f"{name}.*"), key=lambda path: int(path.name.split(".")[2]))
    return [int(path.name.split(".")[1]) for path in found]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("safety", ["read_only", "idempotent", "unsafe"])
def test_a_call_whose_server_was_killed_is_run_again_only_if_that_is_safe(
    amqp_url: str, service: str, safety: str, tmp_path: Path
) -> None:
    with server_process(amqp_url, service, tmp_path) as one, server_process(amqp_url, service, tmp_path) as two:
        wait_for_servers(amqp_url, service, 2)
        processes = {one.pid: one, two.pid: two}
        with Client(amqp_url) as client:
            future = client.submit(f"{service}.hold", {"name": "x", "seconds": 60}, timeout=30.0, safety=safety)
            eventually(lambda: _runs(tmp_path, "x"), "the call begins")
            (victim,) = _runs(tmp_path, "x")
            processes[victim].kill()
            if safety == "unsafe":
                error = future.exception(timeout=20.0)
                assert isinstance(error, RemoteError)
                assert error.code == -32010
                assert error.certainty is Certainty.UNKNOWN
                assert _runs(tmp_path, "x") == [victim]
            else:
                survivor = next(pid for pid in processes if pid != victim)
                assert future.result(timeout=20.0) == survivor
                assert _runs(tmp_path, "x") == [victim, survivor]


class Counting:
    """A server behind a proxy, whose handler waits until it is let go and counts its runs."""

    def __init__(self, url: str, service: str) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.runs = 0
        self.server = Server(url, service=service)
        self.server.method(self.hold)

    def hold(self, n: int) -> int:
        self.runs += 1
        self.begun.release()
        self.go.wait(60.0)
        return n


@pytest.mark.timeout(120)
@pytest.mark.parametrize("safety", ["read_only", "unsafe"])
def test_a_server_that_lost_its_connections_while_it_worked_answers_once_and_runs_once(
    private_broker: Broker, proxy: Callable[[str], Proxy], service: str, safety: str
) -> None:
    way = proxy(private_broker.url)
    counting = Counting(way.url, service)
    counting.server.start()
    with Client(private_broker.url) as client:
        future = client.submit(f"{service}.hold", [7], timeout=30.0, safety=safety)
        assert counting.begun.acquire(timeout=10.0)
        before = way.accepted
        way.reset()
        eventually(lambda: way.accepted >= before + 2 and counting.server.health()["consuming"], "it is back")
        counting.go.set()

        assert future.result(timeout=10.0) == 7
        assert counting.runs == 1
        eventually(lambda: not counting.server.health()["unacked"], "the ack")
    counting.server.stop()
    assert private_broker.ctl("list_queues", "-q", "name", "messages").split(f"rpc.{service}\t")[1].split()[0] == "0"


@pytest.mark.timeout(120)
def test_a_server_that_is_told_to_stop_answers_what_it_has_begun(amqp_url: str, service: str, tmp_path: Path) -> None:
    with server_process(amqp_url, service, tmp_path) as process:
        wait_for_servers(amqp_url, service, 1)
        with Client(amqp_url) as client:
            future = client.submit(f"{service}.hold", {"name": "x", "seconds": 1.0}, timeout=30.0)
            eventually(lambda: _runs(tmp_path, "x"), "the call begins")
            process.terminate()

            assert future.result(timeout=10.0) == process.pid
            assert process.wait(10.0) == 0
