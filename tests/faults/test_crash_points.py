"""A server process that dies at each step of a keyed call: how often it took effect, and what its callers were told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from resilient_rpc import Certainty, Client, RemoteError, RpcError
from resilient_rpc.errors import DeadlineExceeded, Expired
from resilient_rpc.policies import AttemptTimeout, Retry
from tests.faults.soak.callers import Order
from tests.faults.soak.fleet import Fleet
from tests.faults.soak.keyed_strikes import connected, stop
from tests.faults.soak.ledger import Line, read
from tests.faults.soak.republish import connection, twice
from tests.faults.soak.run import wait_for_servers
from tests.faults.soak.server import command
from tests.faults.tools import eventually
from tests.servers.handle import Server
from tests.servers.proxy import Proxy

LEASE = 1.0
PATIENT: list[Any] = [Retry(attempts=20, cap=0.2, overload_base=0.1), AttemptTimeout(limit=1.0)]


@contextlib.contextmanager
def serving(amqp_url: str, redis_url: str, service: str, folder: Path, size: int = 2) -> Iterator[Fleet]:
    with Fleet(command(amqp_url, redis_url, service, folder, LEASE), folder, size=size) as fleet:
        wait_for_servers(amqp_url, service, fleet)
        yield fleet


def effects(folder: Path) -> list[Line]:
    path = folder / "ledger"
    return [line for line in read(path) if line.kind == "effect"] if path.exists() else []


@pytest.mark.fault
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("point", "done"),
    [("before_effect", 1), ("after_effect", 2), ("after_complete", 1), ("after_reply", 1), ("before_ack", 1)],
)
def test_a_server_killed_at_a_step_leaves_so_many_effects_and_one_answer(
    amqp_url: str, redis_url: str, service: str, tmp_path: Path, point: str, done: int
) -> None:
    with serving(amqp_url, redis_url, service, tmp_path) as fleet, Client(amqp_url, policies=PATIENT) as client:
        how: Any = {"idempotency_key": service, "timeout": 20.0}
        answer = client.call(f"{service}.deliver", {"crash": point}, **how)
        eventually(lambda: len(fleet.pids) == 1, "the death of a server")
        again = client.request(f"{service}.deliver", {"crash": point}, **how)
        lines = effects(tmp_path)

    assert (tmp_path / f"{service}.{point}").exists()
    assert len(lines) == done
    assert answer == lines[-1].token  # of the larger fencing token, where there are two
    assert [line.epoch for line in lines] == sorted({line.epoch for line in lines})
    assert (again.result, again.replayed) == (answer, True)


@pytest.mark.fault
@pytest.mark.timeout(120)
def test_a_server_frozen_for_longer_than_its_lease_changes_neither_record_nor_answer(
    amqp_url: str, redis_url: str, service: str, tmp_path: Path
) -> None:
    with serving(amqp_url, redis_url, service, tmp_path) as fleet, Client(amqp_url, policies=PATIENT) as client:
        params: Any = {"seconds": 0.8}
        how: Any = {"idempotency_key": service, "timeout": 30.0}
        future = client.submit(f"{service}.deliver", params, **how)
        eventually(lambda: effects(tmp_path), "the first effect")
        (frozen,) = effects(tmp_path)
        stop(frozen.pid, lambda: eventually(future.done, "the answer of the other server", 25.0))
        answer = future.result()
        eventually(lambda: not _running(client, service, fleet), "the end of the frozen execution")
        again = client.request(f"{service}.deliver", params, **how)
        first, second = effects(tmp_path)

    assert first.epoch < second.epoch
    assert first.pid != second.pid
    assert answer == again.result == second.token


def _running(client: Client, service: str, fleet: Fleet) -> bool:
    states: dict[int, int] = {}
    while len(states) < len(fleet.pids):
        with contextlib.suppress(RpcError):
            state = client.call(f"{service}.state", timeout=1.0, safety="read_only")
            states[state["pid"]] = state["running"]
    return any(count > 1 for count in states.values())  # the question itself is one


@pytest.mark.fault
@pytest.mark.timeout(120)
def test_the_same_message_published_twice_takes_effect_once_and_is_answered_twice_alike(
    amqp_url: str, redis_url: str, service: str, tmp_path: Path
) -> None:
    with serving(amqp_url, redis_url, service, tmp_path), connection(amqp_url) as opened:
        channel = opened.channel()
        address = channel.queue_declare("", exclusive=True).method.queue
        order = Order(key=service, params={"seconds": 0.2}, timeout=5.0, method="deliver", how={})
        said = twice(opened, channel, address, service, order, 10.0)
        said += twice(opened, channel, address, service, order, 10.0)
        (line,) = effects(tmp_path)

    assert [one.answer for one in said] == [line.token] * 4


@pytest.mark.fault
@pytest.mark.timeout(120)
def test_a_call_whose_time_was_up_while_its_server_was_frozen_takes_no_effect(
    amqp_url: str, redis_url: str, service: str, tmp_path: Path
) -> None:
    with (
        serving(amqp_url, redis_url, service, tmp_path, size=1) as fleet,
        Client(amqp_url, policies=[]) as client,
    ):
        errors: list[RpcError] = []

        def late() -> None:
            with pytest.raises((DeadlineExceeded, Expired)) as caught:
                client.call(f"{service}.deliver", {}, idempotency_key=service, timeout=0.5)
            errors.append(caught.value)
            eventually(lambda: time.monotonic() > begin + 1.0, "the end of its time")

        for _ in range(2):  # by how much the clocks differ is known from earlier calls
            client.call(f"{service}.state", safety="read_only")
        begin = time.monotonic()
        stop(fleet.pids[0], late)
        eventually(lambda: not _running(client, service, fleet), "the server")
        client.call(f"{service}.deliver", {}, idempotency_key=f"{service}-other", timeout=5.0)
        lines = effects(tmp_path)

    assert [line.key for line in lines] == [f"{service}-other"]
    assert errors[0].certainty is Certainty.UNKNOWN


@pytest.mark.fault
@pytest.mark.timeout(120)
def test_an_answer_of_redis_that_is_lost_makes_no_second_effect(
    amqp_url: str, private_redis: Server, proxy: Callable[[str], Proxy], service: str, tmp_path: Path
) -> None:
    way = proxy(private_redis.url)
    with serving(amqp_url, way.url, service, tmp_path) as _, Client(amqp_url, policies=PATIENT) as client:
        client.call(f"{service}.deliver", {}, idempotency_key=f"{service}-warm", timeout=10.0)
        answers = []
        for number in range(5):
            way.cut(0)
            how: Any = {"idempotency_key": f"{service}-{number}", "timeout": 20.0}
            answers.append(client.call(f"{service}.deliver", {}, **how))
            assert client.call(f"{service}.deliver", {}, **how) == answers[-1]
        lines = effects(tmp_path)

    assert [line.token for line in lines[1:]] == answers


@pytest.mark.fault
@pytest.mark.timeout(120)
def test_a_server_that_is_told_to_stop_answers_keyed_calls_and_leaves_the_others_to_its_peers(
    amqp_url: str, redis_url: str, service: str, tmp_path: Path
) -> None:
    with serving(amqp_url, redis_url, service, tmp_path) as fleet, Client(amqp_url, policies=PATIENT) as client:
        futures = [
            client.submit(f"{service}.deliver", {"seconds": 0.3}, idempotency_key=f"{service}-{n}", timeout=20.0)
            for n in range(100)
        ]
        eventually(lambda: effects(tmp_path), "the first effect")
        leaving = fleet.pick(0.0)
        fleet.drain(leaving)
        answers = [future.result(timeout=20.0) for future in futures]
        lines = effects(tmp_path)

    assert fleet.unclean == []
    assert leaving.returncode == 0
    assert sorted(answers) == sorted(line.token for line in lines)
    assert len(lines) == 100
    assert not psutil.pid_exists(leaving.pid)


@pytest.mark.fault
@pytest.mark.timeout(120)
def test_without_redis_calls_are_refused_at_once_unexecuted_and_with_it_again_they_are_served(
    amqp_url: str, private_redis: Server, service: str, tmp_path: Path
) -> None:
    method = f"{service}.deliver"
    with (
        serving(amqp_url, private_redis.url, service, tmp_path, size=1),
        Client(amqp_url, policies=[]) as client,
        Client(amqp_url, policies=PATIENT) as patient,
    ):
        before = client.call(method, {}, idempotency_key=f"{service}-before", timeout=10.0)
        private_redis.kill()
        took = []
        for number in range(5):
            begin = time.monotonic()
            with pytest.raises(RemoteError) as caught:
                client.call(method, {}, idempotency_key=f"{service}-{number}", timeout=10.0)
            took.append(time.monotonic() - begin)
            assert caught.value.code == -32005
            assert caught.value.certainty is Certainty.NOT_EXECUTED
        private_redis.start()
        after = patient.call(method, {}, idempotency_key=f"{service}-0", timeout=20.0)
        replayed = patient.call(method, {}, idempotency_key=f"{service}-before", timeout=20.0)
        lines = effects(tmp_path)

    assert max(took) < 1.0
    assert replayed == before
    assert [line.token for line in lines] == [before, after]


@pytest.mark.fault
@pytest.mark.timeout(120)
def test_a_server_that_is_told_to_stop_records_first_what_it_has_answered_while_redis_was_away(
    amqp_url: str, private_redis: Server, service: str, tmp_path: Path
) -> None:
    with (
        serving(amqp_url, private_redis.url, service, tmp_path, size=1) as fleet,
        Client(amqp_url, policies=PATIENT) as client,
    ):
        future = client.submit(f"{service}.deliver", {"seconds": 0.6}, idempotency_key=service, timeout=20.0)
        eventually(lambda: effects(tmp_path), "the effect")
        private_redis.kill()
        answer = future.result(timeout=10.0)
        leaving = threading.Thread(target=fleet.drain_all)
        leaving.start()
        private_redis.start()
        leaving.join()
        with connected(private_redis.url) as redis:
            states = [redis.hget(name, "s") for name in redis.keys("rpc:*")]

    assert fleet.unclean == []
    assert [line.token for line in effects(tmp_path)] == [answer]
    assert states == [b"D"]
