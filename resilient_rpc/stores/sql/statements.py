"""The statements of the steps. Each is atomic by itself, at any isolation level, and reads the database's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from resilient_rpc.stores.base import KEEP
from resilient_rpc.stores.sql.schema import quoted
from resilient_rpc.stores.sql.speaking import Dialect

_NOW: Mapping[Dialect, str] = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS BIGINT)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
}
_KEEP = int(KEEP * 1000)
_HELD = "progress IN ('running', 'taken_over')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """For one table in one dialect."""

    begin: str
    """Makes the record this caller's, and gives its epoch, or gives no row."""
    renew: str
    complete: str
    abandon: str
    give_up: str
    """Ends the lease of a takeover that nobody heard of: the next one takes over in its place."""
    get: str
    delete: str
    purge: str


def statements_of(dialect: Dialect, table: str) -> Statements:
    """ConfigurationError for a table that has no plain name."""
    name, now = quoted(table), _NOW[dialect]
    mine = f"id = :id AND epoch = :epoch AND {_HELD} AND expires > {now}"
    there = f"id = :id AND expires > {now} AND progress <> 'deleted'"
    return Statements(
        begin=_begin(name, now),
        renew=f"UPDATE {name} SET lease_until = {now} + :lease,"  # noqa: S608 - the name is checked, values are not in it
        f" expires = CASE WHEN expires < {now} + :lease + {_KEEP} THEN {now} + :lease + {_KEEP} ELSE expires END"
        f" WHERE {mine}",
        complete=f"UPDATE {name} SET progress = :progress, payload = :payload, lease_until = 0, expires = {now} + :ttl"  # noqa: S608
        f" WHERE {mine}",
        abandon=f"UPDATE {name} SET progress = 'abandoned', lease_until = 0 WHERE {mine}",  # noqa: S608
        give_up=f"UPDATE {name} SET lease_until = 0 WHERE {mine}",  # noqa: S608
        get=f"SELECT epoch, progress, fingerprint, lease_until - {now}, payload FROM {name} WHERE {there}",  # noqa: S608
        # The row stays for a while, so that the next epoch is larger even within the same millisecond.
        delete=f"UPDATE {name} SET progress = 'deleted', payload = NULL, lease_until = 0, expires = {now} + {_KEEP}"  # noqa: S608
        f" WHERE {there}",
        purge=f"DELETE FROM {name} WHERE id IN (SELECT id FROM {name} WHERE expires < {now} - {_KEEP} LIMIT :most)"  # noqa: S608
        f" AND expires < {now} - {_KEEP}",
    )


def _begin(name: str, now: str) -> str:
    # excluded.epoch is the time: in milliseconds, epochs are larger than those of rows that were purged long ago.
    held = "r.progress IN ('running', 'taken_over')"
    return f"""
INSERT INTO {name} AS r (id, epoch, progress, fingerprint, lease_until, expires, payload)
VALUES (:id, {now}, 'running', :fingerprint, {now} + :lease, {now} + :keep, NULL)
ON CONFLICT (id) DO UPDATE SET
    epoch = CASE WHEN r.epoch >= excluded.epoch THEN r.epoch + 1 ELSE excluded.epoch END,
    progress = CASE WHEN r.expires > excluded.epoch AND {held} THEN 'taken_over' ELSE 'running' END,
    fingerprint = excluded.fingerprint, lease_until = excluded.lease_until, expires = excluded.expires, payload = NULL
WHERE r.expires <= excluded.epoch
    OR r.progress = 'deleted'
    OR (r.fingerprint = excluded.fingerprint AND r.progress = 'abandoned')
    OR (r.fingerprint = excluded.fingerprint AND {held} AND r.lease_until <= excluded.epoch AND :rerun = 1)
RETURNING epoch, progress"""  # noqa: S608
