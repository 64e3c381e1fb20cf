"""Row 43 of the fault matrix: a node of a RabbitMQ cluster is killed under load, with the leader of the queue on it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from resilient_rpc import Client, Quorum
from resilient_rpc.policies import AttemptTimeout, Retry, RetryBudget
from resilient_rpc.transport.amqp import transport
from tests.faults.group import MACHINE, Watch
from tests.faults.keyed import Shop
from tests.faults.tools import eventually
from tests.servers.rabbit_cluster import RabbitCluster

PATIENT = [Retry(attempts=1_000, cap=0.5, budget=RetryBudget.unlimited()), AttemptTimeout(limit=2.0)]
BACK = 15.0
"""Seconds until the others have noticed, and there is another leader."""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_row_43_a_node_that_is_killed_with_the_leader_of_the_queue_loses_and_doubles_nothing(
    rabbit_cluster: RabbitCluster, redis_url: str, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Clients begin at any of their hosts, to spread over the nodes. Here the first is meant.
    monkeypatch.setattr(transport, "random", SimpleNamespace(randrange=lambda _: 0))
    for _ in range(2):
        shop.serve(rabbit_cluster.url, redis_url, settings={"queue": Quorum()})
    doomed = rabbit_cluster.leader_of(f"rpc.{shop.service}")
    url = rabbit_cluster.url_of(doomed, *(node for node in rabbit_cluster.nodes if node is not doomed))
    with Client(url, policies=PATIENT, timeout=60.0) as client, Client(url, policies=PATIENT, timeout=60.0) as caster:
        held = [client.submit(shop.name("hold"), idempotency_key=f"held {n}") for n in range(10)]
        shop.has_begun(10)
        stop, keys, calls = threading.Event(), [], []
        casts: list[str] = []

        def load() -> None:
            while not stop.wait(0.02):
                keys.append(f"k{len(keys)}")
                calls.append(client.submit(shop.name("create"), idempotency_key=keys[-1]))

        def cast() -> None:
            while not stop.wait(0.02):
                key = f"cast {len(casts)}"
                caster.cast(shop.name("create"), idempotency_key=key)
                casts.append(key)  # what the cluster has confirmed

        threads = [threading.Thread(target=each) for each in (load, cast)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(keys) > 50 and len(casts) > 20, "load")
        before = len(keys)
        try:
            doomed.kill()
            watch = Watch()
            shop.go.set()
            answers = [client.call(shop.name("create"), idempotency_key="after", timeout=60.0)]
            took = watch.seconds
            print(f"answered again after {took:.1f} s")
            eventually(lambda: len(keys) > before + 50, "more load")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        answers += [call.result(timeout=61.0) for call in (*held, *calls)]
        eventually(lambda: set(casts) <= set(shop.counts()), "every cast that was confirmed", 20.0)

    assert took < BACK + MACHINE
    assert answers == shop.answers("after", *(f"held {n}" for n in range(10)), *keys)
    assert set(shop.answers(*casts))
    assert max(shop.counts().values()) == 1
