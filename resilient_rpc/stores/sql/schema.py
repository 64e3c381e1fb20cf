"""The table of the records, as text for migrations and as a function."""

from __future__ import annotations

import re
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.settings import shown
from resilient_rpc.stores.sql.speaking import Dialect, say, tongue_of

TABLE = "rpc_idempotency"
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,49})(?:\.([A-Za-z_][A-Za-z0-9_]{0,49}))?", re.ASCII)
_BYTES: dict[Dialect, str] = {"sqlite": "BLOB", "postgresql": "BYTEA"}


def quoted(table: Any) -> str:
    """A table, or schema and table, as it stands in a statement; ConfigurationError for what is no plain name."""
    found = _NAME.fullmatch(table) if isinstance(table, str) else None
    if found is None:
        raise ConfigurationError(
            "SqlStore.table must be a name, or schema.name, of letters, digits and _ (1 to 50, no digit first),"
            f" not {shown(table)}"
        )
    return ".".join(f'"{part}"' for part in found.groups() if part is not None)


def ddl(dialect: Dialect, table: str = TABLE) -> str:
    """The statements that make the table and its index, for your migrations. They may be run again.

    Times are milliseconds since 1970 by the clock of the database. An answer is whatever bytes the policy keeps.
    """
    if dialect not in _BYTES:
        raise ConfigurationError(f"dialect must be one of {', '.join(_BYTES)}, not {shown(dialect)}")
    return ";\n\n".join(_statements(dialect, table)) + ";\n"


def create_table(connection: Any, table: str = TABLE) -> None:
    """Make the table and its index, unless they are there, on a connection as a handler has it; commit it yourself."""
    tongue = tongue_of(connection)
    for statement in _statements(tongue.dialect, table):
        say(connection, tongue, statement, {})


def _statements(dialect: Dialect, table: str) -> tuple[str, str]:
    name, data = quoted(table), _BYTES[dialect]
    plain = table.rpartition(".")[2]
    schema = name.rpartition(".")[0]
    # SQLite has the schema before the index, PostgreSQL puts an index where its table is.
    index = f'{schema}."{plain}_expires"' if schema and dialect == "sqlite" else f'"{plain}_expires"'
    on = f'"{plain}"' if dialect == "sqlite" else name
    return (
        f"""CREATE TABLE IF NOT EXISTS {name} (
    id VARCHAR(210) NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    progress VARCHAR(10) NOT NULL,
    fingerprint {data} NOT NULL,
    lease_until BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    payload {data}
)""",
        f"CREATE INDEX IF NOT EXISTS {index} ON {on} (expires)",
    )
