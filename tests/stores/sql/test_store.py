"""The port over databases, and what becomes of steps that fail, hang or are given up."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores import CorruptRecord, New, StoreError, StoreRefused, StoreUnavailable, TakenOver, Unknown
from resilient_rpc.stores.keys import name_of
from resilient_rpc.stores.sql import SqlStore, create_table, ddl
from resilient_rpc.stores.sql import workers as workers_module
from resilient_rpc.stores.sql.workers import Workers
from resilient_rpc.testing import check_store
from tests.stores.sql.databases import Database
from tests.stores.tools import begin, eventually, new, new_key, on_a_loop


@pytest.mark.slow
def test_it_keeps_every_rule(database: Database) -> None:
    report = check_store(database.store)
    assert len(report.holds) >= 20
    assert not report.left_out


class Driver:
    """Connections to an SQLite file that fail when they are told to."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "driver.db")
        self.opened = 0
        self.error: Exception | None = None
        self.on_commit: list[Exception] = []
        self.hold: threading.Event | None = None
        self.reached = threading.Event()
        driver = self

        class Connection(sqlite3.Connection):
            def commit(self) -> None:
                super().commit()
                driver.reached.set()
                if driver.hold is not None:
                    assert driver.hold.wait(20.0)
                if driver.on_commit:
                    raise driver.on_commit.pop()

        self._kind = Connection
        with closing(sqlite3.connect(self.path)) as connection:
            create_table(connection)
            connection.commit()

    def connect(self) -> Any:
        self.opened += 1
        if self.error is not None:
            raise self.error
        return sqlite3.connect(self.path, timeout=20.0, factory=self._kind)

    def store(self, **settings: Any) -> SqlStore:
        return SqlStore(self.connect, **{"timeout": 20.0, "connections": 1, **settings})

    def execute(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.path, timeout=20.0)) as connection:
            connection.execute(statement, values)
            connection.commit()


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def test_a_database_that_is_away_is_unavailable_and_asked_again(driver: Driver) -> None:
    store = driver.store()

    async def work() -> None:
        driver.error = sqlite3.OperationalError("unable to open database file")
        with pytest.raises(StoreUnavailable, match="does not answer: OperationalError: unable to open") as info:
            await begin(store)
        assert (info.value.reason, info.value.written) == ("down", False)
        driver.error = None
        assert isinstance(await begin(store), New)

    on_a_loop(store, work)


def test_a_connection_that_broke_while_it_was_idle_is_replaced_at_once(driver: Driver) -> None:
    store, key = driver.store(), new_key()

    async def work() -> None:
        epoch = await new(store, key)
        driver.on_commit = [sqlite3.InterfaceError("server closed the connection")]
        assert await store.renew(key, epoch, lease=30.0)
        assert driver.opened == 2
        driver.on_commit = [sqlite3.InterfaceError("closed")] * 2
        with pytest.raises(StoreUnavailable) as info:
            await store.renew(key, epoch, lease=30.0)
        assert info.value.written is None
        assert driver.opened == 3

    on_a_loop(store, work)


def test_what_is_refused_is_not_tried_again(driver: Driver) -> None:
    store = driver.store()

    async def work() -> None:
        await begin(store)
        driver.on_commit = [sqlite3.OperationalError("database is locked")]
        with pytest.raises(StoreUnavailable) as info:
            await begin(store)
        assert (info.value.reason, driver.opened) == ("busy", 1)

    on_a_loop(store, work)


def test_a_table_that_is_missing_is_named(tmp_path: Path) -> None:
    store = SqlStore(lambda: sqlite3.connect(tmp_path / "empty.db"))
    with pytest.raises(StoreRefused, match=r"see create_table.*no such table: rpc_idempotency") as info:
        on_a_loop(store, lambda: begin(store))
    assert (info.value.reason, info.value.retryable, info.value.written) == ("schema", False, False)


def test_what_connect_gives_must_be_a_connection() -> None:
    store = SqlStore(object)
    with pytest.raises(ConfigurationError, match=r"cannot use a builtins\.object"):
        on_a_loop(store, lambda: begin(store))


def test_a_database_that_hangs_is_not_waited_for_and_what_it_did_is_taken_back(driver: Driver) -> None:
    store, patient, key = driver.store(timeout=0.05), driver.store(), new_key()
    driver.hold = threading.Event()

    async def work() -> None:
        with pytest.raises(StoreUnavailable, match="did not answer in time") as info:
            await begin(store, key)
        assert (info.value.reason, info.value.written) == ("timeout", None)
        with pytest.raises(StoreUnavailable):  # still in line: it is not begun at all
            await begin(store, key, fingerprint=b"other")
        assert driver.hold is not None
        driver.hold.set()
        await eventually(functools.partial(abandoned, patient, key), "the record was given back")
        await patient.close()

    on_a_loop(store, work)


async def abandoned(store: SqlStore, key: Any) -> bool:
    record = await store.get(key)
    return record is not None and record.progress == "abandoned"


def test_a_takeover_that_nobody_heard_of_stays_one(driver: Driver) -> None:
    store, key = driver.store(), new_key()

    async def work() -> None:
        await new(store, key, lease=0.001)
        await eventually(functools.partial(over, store, key), "the lease was over")
        driver.hold = threading.Event()
        driver.reached.clear()
        task = asyncio.create_task(begin(store, key))
        await asyncio.to_thread(driver.reached.wait, 20.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        driver.hold.set()
        await eventually(functools.partial(over, store, key), "the takeover was given back")
        assert await begin(store, key, on_takeover="fail_unknown") == Unknown()
        assert isinstance(await begin(store, key), TakenOver)

    on_a_loop(store, work)


async def over(store: SqlStore, key: Any) -> bool:
    record = await store.get(key)
    return record is not None and record.lease_left == 0


def test_a_loop_that_ended_without_close_leaves_no_thread(driver: Driver) -> None:
    store = driver.store()
    asyncio.run(begin(store))  # type: ignore[arg-type]
    (forgotten,) = store._workers._of.values()
    (thread,) = forgotten._threads
    on_a_loop(store, lambda: begin(store))
    thread.join(20.0)
    assert not thread.is_alive()
    assert len(store._workers) == 0


def test_a_step_whose_loop_is_gone_hurts_nobody(driver: Driver) -> None:
    store = driver.store()
    driver.hold = threading.Event()

    async def leave() -> None:
        asyncio.get_running_loop().call_later(0.01, asyncio.get_running_loop().stop)
        await store.get(new_key())

    loop = asyncio.new_event_loop()
    task = loop.create_task(leave())
    loop.run_forever()
    assert driver.reached.wait(20.0)
    loop.close()
    driver.hold.set()
    on_a_loop(store, lambda: begin(store))
    task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("column", "value"),
    [("progress", "odd"), ("progress", "ok"), ("payload", b"x"), ("fingerprint", "text"), ("epoch", "many")],
)
def test_a_row_that_is_no_record_is_corrupt(driver: Driver, column: str, value: Any) -> None:
    store, key = driver.store(), new_key()

    async def work() -> None:
        await new(store, key)
        driver.execute(f"UPDATE rpc_idempotency SET {column} = ?", value)  # noqa: S608
        with pytest.raises(CorruptRecord):
            await begin(store, key)
        with pytest.raises(CorruptRecord):
            await store.get(key)

    on_a_loop(store, work)


def test_a_record_that_changes_all_the_time_is_not_looked_at_for_ever(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = driver.store()
    monkeypatch.setattr("resilient_rpc.stores.sql.store.began_of", lambda *_: None)
    key = new_key()

    async def work() -> None:
        await new(store, key)
        with pytest.raises(StoreUnavailable, match="faster") as info:
            await begin(store, key)
        assert info.value.reason == "busy"

    on_a_loop(store, work)


def test_purge_deletes_what_expired_long_ago_and_nothing_else(driver: Driver) -> None:
    store, keys = driver.store(), [new_key() for _ in range(4)]

    async def work() -> None:
        for key in keys:
            await begin(store, key)
        for key, ago in zip(keys, (120_000, 120_000, 59_000), strict=False):
            driver.execute(
                "UPDATE rpc_idempotency SET expires = CAST((julianday('now') - 2440587.5) * 86400000 AS BIGINT) - ?"
                " WHERE id = ?",
                ago,
                name_of("rpc", key).decode(),
            )
        assert [await store.purge(1), await store.purge(), await store.purge()] == [1, 1, 0]
        assert await store.get(keys[3]) is not None
        with pytest.raises(ConfigurationError, match="most"):
            await store.purge(0)

    on_a_loop(store, work)


@pytest.mark.parametrize("table", ["", "a b", "1a", "a.b.c", 'a"b', "a;", "a" * 51, "ä", "a\n", None, 5])
def test_a_table_has_a_plain_name(table: Any) -> None:
    for use in (lambda: SqlStore(object, table=table), lambda: ddl("sqlite", table)):
        with pytest.raises(ConfigurationError, match=r"SqlStore\.table must be a name"):
            use()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"connect": "orders.db"}, "SqlStore.connect"),
        ({"timeout": 0}, "SqlStore.timeout"),
        ({"connections": 0}, "SqlStore.connections"),
        ({"max_payload": 0}, "SqlStore.max_payload"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        SqlStore(**{"connect": object, **settings})


def test_the_ddl_is_for_a_database_that_is_known() -> None:
    assert "BLOB" in ddl("sqlite")
    assert '"audit"."records"' in ddl("postgresql", "audit.records")
    assert 'INDEX IF NOT EXISTS "records_expires" ON "audit"."records"' in ddl("postgresql", "audit.records")
    with pytest.raises(ConfigurationError, match="sqlite, postgresql"):
        ddl("mysql")  # type: ignore[arg-type]


def test_a_table_may_stand_in_a_schema(driver: Driver) -> None:
    with closing(driver.connect()) as connection:
        connection.executescript(ddl("sqlite", "main.other"))
    store = driver.store(table="main.other")
    assert isinstance(on_a_loop(store, lambda: begin(store)), New)


def test_before_a_fork_every_connection_is_closed_and_after_it_work_goes_on(driver: Driver) -> None:
    store, key = driver.store(connections=2), new_key()

    async def work() -> None:
        epoch = await new(store, key)
        (workers,) = store._workers._of.values()
        opened = driver.opened
        workers.park()
        waiting = asyncio.create_task(store.renew(key, epoch, lease=30.0))
        await asyncio.sleep(0)
        assert len(workers._threads) == 1
        workers.resume()
        assert await waiting
        assert driver.opened == opened + 1
        workers.resume()
        assert await store.renew(key, epoch, lease=30.0)

    on_a_loop(store, work)


def test_what_is_asked_for_during_a_fork_is_done_after_it_even_if_no_thread_was_there() -> None:
    workers, done = Workers(object, 1), threading.Event()
    workers.park()
    workers.put(lambda _: done.set())
    assert not workers._threads
    workers.resume()
    assert done.wait(20.0)
    for thread in workers.close():
        thread.join(20.0)


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "PARKING", 0.01)
    workers, go_on = Workers(object, 1), threading.Event()
    workers.put(lambda _: go_on.wait(20.0) and None)
    workers.park()
    workers.resume()
    go_on.set()
    for thread in workers.close():
        thread.join(20.0)
        assert not thread.is_alive()


def test_the_error_of_an_unknown_driver_is_shown(driver: Driver) -> None:
    store = driver.store()

    async def work() -> None:
        for error, kind, reason in [
            (sqlite3.ProgrammingError("odd"), StoreRefused, "refused"),
            (RuntimeError(), StoreError, "unexpected"),
        ]:
            driver.on_commit = [error]
            with pytest.raises(kind, match=type(error).__name__) as info:
                await begin(store)
            assert info.value.reason == reason

    on_a_loop(store, work)
