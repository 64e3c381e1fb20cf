"""How a connection wants to be spoken to: the placeholders of its driver, and the SQL of its database."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Literal, NamedTuple

from resilient_rpc.errors import ConfigurationError

Dialect = Literal["sqlite", "postgresql"]
_DRIVERS: Mapping[str, Dialect] = {
    "sqlite3": "sqlite",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pg8000": "postgresql",
}
_DIALECTS: Mapping[str, Dialect] = {"sqlite": "sqlite", "postgresql": "postgresql"}
_PLACE = re.compile(r":([a-z_]+)")
_ASIDE: Mapping[str, str] = {
    "qmark": "?",
    "format": "%s",
    "numeric": ":{number}",
    "numeric_dollar": "${number}",
    "named": ":{name}",
    "pyformat": "%({name})s",
}


class Tongue(NamedTuple):
    """What is to be known of a kind of connection."""

    dialect: Dialect
    style: str
    """The `paramstyle` of DB-API 2, or SQLAlchemy's `numeric_dollar`."""
    driver_sql: bool
    """It is SQLAlchemy's, which hands a statement to the driver as it is."""


class Answer(NamedTuple):
    """What a statement gave. `changed`: how many rows it changed."""

    rows: list[tuple[Any, ...]]
    changed: int


def tongue_of(connection: Any) -> Tongue:
    """ConfigurationError for what is no connection of a driver that is known."""
    kind = type(connection)
    if not inspect.iscoroutinefunction(getattr(kind, "commit", None)):
        found = _of_sqlalchemy(connection) if hasattr(kind, "exec_driver_sql") else _of_driver(kind)
        if found is not None:
            return found
    raise ConfigurationError(
        f"SqlStore cannot use a {kind.__module__}.{kind.__qualname__}: it needs a connection, not an asynchronous one,"
        f" of {', '.join(_DRIVERS)} or SQLAlchemy, to SQLite or PostgreSQL. Of a Session it is session.connection(); an"
        " AsyncConnection gives it to the function in run_sync()"
    )


def _of_sqlalchemy(connection: Any) -> Tongue | None:
    dialect = _DIALECTS.get(connection.dialect.name)
    style = connection.dialect.paramstyle
    return Tongue(dialect, style, True) if dialect is not None and style in _ASIDE else None


def _of_driver(kind: type) -> Tongue | None:
    for base in kind.__mro__:  # a class of the user's own may stand before that of the driver
        root = base.__module__.partition(".")[0]
        if root in _DRIVERS:
            return Tongue(_DRIVERS[root], sys.modules[root].paramstyle, False)
    return None


def say(connection: Any, tongue: Tongue, statement: str, values: Mapping[str, Any]) -> Answer:
    """Have a statement executed; its values are named in it as ``:name`` and never become a part of it."""
    text, order = _written(statement, tongue.style)
    given = dict(values) if order is None else tuple(values[name] for name in order)
    if tongue.driver_sql:
        result = connection.exec_driver_sql(text, given)
        return Answer([tuple(row) for row in result.fetchall()] if result.returns_rows else [], result.rowcount)
    with closing(connection.cursor()) as cursor:
        cursor.execute(text, given)
        rows = cursor.fetchall() if cursor.description is not None else []
        # A connection may be told to make its rows dicts.
        return Answer([tuple(row.values() if isinstance(row, Mapping) else row) for row in rows], cursor.rowcount)


@functools.lru_cache(maxsize=256)
def _written(statement: str, style: str) -> tuple[str, tuple[str, ...] | None]:
    """The statement with the placeholders of a style; the order of its values, or None: by name."""
    names: list[str] = _PLACE.findall(statement)
    unique = list(dict.fromkeys(names))
    aside = _ASIDE[style]
    text = _PLACE.sub(lambda place: aside.format(name=place[1], number=unique.index(place[1]) + 1), statement)
    if style in {"named", "pyformat"}:
        return text, None
    return text, tuple(unique if style.startswith("numeric") else names)


def commits_each_statement(connection: Any, tongue: Tongue) -> bool:
    """Whether it is in autocommit, and nobody has begun a transaction, as far as the driver shows it."""
    raw = connection.connection.dbapi_connection if tongue.driver_sql else connection
    if getattr(raw, "in_transaction", False) is True:
        return False
    if getattr(getattr(raw, "info", None), "transaction_status", 0):  # psycopg: 0 is IDLE
        return False
    mode = getattr(raw, "autocommit", None)
    # sqlite3 has had the attribute since Python 3.12; -1 means that isolation_level decides, as it did before.
    decided = mode is not None and mode != -1
    return mode is True if decided else getattr(raw, "isolation_level", "") is None
