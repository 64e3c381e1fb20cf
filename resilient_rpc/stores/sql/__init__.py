"""Idempotency records in the database of the effects: `SqlStore`, and the table that it needs."""

from __future__ import annotations

from resilient_rpc.stores.sql.faults import RecordLost
from resilient_rpc.stores.sql.schema import TABLE, create_table, ddl
from resilient_rpc.stores.sql.store import SqlStore

__all__ = ["TABLE", "RecordLost", "SqlStore", "create_table", "ddl"]
