"""A call that ends every process that runs it (row 27 of the fault matrix): it is given up, the others are not."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from resilient_rpc import Classic, Client, Quorum
from tests.broker.dead import Graveyard, graveyard
from tests.faults.poisoned import LIMIT
from tests.waiting import until


@contextmanager
def supervised(yard: Graveyard, kind: str) -> Iterator[list[int]]:
    """A server that is started again whenever it dies; what its processes ended with."""
    ended: list[int] = []
    stop = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def supervise() -> None:
        while not stop.is_set():
            command = [sys.executable, "-m", "tests.faults.poisoned", yard.url, yard.service, kind]
            running.append(subprocess.Popen(command))
            ended.append(running[-1].wait())

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        running[-1].kill()
        thread.join()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_poisonous_call_ends_with_the_dead_and_the_others_are_answered(
    amqp_url: str, service: str, kind: str
) -> None:
    with graveyard(amqp_url, service) as yard:
        yard.declare(Quorum(delivery_limit=LIMIT) if kind == "quorum" else Classic(delivery_limit=LIMIT))
        with Client(amqp_url, batching=None, policies=[]) as client:
            doomed = client.submit(f"{service}.poison", safety="idempotent", timeout=120.0)
            others = [
                client.submit(f"{service}.price", {"n": n}, safety="idempotent", timeout=120.0)
                for n in range(20 if kind == "classic" else 0)
            ]
            with supervised(yard, kind) as ended:
                until(lambda: yard.depth(yard.dead) == 1, 90)
                until(lambda: ended.count(9) > LIMIT, 10)  # the broker may know of an end before we do
                # One more only if a process ended between a confirm and the ack that followed it.
                assert ended.count(9) <= LIMIT + 3
                assert [each.result(timeout=30) for each in others] == list(range(len(others)))
                assert client.call(f"{service}.price", {"n": 7}, timeout=30.0) == 7
            doomed.cancel()
        letters = yard.take(yard.dead)
        assert len({properties.message_id for properties, _ in letters}) == 1
        found = letters[0][0].headers
        if kind == "classic":
            assert (found["rpc-dead-reason"], found["rpc-dead-attempts"]) == ("delivery_limit", LIMIT + 1)
        else:
            assert found["x-first-death-reason"] == "delivery_limit"
