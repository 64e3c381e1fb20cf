"""Rows 30, 31, 33 and 34 of the fault matrix from end to end: what callers are told while Redis fails (`README.md`)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import psutil
import pytest
import redis

from resilient_rpc import Certainty, Client, RpcError
from resilient_rpc.errors import DependencyUnavailable
from resilient_rpc.events import PolicyBypassed
from resilient_rpc.policies.idempotency.events import OwnershipLost, StoreFailed
from resilient_rpc.stores import RedisStore
from tests.faults.group import MACHINE, PATIENT, Watch
from tests.faults.keyed import Shop
from tests.faults.tools import eventually
from tests.servers.handle import Server
from tests.servers.ports import HOST
from tests.servers.redis import LocalRedis
from tests.servers.redis_groups import Sentinels, ask, binary

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]
STORE_TIMEOUT = 0.5


@pytest.fixture
def own_redis() -> Iterator[LocalRedis]:
    """Whose process can be looked into."""
    with LocalRedis(binary()) as made:
        yield made


def refusal(client: Client, shop: Shop, key: str) -> tuple[DependencyUnavailable, float]:
    """What a keyed call is told, and when."""
    watch = Watch()
    with pytest.raises(DependencyUnavailable) as caught:
        client.call(shop.name("create"), idempotency_key=key, timeout=10.0)
    return caught.value, watch.seconds


def test_row_30_without_redis_keyed_calls_are_refused_unexecuted_at_once_and_redis_is_let_alone(
    private_redis: Server, amqp_url: str, shop: Shop
) -> None:
    shop.serve(amqp_url, RedisStore(private_redis.url, timeout=STORE_TIMEOUT))
    with Client(amqp_url, policies=[]) as client, Client(amqp_url, policies=PATIENT) as patient:
        before = client.call(shop.name("create"), idempotency_key="before")
        private_redis.kill()
        keys = [f"k{n}" for n in range(10)]
        refused = [refusal(client, shop, key) for key in keys]
        assert max(took for _, took in refused) < 0.1 + MACHINE
        assert {(error.code, error.certainty, error.retryable) for error, _ in refused} == {
            (-32005, Certainty.NOT_EXECUTED, True)
        }
        assert all(error.retry_after for error, _ in refused)
        failed = [event.error for event in shop.events if isinstance(event, StoreFailed)]
        assert getattr(failed[-1], "reason", "") == "open"
        assert len(shop.effects) == 1
        private_redis.start()
        answers = [patient.call(shop.name("create"), idempotency_key=key, timeout=20.0) for key in keys]
        again = patient.request(shop.name("create"), idempotency_key="before", timeout=20.0)

    assert [*answers, before] == shop.answers(*keys, "before")
    assert (again.result, again.replayed) == (before, True)


def test_row_30_a_policy_that_is_open_executes_without_redis_each_time_and_says_so(
    private_redis: Server, amqp_url: str, shop: Shop
) -> None:
    shop.serve(amqp_url, RedisStore(private_redis.url, timeout=STORE_TIMEOUT), on_store_error="open")
    with Client(amqp_url, policies=[]) as client:
        client.call(shop.name("look"))
        private_redis.kill()
        answers = [client.call(shop.name("create"), idempotency_key="k", timeout=10.0) for _ in range(2)]

    assert answers == [effect.answer for effect in shop.effects]
    assert {effect.token for effect in shop.effects} == {0}  # nobody can give one
    assert [event.reason for event in shop.events if isinstance(event, PolicyBypassed)] == ["store", "store"]


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextlib.contextmanager
def paused(server: Server) -> Iterator[None]:
    with admin(server) as client:
        client.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")  # ALL would wait for itself
        try:
            yield
        finally:
            client.execute_command("CLIENT", "UNPAUSE")


@pytest.mark.parametrize("how", [stopped, paused], ids=["SIGSTOP", "CLIENT PAUSE"])
def test_row_31_a_frozen_redis_is_waited_for_once_and_begins_and_loses_nothing(
    private_redis: Server, amqp_url: str, shop: Shop, how: Callable[[Server], AbstractContextManager[None]]
) -> None:
    shop.serve(amqp_url, RedisStore(private_redis.url, timeout=STORE_TIMEOUT), lease=30.0)
    with Client(amqp_url, policies=[]) as client, Client(amqp_url, policies=PATIENT) as patient:
        under_way = client.submit(shop.name("hold"), idempotency_key="under way", timeout=30.0)
        shop.has_begun()
        with how(private_redis):
            error, took = refusal(client, shop, "new")
            assert took < STORE_TIMEOUT + MACHINE
            assert error.certainty is Certainty.NOT_EXECUTED
            shop.go.set()
            answer = under_way.result(timeout=STORE_TIMEOUT + 2 * MACHINE)
        again = patient.call(shop.name("hold"), idempotency_key="under way", timeout=20.0)
        new = patient.call(shop.name("create"), idempotency_key="new", timeout=20.0)

    assert again == answer
    assert [answer, new] == shop.answers("under way", "new")


@contextlib.contextmanager
def admin(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, socket_timeout=20) as client:
        yield client


def commands(break_it: str, mend_it: str) -> Callable[[LocalRedis], AbstractContextManager[None]]:
    """Two lines of commands, parted by semicolons."""

    @contextlib.contextmanager
    def broken(server: LocalRedis) -> Iterator[None]:
        with admin(server) as client:
            for line in break_it.split(";"):
                client.execute_command(*line.split())
            yield
            for line in mend_it.split(";"):
                client.execute_command(*[word.strip("'") for word in line.split()])

    return broken


@contextlib.contextmanager
def without_its_disk(server: LocalRedis) -> Iterator[None]:
    """A snapshot has failed: its process was killed."""
    with admin(server) as client:
        client.config_set("save", "3600 1")
        client.config_set("rdb-key-save-delay", 60_000_000)
        parent = psutil.Process(client.info()["process_id"])
        client.execute_command("BGSAVE")
        for child in parent.children():
            child.kill()
        eventually(lambda: client.info()["rdb_last_bgsave_status"] == "err", "a snapshot that failed")
        yield
        client.config_set("save", "")


@contextlib.contextmanager
def loading(server: LocalRedis) -> Iterator[None]:
    """Its whole log once more, slowly; it looks up from it after each 1,024 commands."""
    with admin(server) as client:
        with client.pipeline(transaction=False) as pipeline:
            for number in range(20_000):
                pipeline.set("filler", number)
            pipeline.execute()
        client.config_set("key-load-delay", 300)

        def load() -> None:
            with admin(server) as other:
                other.execute_command("DEBUG", "LOADAOF")

        thread = threading.Thread(target=load)
        thread.start()
        eventually(lambda: client.info("persistence")["loading"], "a Redis that loads")
        yield
        client.config_set("key-load-delay", 0)
        thread.join()


@contextlib.contextmanager
def busy(server: LocalRedis) -> Iterator[None]:
    """With somebody's script."""
    with admin(server) as client:
        client.config_set("busy-reply-threshold", 50)

        def spin() -> None:
            with admin(server) as other, contextlib.suppress(redis.RedisError):
                other.eval("while true do end", 0)

        def is_busy() -> bool:
            try:
                client.ping()
            except redis.ResponseError as error:
                return "BUSY" in str(error)
            return False

        thread = threading.Thread(target=spin)
        thread.start()
        eventually(is_busy, "a Redis that is busy")
        yield
        client.script_kill()
        thread.join()


FAULTS: dict[str, tuple[Callable[[LocalRedis], AbstractContextManager[None]], bool]] = {
    "READONLY: wrong role": (commands(f"REPLICAOF {HOST} 1", "REPLICAOF NO ONE"), True),
    "NOREPLICAS": (commands("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"), True),
    "OOM: full": (commands("CONFIG SET maxmemory 1mb", "CONFIG SET maxmemory 0"), True),
    "MISCONF": (without_its_disk, True),
    "LOADING": (loading, True),
    "BUSY": (busy, True),
    "password changed": (
        commands("CONFIG SET requirepass secret; CLIENT KILL TYPE normal SKIPME yes", "CONFIG SET requirepass ''"),
        False,
    ),
    "rights taken": (commands("ACL SETUSER default -evalsha -eval", "ACL SETUSER default +evalsha +eval"), False),
}


@pytest.mark.parametrize(("how", "worth_a_retry"), FAULTS.values(), ids=FAULTS)
def test_row_33_a_redis_that_refuses_is_an_unavailable_dependency_and_never_an_error_of_the_handler(
    own_redis: LocalRedis,
    amqp_url: str,
    shop: Shop,
    how: Callable[[LocalRedis], AbstractContextManager[None]],
    worth_a_retry: bool,
) -> None:
    shop.serve(amqp_url, RedisStore(own_redis.url, timeout=2.0), lease=30.0)
    with Client(amqp_url, policies=[]) as client:
        done = client.call(shop.name("create"), idempotency_key="done")
        under_way = client.submit(shop.name("hold"), idempotency_key="under way", timeout=30.0)
        shop.has_begun()
        with how(own_redis):
            error, took = refusal(client, shop, "new")
            assert took < 2.0 + MACHINE
            assert (error.code, error.certainty, error.retryable) == (-32005, Certainty.NOT_EXECUTED, worth_a_retry)
            assert "secret" not in str(error)
            shop.go.set()
            answer = under_way.result(timeout=2.0 + 2 * MACHINE)
        found = [_peaceful(client, shop, method, key) for method, key in CALLS]

    assert found == [done, answer, found[2]] == shop.answers(*[key for _, key in CALLS])


CALLS = (("create", "done"), ("hold", "under way"), ("create", "new"))


def _peaceful(client: Client, shop: Shop, method: str, key: str) -> Any:
    """The answer, as soon as Redis is asked again."""
    found: list[Any] = []

    def answered() -> bool:
        with contextlib.suppress(DependencyUnavailable):
            found.append(client.call(shop.name(method), idempotency_key=key, timeout=10.0))
        return bool(found)

    eventually(answered, f"an answer for {key}")
    return found[0]


@pytest.mark.parametrize(
    "line", ["SCRIPT FLUSH", "CLIENT KILL TYPE normal SKIPME yes", "restart"], ids=["NOSCRIPT", "cut", "restart"]
)
def test_row_33_a_redis_that_has_forgotten_scripts_or_connections_costs_keyed_calls_nothing(
    own_redis: LocalRedis, amqp_url: str, shop: Shop, line: str
) -> None:
    shop.serve(amqp_url, RedisStore(own_redis.url, timeout=2.0), lease=30.0)
    keys: list[str] = []
    answers: list[Any] = []
    with Client(amqp_url, policies=[]) as client:
        for turn in range(3):
            under_way = client.submit(shop.name("hold"), idempotency_key=f"held {turn}", timeout=30.0)
            shop.has_begun()
            if line == "restart":
                own_redis.restart()
            else:
                with admin(own_redis) as operator:
                    operator.execute_command(*line.split())
            shop.go.set()
            batch = [f"{turn}.{n}" for n in range(20)]
            futures = [client.submit(shop.name("create"), idempotency_key=key, timeout=10.0) for key in batch]
            answers += [under_way.result(timeout=10.0), *[future.result(timeout=10.0) for future in futures]]
            keys += [f"held {turn}", *batch]
            shop.go.clear()

    assert answers == shop.answers(*keys)


@pytest.mark.slow
def test_row_34_a_failover_that_forgets_a_claim_costs_a_second_effect_that_its_token_shows_and_no_second_answer(
    sentinels: Sentinels, amqp_url: str, shop: Shop
) -> None:
    stores = [RedisStore(sentinels.url, namespace=shop.service, timeout=STORE_TIMEOUT) for _ in range(2)]
    shop.serve(amqp_url, stores[0])
    master, _ = sentinels.redis
    with Client(amqp_url, policies=[]) as client, Client(amqp_url, policies=PATIENT) as patient:
        safe = client.call(shop.name("create"), idempotency_key="safe")
        assert ask(master.port, "WAIT", 1, 5000) == 1
        ask(master.port, "ACL", "SETUSER", "default", "-psync")  # the replica hears no more
        ask(master.port, "CLIENT", "KILL", "TYPE", "replica")
        first = client.submit(shop.name("hold"), idempotency_key="forgotten", timeout=60.0)
        shop.has_begun()
        master.kill()
        shop.serve(amqp_url, stores[1])
        second = patient.submit(shop.name("hold"), idempotency_key="forgotten", timeout=60.0)
        assert shop.begun.acquire(timeout=40.0), "no failover"
        shop.go.set()
        answers = {first.result(timeout=20.0), second.result(timeout=20.0)}
        again = patient.request(shop.name("create"), idempotency_key="safe", timeout=20.0)

    older, newer = [effect for effect in shop.effects if effect.key == "forgotten"]
    assert older.token < newer.token
    assert answers == {newer.answer}
    assert any(isinstance(event, OwnershipLost) for event in shop.events)
    assert (again.result, again.replayed) == (safe, True)
    assert shop.counts()["safe"] == 1


def test_a_redis_that_is_down_at_the_start_is_found_when_it_is_there(
    private_redis: Server, amqp_url: str, shop: Shop
) -> None:
    private_redis.kill()
    shop.serve(amqp_url, RedisStore(private_redis.url, timeout=STORE_TIMEOUT))
    with Client(amqp_url, policies=[]) as client, Client(amqp_url, policies=PATIENT) as patient:
        assert client.call(shop.name("look")) == 0  # what has no key needs no Redis
        error, took = refusal(client, shop, "k")
        assert took < STORE_TIMEOUT + MACHINE
        assert error.certainty is Certainty.NOT_EXECUTED
        private_redis.start()
        answer = patient.call(shop.name("create"), idempotency_key="k", timeout=20.0)

    assert [answer] == shop.answers("k")


def test_a_wrong_password_for_redis_is_refused_for_good_and_named_to_the_operator_only(
    private_redis: Server, amqp_url: str, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    with admin(private_redis) as client:
        client.config_set("requirepass", "right-one")
    url = private_redis.url.replace("redis://", "redis://:wrong-one@")
    shop.serve(amqp_url, RedisStore(url, timeout=STORE_TIMEOUT))
    with Client(amqp_url, policies=PATIENT) as client_:
        error, took = refusal(client_, shop, "k")

    assert took < STORE_TIMEOUT + MACHINE  # no retry would help, and none was made
    assert isinstance(error, RpcError)
    assert (error.certainty, error.retryable, error.retry_after) == (Certainty.NOT_EXECUTED, False, None)
    said = [str(event.error) for event in shop.events if isinstance(event, StoreFailed)]
    assert "password" in said[0]
    assert "wrong-one" not in " ".join([str(error), repr(error), *said, caplog.text])
    assert not shop.effects
