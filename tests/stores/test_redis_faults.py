"""RedisStore on a Redis that fails: each step ends in a bounded time, and tells whether it was written."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Self

import pytest
import redis

from resilient_rpc.stores import (
    Busy,
    New,
    RecordKey,
    RedisStore,
    Replay,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    TakenOver,
)
from resilient_rpc.stores.gate import FAILURES
from tests.servers.handle import Server
from tests.servers.ports import HOST, free_port
from tests.servers.proxy import Proxy
from tests.stores.tools import PATIENT, begin, commands, eventually, new, new_key, on_a_loop, uninspected

BOUND = 1.0
"""Seconds: far more than the timeout of 0.1 s, for the machine of the tests may be busy."""


async def failing(asked: Awaitable[Any]) -> tuple[StoreError, float]:
    """The error of a step, and how long it took."""
    began = time.monotonic()
    with pytest.raises(StoreError) as info:
        await asked
    return info.value, time.monotonic() - began


def told(error: StoreError) -> tuple[type, str, object]:
    return type(error), error.reason, error.written


@contextlib.contextmanager
def admin(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, socket_timeout=5) as client:
        yield client


def test_killed_it_costs_nothing_after_the_first_failures_and_comes_back(
    private_redis: Server, caplog: pytest.LogCaptureFixture
) -> None:
    store, key = RedisStore(private_redis.url), new_key()

    async def work() -> None:
        await new(store)  # connects, with all that takes when it is done for the first time
        epoch = await new(store, key)
        await asyncio.to_thread(private_redis.kill)
        for _ in range(FAILURES):
            error, took = await failing(begin(store))
            assert told(error) in {(StoreUnavailable, "down", False), (StoreUnavailable, "lost", None)}
            assert took < BOUND
        began = time.monotonic()
        for _ in range(200):
            error, _ = await failing(begin(store))
            if error.reason == "open":
                assert error.written is False
                assert 0 < (error.retry_after or 0) <= 2.0
        assert time.monotonic() - began < BOUND
        await asyncio.to_thread(private_redis.start)
        await eventually(lambda: completed(store, key, epoch), "an answer")
        assert await begin(store, key) == Replay(b"done", ok=True)

    with caplog.at_level(logging.INFO, "resilient_rpc.stores.node"):
        on_a_loop(store, work)
    said = [record.getMessage() for record in caplog.records]
    assert "is not asked for a moment" in said[0]
    assert said[-1].endswith("answers again")


async def completed(store: RedisStore, key: RecordKey, epoch: int) -> bool:
    with contextlib.suppress(StoreUnavailable):
        return await store.complete(key, epoch, b"done", ok=True, ttl=60)
    return False


def test_frozen_it_is_waited_for_so_long_and_then_not_at_all(private_redis: Server) -> None:
    store, key = RedisStore(private_redis.url), new_key()

    async def work() -> None:
        await asyncio.gather(*[new(store) for _ in range(4)])
        epoch = await new(store, key)
        private_redis.freeze()
        for _ in range(FAILURES):
            error, took = await failing(store.renew(key, epoch, lease=30))
            assert told(error) == (StoreUnavailable, "timeout", None)
            assert 0.09 < took < BOUND
        error, took = await failing(store.renew(key, epoch, lease=30))
        assert told(error) == (StoreUnavailable, "open", False)
        assert took < 0.05
        private_redis.thaw()
        await eventually(lambda: completed(store, key, epoch), "an answer")

    on_a_loop(store, work)


def test_what_a_begin_got_while_nobody_heard_of_it_is_given_back(private_redis: Server) -> None:
    store, key = RedisStore(private_redis.url), new_key()

    async def work() -> None:
        await new(store)
        private_redis.freeze()
        error, _ = await failing(begin(store, key, on_takeover="fail_unknown"))
        assert told(error) == (StoreUnavailable, "timeout", None)
        private_redis.thaw()

        async def free() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return isinstance(await begin(store, key, on_takeover="fail_unknown"), New)
            return False

        await eventually(free, "a claim that is given back", 10.0)  # its lease is 30 seconds

    on_a_loop(store, work)


def test_so_many_claims_are_given_back_at_once_and_no_more(
    private_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilient_rpc.stores.lane.MAX_DISOWNED", 3)
    store = RedisStore(private_redis.url)

    async def work() -> None:
        await new(store)
        private_redis.freeze()
        await asyncio.gather(*[begin(store, lease=0.5) for _ in range(10)], return_exceptions=True)
        assert len(store._lane()._disowning) == 3

        async def given_up() -> bool:
            return not store._lane()._disowning

        await eventually(given_up, "the end of the lease")

    on_a_loop(store, work)


def test_a_restart_between_two_steps_costs_nobody_an_error(private_redis: Server) -> None:
    store, key = RedisStore(private_redis.url, timeout=PATIENT), new_key()

    async def work() -> None:
        epochs = await asyncio.gather(*[new(store) for _ in range(4)])
        epoch = await new(store, key)
        await asyncio.to_thread(private_redis.restart)
        assert await store.complete(key, epoch, b"x", ok=True, ttl=60)
        assert await begin(store, key) == Replay(b"x", ok=True)
        assert len(epochs) == 4

    on_a_loop(store, work)


@pytest.mark.parametrize(
    "forget", [("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal"), ("SCRIPT", "FLUSH", "SYNC")]
)
def test_forgotten_scripts_and_killed_connections_cost_nobody_an_error(
    private_redis: Server, forget: tuple[str, ...]
) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)

    async def work() -> None:
        for _ in range(3):
            await asyncio.gather(*[new(store) for _ in range(20)])
            with admin(private_redis) as client:
                client.execute_command(*forget, "SKIPME", "yes") if forget[0] == "CLIENT" else client.execute_command(
                    *forget
                )
        key = new_key()
        epoch = await new(store, key)
        assert await store.complete(key, epoch, b"x", ok=True, ttl=60)

    on_a_loop(store, work)


def test_a_lost_answer_is_asked_for_again_and_the_claim_recognised_as_ours(
    private_redis: Server, proxy: Callable[[str], Proxy]
) -> None:
    between = proxy(private_redis.url)
    store = uninspected(between.url, timeout=PATIENT)

    async def work() -> None:
        await new(store)
        key = new_key()
        before = commands(private_redis.url)["evalsha"]
        between.cut(0)
        epoch = await new(store, key)
        assert commands(private_redis.url)["evalsha"] == before + 2
        between.cut(0)
        assert await store.complete(key, epoch, b"once", ok=True, ttl=60)
        between.cut(3)
        assert await begin(store, key) == Replay(b"once", ok=True)

    on_a_loop(store, work)


def test_lost_twice_nobody_knows(private_redis: Server, proxy: Callable[[str], Proxy]) -> None:
    between = proxy(private_redis.url)
    store, key = uninspected(between.url, timeout=PATIENT), new_key()

    async def work() -> None:
        epoch = await new(store, key)
        between.refuse()
        between.cut(0)
        error, _ = await failing(store.renew(key, epoch, lease=30))
        assert told(error) == (StoreUnavailable, "lost", None)
        error, _ = await failing(store.renew(key, epoch, lease=30))
        assert told(error) == (StoreUnavailable, "down", False)

    on_a_loop(store, work)


@pytest.mark.parametrize("way", ["up", "down"])
def test_half_open_connections_are_waited_for_so_long(
    private_redis: Server, proxy: Callable[[str], Proxy], way: Any
) -> None:
    between = proxy(private_redis.url)
    store, key = uninspected(between.url, timeout=0.3), new_key()

    async def work() -> None:
        epoch = await new(store, key)
        between.freeze(way)
        error, took = await failing(store.renew(key, epoch, lease=30))
        assert told(error) == (StoreUnavailable, "timeout", None)
        assert took < BOUND
        between.thaw()
        between.reset()
        assert await store.renew(key, epoch, lease=30)

    on_a_loop(store, work)


def test_connecting_counts_too(private_redis: Server, proxy: Callable[[str], Proxy]) -> None:
    between = proxy(private_redis.url)
    between.freeze("down")
    store = uninspected(between.url.replace("/0", "/1"))  # SELECT is answered by nobody

    async def work() -> None:
        error, took = await failing(begin(store))
        assert told(error) == (StoreUnavailable, "timeout", False)
        assert took < BOUND

    on_a_loop(store, work)


def test_down_at_the_start_it_is_found_later(private_redis: Server) -> None:
    store = RedisStore(private_redis.url)
    private_redis.kill()

    async def work() -> None:
        error, took = await failing(begin(store))
        assert told(error) == (StoreUnavailable, "down", False)
        assert took < BOUND
        await asyncio.to_thread(private_redis.start)

        async def up() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return isinstance(await begin(store), New)
            return False

        await eventually(up, "an answer")

    on_a_loop(store, work)


def test_full_it_still_replays_and_begins_nothing(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)
    done, held, abandoned = new_key(), new_key(), new_key()

    async def work() -> None:
        await store.complete(done, await new(store, done), b"x", ok=True, ttl=60)
        epoch = await new(store, held)
        await store.abandon(abandoned, await new(store, abandoned))
        with admin(private_redis) as client:
            client.config_set("maxmemory", "1mb")
        assert await begin(store, done) == Replay(b"x", ok=True)
        assert isinstance(await begin(store, held), Busy)
        for asked in (
            begin(store),
            begin(store, abandoned),
            store.renew(held, epoch, lease=5),
            store.complete(held, epoch, b"", ok=True, ttl=5),
            store.abandon(held, epoch),
        ):
            error, _ = await failing(asked)
            assert told(error) == (StoreUnavailable, "full", False)
            assert error.retryable
        assert await store.delete(done)  # what is there can be freed
        with admin(private_redis) as client:
            client.config_set("maxmemory", "0")
        assert await store.complete(held, epoch, b"y", ok=True, ttl=5)

    on_a_loop(store, work)


@pytest.mark.parametrize(
    ("break_it", "mend_it", "reason"),
    [
        (("REPLICAOF", HOST, "1"), ("REPLICAOF", "NO", "ONE"), "read_only"),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0"), "replicas"),
    ],
)
def test_what_takes_no_writes_is_told_and_used_again_when_it_does(
    private_redis: Server, break_it: tuple[str, ...], mend_it: tuple[str, ...], reason: str
) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)

    async def work() -> None:
        await new(store)
        with admin(private_redis) as client:
            client.execute_command(*break_it)
            error, _ = await failing(begin(store))
            assert told(error) == (StoreUnavailable, reason, False)
            client.execute_command(*mend_it)
        assert isinstance(await begin(store), New)

    on_a_loop(store, work)


def test_a_replica_is_named_as_such(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)
    with admin(private_redis) as client:
        client.execute_command("REPLICAOF", HOST, "1")
    (warning,) = on_a_loop(store, store.inspect)
    assert "this is a replica" in warning


@pytest.mark.parametrize("password", ["", ":wrong@", "nobody:wrong@"])
def test_a_wrong_password_is_refused_and_shown_nowhere(
    private_redis: Server, caplog: pytest.LogCaptureFixture, password: str
) -> None:
    store = RedisStore(private_redis.url.replace("redis://", f"redis://{password}"), timeout=PATIENT)
    with admin(private_redis) as client:
        client.config_set("requirepass", "right")

    async def work() -> None:
        for _ in range(FAILURES):
            error, _ = await failing(begin(store))
            assert told(error) == (StoreRefused, "credentials", False)
            assert not error.retryable
            assert "wrong" not in str(error)

    on_a_loop(store, work)
    assert "wrong" not in caplog.text.replace("WRONGPASS", "")


def test_a_password_where_there_is_none_is_refused(private_redis: Server) -> None:
    store = RedisStore(private_redis.url.replace("redis://", "redis://:secret@"), timeout=PATIENT)
    error, _ = on_a_loop(store, lambda: failing(begin(store)))
    assert told(error) == (StoreRefused, "credentials", False)
    with pytest.raises(StoreRefused, match="password"):
        on_a_loop(store, store.inspect)


def test_a_user_without_the_rights_is_refused(private_redis: Server) -> None:
    store = RedisStore(private_redis.url.replace("redis://", "redis://app:pw@"), timeout=PATIENT)
    with admin(private_redis) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~other:*", "+@all")
        error, _ = on_a_loop(store, lambda: failing(begin(store)))
        assert told(error) == (StoreRefused, "rights", False)
        client.execute_command("ACL", "SETUSER", "app", "~rpc:*", "-hset")
        error, _ = on_a_loop(store, lambda: failing(begin(store)))
        assert told(error) == (StoreRefused, "rights", False)
        client.execute_command("ACL", "SETUSER", "app", "+hset", "-pexpire")
        error, _ = on_a_loop(store, lambda: failing(begin(store)))
        assert told(error) == (StoreRefused, "rights", None)  # the record is there, and would never expire


def test_a_database_that_is_not_there_is_refused(private_redis: Server) -> None:
    store = RedisStore(private_redis.url.replace("/0", "/99"), timeout=PATIENT)
    error, _ = on_a_loop(store, lambda: failing(begin(store)))
    assert told(error) == (StoreRefused, "database", False)


def test_a_redis_that_takes_no_more_connections_is_unavailable(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)
    with admin(private_redis) as client:
        client.config_set("maxclients", 1)
        error, _ = on_a_loop(store, lambda: failing(begin(store)))
    assert told(error) == (StoreUnavailable, "clients", False)


def test_busy_with_a_script_it_is_unavailable_and_comes_back(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)
    with admin(private_redis) as client:
        client.config_set("busy-reply-threshold", 50)

    def spin() -> None:
        with redis.Redis.from_url(private_redis.url) as client, contextlib.suppress(redis.RedisError):
            client.eval("while true do end", 0)

    async def work() -> None:
        await new(store)
        spinning = threading.Thread(target=spin)
        spinning.start()

        found: list[StoreError] = []

        async def is_busy() -> object:
            try:
                await begin(store)
            except StoreUnavailable as error:
                found.append(error)
            return found

        await eventually(is_busy, "a Redis that is busy")
        assert told(found[0]) == (StoreUnavailable, "busy", False)
        with admin(private_redis) as client:
            client.script_kill()
        await asyncio.to_thread(spinning.join)
        assert isinstance(await begin(store), New)

    on_a_loop(store, work)


def test_loading_it_is_unavailable() -> None:
    with Fake(b"-LOADING Redis is loading the dataset in memory\r\n") as fake:
        store = RedisStore(fake.url, timeout=PATIENT)
        error, _ = on_a_loop(store, lambda: failing(begin(store)))
    assert told(error) == (StoreUnavailable, "loading", False)


def test_what_it_says_after_an_answer_was_lost_proves_nothing() -> None:
    with Fake(None, b"-LOADING Redis is loading the dataset in memory\r\n") as fake:
        store = RedisStore(fake.url, timeout=PATIENT)
        error, _ = on_a_loop(store, lambda: failing(store.renew(new_key(), 1, lease=1)))
    assert told(error) == (StoreUnavailable, "loading", None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"*2\r\n$1\r\n7\r\n:1\r\n", "desync"),  # another question's number
        (b"*1\r\n$1\r\n0\r\n", "desync"),  # one answer too few
        (b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nQ\r\n", "unexpected"),
        (b"*2\r\n$1\r\n0\r\n$-1\r\n", "unexpected"),
        (b"-ERR something new\r\n", "unexpected"),
        (b"?garbage\r\n", "unexpected"),
        (b"+OK\r\n", "desync"),
    ],
)
def test_what_is_no_answer_to_the_question_is_never_taken_for_one(answer: bytes, reason: str) -> None:
    with Fake(answer) as fake:
        store = RedisStore(fake.url, timeout=PATIENT)
        error, _ = on_a_loop(store, lambda: failing(begin(store, lease=0.01)))
    assert error.reason == reason
    assert error.written is None


def test_what_redis_quotes_of_a_step_is_not_passed_on_to_callers(caplog: pytest.LogCaptureFixture) -> None:
    with Fake(b"-ERR odd, with args beginning with: 'secret'\r\n") as fake:
        store = uninspected(fake.url, timeout=PATIENT)
        error, _ = on_a_loop(store, lambda: failing(store.get(new_key())))
    assert "secret" not in str(error)
    assert "args beginning with" in caplog.text


def test_a_redis_that_lacks_a_command_is_refused() -> None:
    with Fake(b"-ERR unknown command 'EVALSHA', with args beginning with: 'x'\r\n") as fake:
        store = uninspected(fake.url, timeout=PATIENT)
        error, _ = on_a_loop(store, lambda: failing(begin(store)))
    assert told(error) == (StoreRefused, "commands", False)


def test_a_loop_that_was_held_up_does_not_blame_redis(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=0.1)

    async def work() -> None:
        await new(store)
        asking = asyncio.ensure_future(begin(store))
        for _ in range(3):
            await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - somebody's handler does it
        assert isinstance(await asking, New)

    on_a_loop(store, work)


def test_more_than_can_be_sent_in_time_is_refused_unsent(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=0.3, connections=1)

    async def work() -> list[Any]:
        await new(store)
        private_redis.freeze()
        first = asyncio.ensure_future(begin(store))
        await asyncio.sleep(0.05)
        later = [asyncio.ensure_future(begin(store)) for _ in range(5)]
        return await asyncio.gather(first, *later, return_exceptions=True)

    first, *later = on_a_loop(store, work)
    assert told(first) == (StoreUnavailable, "timeout", None)
    assert {error.reason for error in later} <= {"timeout", "open"}


def test_what_waits_for_its_turn_while_the_loop_is_held_up_is_refused_unsent(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=0.2, connections=1)

    async def work() -> list[Any]:
        await new(store)
        private_redis.freeze()
        asking = [asyncio.ensure_future(begin(store))]
        await asyncio.sleep(0.05)
        asking.append(asyncio.ensure_future(begin(store)))
        await asyncio.sleep(0.01)
        time.sleep(0.5)  # noqa: ASYNC251 - somebody's handler does it
        return await asyncio.gather(*asking, return_exceptions=True)

    first, second = on_a_loop(store, work)
    assert told(first) == (StoreUnavailable, "timeout", None)
    assert told(second) == (StoreUnavailable, "timeout", False)


def test_closed_while_redis_is_frozen_nobody_is_left_waiting(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT, connections=1)

    async def work() -> list[Any]:
        await new(store)
        private_redis.freeze()
        asking = [asyncio.ensure_future(begin(store))]
        await asyncio.sleep(0.05)
        asking.append(asyncio.ensure_future(begin(store)))
        await asyncio.sleep(0.01)
        await store.close()
        return await asyncio.gather(*asking, return_exceptions=True)

    first, second = on_a_loop(store, work)
    assert told(first) == (StoreUnavailable, "closed", None)
    assert told(second) == (StoreUnavailable, "closed", False)


def test_a_claim_that_never_arrived_is_asked_back_until_its_lease_is_over(
    private_redis: Server, proxy: Callable[[str], Proxy]
) -> None:
    between = proxy(private_redis.url)
    store, key = uninspected(between.url, timeout=0.2), new_key()

    async def work() -> None:
        await new(store)
        between.freeze("up")
        error, _ = await failing(begin(store, key, lease=2.0))
        assert told(error) == (StoreUnavailable, "timeout", None)
        between.reset()
        between.thaw()
        (asking,) = store._lane()._disowning
        await asking
        assert await store.get(key) is None

    on_a_loop(store, work)


def test_a_lease_that_ran_out_while_redis_was_away_is_taken_over_once(private_redis: Server) -> None:
    store, other, key = RedisStore(private_redis.url, timeout=PATIENT), RedisStore(private_redis.url), new_key()

    async def work() -> None:
        epoch = await new(store, key, lease=0.2)
        await asyncio.to_thread(private_redis.restart)

        async def over() -> bool:
            record = await store.get(key)
            return record is not None and record.lease_left == 0

        await eventually(over, "the end of a lease")
        taken = await begin(store, key)
        assert isinstance(taken, TakenOver)
        assert taken.epoch > epoch
        assert await store.complete(key, epoch, b"stale", ok=True, ttl=60) is False
        await other.close()

    on_a_loop(store, work)


def test_the_child_of_a_fork_does_not_use_the_connections_of_its_parent(private_redis: Server) -> None:
    store = RedisStore(private_redis.url, timeout=PATIENT)

    async def work() -> None:
        await new(store)
        owner, lane = store._owner, store._lane()
        store.after_fork()
        store._lanes.after_fork()
        assert store._owner != owner
        assert len(store._lanes) == 0
        await new(store)
        assert store._lane() is not lane
        await lane.aclose()

    on_a_loop(store, work)


class Fake:
    """Answers one question with what it is given (None: hangs up), and the next with the next."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = list(answers)
        self._socket = socket.create_server((HOST, free_port()))
        self.url = f"redis://{HOST}:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # close() alone would not end accept()
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while (asked := connection.recv(65536)) and b"EVALSHA" in asked:
                answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                if answer is None:
                    return
                connection.sendall(answer)
