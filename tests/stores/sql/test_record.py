"""An answer that is committed with its effect: both are there, or neither, wherever a process dies."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import closing
from typing import Any

import pytest

from resilient_rpc import Client, Context, Server
from resilient_rpc.errors import Interrupted, KeyReused, RemoteError, TooLarge, UsageError
from resilient_rpc.policies import Idempotency, idempotent
from resilient_rpc.stores import MemoryStore, RecordKey, Replay
from resilient_rpc.stores.sql import RecordLost, SqlStore
from tests.stores.sql.databases import Database
from tests.stores.tools import begin, new, new_key, on_a_loop

PLACES = ("begun", "effect", "recorded", "committed")
CHILD = """
import os, signal, sys
from contextlib import closing
from resilient_rpc.policies import idempotent
from resilient_rpc.stores.sql import SqlStore

place = sys.argv[1]
connect = lambda: {source}
store = SqlStore(connect, table={table!r}, timeout=20.0)

def reach(here):
    if here == place:
        os.kill(os.getpid(), signal.SIGKILL)

@idempotent(store, key="order", name="orders.place", lease=0.3, wait=20.0)
def place_order(order):
    reach("begun")
    with closing(connect()) as connection:
        execute = getattr(connection, "exec_driver_sql", None) or connection.cursor().execute
        execute("INSERT INTO {effects} (order_id) VALUES ('" + order + "')")
        reach("effect")
        answer = store.record(connection, {{"pid": os.getpid()}})
        reach("recorded")
        connection.commit()
        reach("committed")
        return answer

print(place_order("order-42")["pid"])
"""


def run(database: Database, place: str) -> subprocess.CompletedProcess[str]:
    program = textwrap.dedent(CHILD).format(source=database.source, table=database.table, effects=database.effects)
    return subprocess.run(
        [sys.executable, "-c", program, place], capture_output=True, text=True, timeout=50, check=False
    )


def insert(database: Database, connection: Any, order: str = "order-42") -> None:
    execute = getattr(connection, "exec_driver_sql", None) or connection.cursor().execute
    execute(f"INSERT INTO {database.effects} (order_id) VALUES ('{order}')")  # noqa: S608


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("place", PLACES)
def test_a_process_that_is_killed_leaves_both_or_neither(database: Database, place: str) -> None:
    killed = run(database, place)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = database.store()
    record = on_a_loop(store, lambda: store.get(RecordKey("default", "orders", "place", "order-42")))
    assert record is not None
    both = place == "committed"
    assert (database.count(), record.progress) == ((1, "ok") if both else (0, "running"))
    answers = [run(database, "nowhere") for _ in range(2)]
    assert [answer.returncode for answer in answers] == [0, 0], answers
    assert answers[0].stdout == answers[1].stdout
    assert database.count() == 1


def test_repeats_of_a_call_get_the_answer_that_was_committed(database: Database, service: str) -> None:
    store = database.store()
    server = Server(f"memory://{service}", service=service, policies=[Idempotency(store)])

    @server.method(safety="dedup")
    def place(sku: str, context: Context) -> dict[str, Any]:
        with closing(database.connect()) as connection:
            insert(database, connection)
            answer = store.record(connection, {"sku": sku, "token": context.fencing_token}, context=context)
            connection.commit()
            return answer

    server.start()
    try:
        with Client(f"memory://{service}") as client:
            first, *repeats = [
                client.request(f"{service}.place", {"sku": "A1"}, idempotency_key="k'; DROP TABLE x; --")
                for _ in range(3)
            ]
            with pytest.raises(KeyReused):
                client.call(f"{service}.place", {"sku": "B2"}, idempotency_key="k'; DROP TABLE x; --")
    finally:
        server.stop()
    assert not first.replayed
    assert [(reply.result, reply.replayed) for reply in repeats] == [(first.result, True)] * 2
    assert database.count() == 1


class Shop:
    """A function with a key, whose transaction goes as the test says."""

    def __init__(self, database: Database, **settings: Any) -> None:
        self.database, self.store = database, database.store()
        self.runs = 0
        self.place = idempotent(self.store, key="order", name="orders.place", **settings)(self._place)
        self.fails: Exception | None = None
        self.commits = True
        self.after: Exception | None = None
        self.result: Any = {"done": True}

    def _place(self, order: str) -> Any:
        self.runs += 1
        with closing(self.database.connect()) as connection:
            insert(self.database, connection)
            if self.fails is not None:
                raise self.fails
            answer = self.store.record(connection, self.result)
            if self.commits:
                connection.commit()
        if self.after is not None:
            raise self.after
        return answer


def test_an_error_in_the_transaction_is_the_answer_and_nothing_else_stays(database: Database) -> None:
    shop = Shop(database)
    shop.fails = ValueError("no stock")
    for _ in range(2):
        with pytest.raises((ValueError, RemoteError), match="no stock"):
            shop.place("order-42")
    assert (shop.runs, database.count()) == (1, 0)


def test_an_error_after_the_commit_does_not_hide_the_answer(database: Database) -> None:
    shop = Shop(database, abandon_on=[OSError])
    shop.after = OSError("the answer to COMMIT was lost")
    assert [shop.place("order-42") for _ in range(2)] == [{"done": True}] * 2
    assert (shop.runs, database.count()) == (1, 1)


def test_an_error_instead_of_the_commit_runs_it_again_where_it_is_abandoned(database: Database) -> None:
    shop = Shop(database, abandon_on=[OSError])
    shop.commits, shop.after = False, OSError("could not serialize")
    with pytest.raises(OSError, match="could not serialize"):
        shop.place("order-42")
    assert database.count() == 0
    shop.commits, shop.after = True, None
    assert shop.place("order-42") == {"done": True}
    assert (shop.runs, database.count()) == (2, 1)


def test_a_result_that_cannot_be_written_undoes_the_effect(database: Database) -> None:
    shop = Shop(database)
    shop.result = object()
    with pytest.raises(Exception, match="object"):
        shop.place("order-42")
    assert database.count() == 0


def test_a_result_that_is_too_large_is_sent_once_and_executed_once(database: Database) -> None:
    shop = Shop(database, max_result_bytes=100)
    shop.result = "x" * 1000
    assert shop.place("order-42") == shop.result
    with pytest.raises((TooLarge, RemoteError), match="too large"):
        shop.place("order-42")
    assert (shop.runs, database.count()) == (1, 1)


def test_who_was_taken_over_commits_nothing(database: Database) -> None:
    store, key = database.store(), RecordKey("default", "orders", "place", "order-42")

    @idempotent(store, key="order", name="orders.place", wait=0.0)
    def place(order: str) -> str:
        thread = threading.Thread(target=lambda: on_a_loop(store, lambda: store.delete(key)))
        thread.start()
        thread.join()
        with closing(database.connect()) as connection:
            insert(database, connection)
            with pytest.raises(RecordLost, match="another server"):
                store.record(connection, "mine")
            raise OSError("rolled back")

    with pytest.raises(Interrupted):
        place("order-42")
    assert database.count() == 0


def test_a_second_transaction_of_an_execution_cannot_commit_after_the_first(database: Database) -> None:
    shop = Shop(database)

    @idempotent(shop.store, key="order", name="orders.twice")
    def place(order: str) -> Any:
        shop._place(order)
        return shop._place(order)

    assert place("order-42") == {"done": True}
    assert (shop.runs, database.count()) == (2, 1)


def test_a_call_without_a_record_passes_and_one_of_another_store_does_not(database: Database) -> None:
    store = database.store()
    context = Context("place", 0.0, "unsafe")  # type: ignore[arg-type]
    assert store.record(None, 5, context=context) == 5
    with pytest.raises(UsageError, match="no call here"):
        store.record(None, 5)

    @idempotent(MemoryStore(), key="order")
    def place(order: str) -> Any:
        with pytest.raises(UsageError, match="is in MemoryStore"):
            store.record(None, 5)

    place("order-42")


def test_a_connection_in_autocommit_is_refused_unless_it_has_begun(database: Database) -> None:
    def connect() -> Any:
        return sqlite3.connect(":memory:", isolation_level=None)

    store = database.store()

    @idempotent(store, key="order")
    def place(order: str) -> Any:
        with closing(connect()) as connection:
            with pytest.raises(UsageError, match="autocommit"):
                store.record(connection, 5)
            connection.execute("BEGIN")
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                store.record(connection, 5)

    place("order-42")


def test_hostile_parts_of_keys_are_values(database: Database) -> None:
    store = database.store()
    parts = ["'; DROP TABLE x; --", '"', "\0", "\ud800", "%s", "?", ":id", "\\"]

    async def work() -> None:
        keys = [new_key(tenant=part, service=part, method=part, key=part) for part in parts]
        for key in keys:
            await store.complete(key, await new(store, key), key.key.encode("utf-8", "replace"), ok=True, ttl=60.0)
        for key in keys:
            assert await begin(store, key) == Replay(key.key.encode("utf-8", "replace"), ok=True)

    on_a_loop(store, work)


def test_a_larger_answer_than_the_store_takes_undoes_the_effect(database: Database) -> None:
    shop = Shop(database)
    shop.store = SqlStore(database.connect, table=database.table, max_payload=5, timeout=20.0)
    shop.place = idempotent(shop.store, key="order", name="orders.place")(shop._place)
    with pytest.raises(Exception, match="max_payload=5"):
        shop.place("order-42")
    assert database.count() == 0
