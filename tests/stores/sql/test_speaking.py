from __future__ import annotations

import sqlite3
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores.sql.speaking import Tongue, commits_each_statement, say, tongue_of

STATEMENT = "SELECT :b, :a, :b"
VALUES = {"a": 1, "b": 2}


class Cursor:
    def __init__(self, said: list[Any]) -> None:
        self.said, self.description, self.rowcount = said, [()], 1

    def execute(self, text: str, values: Any) -> None:
        self.said += [text, values]

    def fetchall(self) -> list[Any]:
        return [{"x": 1, "y": 2}, (3, 4)]

    def close(self) -> None:
        self.said.append("closed")


@pytest.mark.parametrize(
    ("style", "text", "values"),
    [
        ("qmark", "SELECT ?, ?, ?", (2, 1, 2)),
        ("format", "SELECT %s, %s, %s", (2, 1, 2)),
        ("numeric", "SELECT :1, :2, :1", (2, 1)),
        ("numeric_dollar", "SELECT $1, $2, $1", (2, 1)),
        ("named", "SELECT :b, :a, :b", VALUES),
        ("pyformat", "SELECT %(b)s, %(a)s, %(b)s", VALUES),
    ],
)
def test_placeholders_are_those_of_the_driver(style: str, text: str, values: Any) -> None:
    said: list[Any] = []
    answer = say(SimpleNamespace(cursor=lambda: Cursor(said)), Tongue("postgresql", style, False), STATEMENT, VALUES)
    assert said == [text, values, "closed"]
    assert answer.rows == [(1, 2), (3, 4)]


class Alchemist:
    """As a connection of SQLAlchemy, over SQLite."""

    def __init__(self, raw: Any, name: str = "sqlite", style: str = "qmark") -> None:
        self.dialect = SimpleNamespace(name=name, paramstyle=style)
        self.connection = SimpleNamespace(dbapi_connection=raw)

    def exec_driver_sql(self, text: str, values: Any) -> Any:
        cursor = self.connection.dbapi_connection.execute(text, values)
        return SimpleNamespace(
            returns_rows=cursor.description is not None, fetchall=cursor.fetchall, rowcount=cursor.rowcount
        )

    def commit(self) -> None:
        raise AssertionError("the handler commits")


def test_sqlalchemy_hands_statements_to_its_driver() -> None:
    with closing(sqlite3.connect(":memory:")) as raw:
        connection = Alchemist(raw)
        tongue = tongue_of(connection)
        assert tongue == Tongue("sqlite", "qmark", True)
        assert say(connection, tongue, "CREATE TABLE t (x)", {}).rows == []
        assert say(connection, tongue, "INSERT INTO t VALUES (:x)", {"x": 5}).changed == 1
        assert say(connection, tongue, "SELECT x FROM t", {}).rows == [(5,)]
        assert not commits_each_statement(connection, tongue)


def test_a_connection_of_a_class_of_ones_own_is_that_of_its_driver() -> None:
    class Own(sqlite3.Connection):
        pass

    with closing(sqlite3.connect(":memory:", factory=Own)) as connection:
        assert tongue_of(connection) == Tongue("sqlite", "qmark", False)


class Asynchronous(Alchemist):
    async def commit(self) -> None:  # type: ignore[override]
        raise AssertionError


@pytest.mark.parametrize(
    "connection",
    [None, Asynchronous(None), Alchemist(None, name="mysql"), Alchemist(None, style="odd")],
    ids=["none", "asynchronous", "mysql", "style"],
)
def test_what_is_not_known_is_refused(connection: Any) -> None:
    with pytest.raises(ConfigurationError, match="SqlStore cannot use a"):
        tongue_of(connection)


PLAIN = Tongue("postgresql", "pyformat", False)


@pytest.mark.parametrize(
    ("connection", "found"),
    [
        (SimpleNamespace(autocommit=False, isolation_level=None), False),
        (SimpleNamespace(autocommit=True), True),
        (SimpleNamespace(autocommit=True, info=SimpleNamespace(transaction_status=0)), True),
        (SimpleNamespace(autocommit=True, info=SimpleNamespace(transaction_status=2)), False),
        (SimpleNamespace(autocommit=-1, isolation_level="", in_transaction=False), False),
        (SimpleNamespace(autocommit=-1, isolation_level=None, in_transaction=False), True),
        (SimpleNamespace(isolation_level=None, in_transaction=True), False),
        (SimpleNamespace(), False),
    ],
    ids=str,
)
def test_autocommit_is_seen_where_the_driver_shows_it(connection: Any, found: bool) -> None:
    assert commits_each_statement(connection, PLAIN) is found
