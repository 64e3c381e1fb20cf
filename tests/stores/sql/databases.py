"""The databases of the tests: SQLite always, others where they are.

PostgreSQL where `RESILIENT_RPC_TEST_POSTGRES_URL` names one (with psycopg), SQLAlchemy where it is installed. What is
not there has no tests: none are collected, and none skipped.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resilient_rpc.stores.sql import SqlStore, create_table

POSTGRES_URL = os.environ.get("RESILIENT_RPC_TEST_POSTGRES_URL", "")
SETTINGS: dict[str, Any] = {"timeout": 20.0}
"""The machine of the tests may be busy."""


@dataclass(frozen=True, kw_only=True)
class Database:
    """A table of records, and one of effects."""

    connect: Callable[[], Any]
    table: str
    effects: str
    source: str
    """An expression that makes `connect` in another process."""

    def store(self, **settings: Any) -> SqlStore:
        return SqlStore(self.connect, table=self.table, **{**SETTINGS, **settings})

    def execute(self, statement: str) -> list[Any]:
        with closing(self.connect()) as connection:
            execute = getattr(connection, "exec_driver_sql", None) or connection.cursor().execute
            result = execute(statement)
            rows = [tuple(row) for row in result.fetchall()] if statement.startswith("SELECT") else []
            connection.commit()
            return rows

    def count(self) -> int:
        (row,) = self.execute(f"SELECT count(*) FROM {self.effects}")  # noqa: S608
        return int(row[0])


def sqlite(folder: Path) -> tuple[Callable[[], Any], str]:
    path = str(folder / "test.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    return lambda: sqlite3.connect(path, timeout=20.0), f"__import__('sqlite3').connect({path!r}, timeout=20.0)"


def postgresql(folder: Path) -> tuple[Callable[[], Any], str]:
    driver: Any = importlib.import_module("psycopg")
    return lambda: driver.connect(POSTGRES_URL), f"__import__('psycopg').connect({POSTGRES_URL!r})"


def sqlalchemy(folder: Path) -> tuple[Callable[[], Any], str]:
    library: Any = importlib.import_module("sqlalchemy")
    sqlite(folder)
    url = f"sqlite:///{folder / 'test.db'}"
    engine = library.create_engine(url, pool_size=50, connect_args={"timeout": 20.0})
    return engine.connect, f"__import__('sqlalchemy').create_engine({url!r}).connect()"


KINDS: dict[str, Callable[[Path], tuple[Callable[[], Any], str]]] = {"sqlite": sqlite}
if POSTGRES_URL:
    KINDS["postgresql"] = postgresql
if importlib.util.find_spec("sqlalchemy") is not None:
    KINDS["sqlalchemy"] = sqlalchemy


def opened(kind: str, folder: Path) -> Iterator[Database]:
    """The tables exist meanwhile."""
    number = secrets.token_hex(4)
    connect, source = KINDS[kind](folder)
    database = Database(connect=connect, table=f"rpc_{number}", effects=f"effects_{number}", source=source)
    with closing(connect()) as connection:
        create_table(connection, database.table)
        create_table(connection, database.table)
        connection.commit()
    database.execute(f"CREATE TABLE {database.effects} (order_id VARCHAR(50) NOT NULL)")
    yield database
    database.execute(f"DROP TABLE {database.table}")
    database.execute(f"DROP TABLE {database.effects}")
