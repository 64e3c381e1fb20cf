"""SqlStore: records in a database, and answers that are committed together with what they are the answer to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from resilient_rpc.context import current_context
from resilient_rpc.errors import UsageError
from resilient_rpc.perloop import PerLoop
from resilient_rpc.policies.settings import check_count, check_function, check_seconds
from resilient_rpc.stores.base import (
    KEEP,
    Began,
    New,
    OnTakeover,
    Record,
    RecordKey,
    TakenOver,
    check_epoch,
    check_fingerprint,
    check_payload,
    check_size,
    check_takeover,
    milliseconds,
)
from resilient_rpc.stores.errors import StoreUnavailable
from resilient_rpc.stores.keys import name_of
from resilient_rpc.stores.sql.faults import RecordLost
from resilient_rpc.stores.sql.job import Job
from resilient_rpc.stores.sql.rows import began_of, record_of
from resilient_rpc.stores.sql.schema import TABLE, quoted
from resilient_rpc.stores.sql.speaking import Answer, commits_each_statement, say, tongue_of
from resilient_rpc.stores.sql.statements import Statements, statements_of
from resilient_rpc.stores.sql.workers import Talk, Workers

if TYPE_CHECKING:
    from resilient_rpc.context import Context

T = TypeVar("T")
TRIES = 20
"""How often a `begin` looks again at a record that changes while it looks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SqlStore:
    """Records in SQLite 3.35 or PostgreSQL 9.5 or newer, over DB-API 2 or SQLAlchemy, where the effects are, too.

    Used as any other store it leaves the window between a handler's commit and the record of its answer. `record`
    closes it: the answer is written on the connection of the handler, and is committed with the effect, or not at all.

    The steps of the port are each one statement and one transaction, over connections of the store's own, in threads of
    its own, by the clock of the database. The table must be there: see `create_table` and `ddl`. What expired more than
    a minute ago is deleted by `purge`, which nobody calls but you.
    """

    connect: Callable[[], Any] = field(kw_only=False)
    """Makes a connection, as ``lambda: sqlite3.connect("orders.db")`` or ``engine.connect``. Not in autocommit."""
    table: str = TABLE
    """A name, or schema.name, of letters, digits and _."""
    timeout: float = 5.0
    """Seconds for a step, connecting included. The driver should have a limit of its own, that ends the statement."""
    connections: int = 4
    """From each loop, at most, each in a thread."""
    max_payload: int = 4 << 20
    """Bytes of an answer that is kept, at most."""
    _workers: PerLoop[Workers] = field(default_factory=lambda: PerLoop(Workers.close), init=False, repr=False)

    def __post_init__(self) -> None:
        check_function("SqlStore.connect", self.connect)
        quoted(self.table)
        check_seconds("SqlStore.timeout", self.timeout)
        check_count("SqlStore.connections", self.connections)
        check_count("SqlStore.max_payload", self.max_payload)

    # -- in a transaction of the handler

    def record(self, connection: Any, result: T, *, context: Context | None = None) -> T:
        """Write the answer to the call on a connection of the handler's, before its commit; gives `result` back.

        The last thing that a handler does in its transaction: ``return store.record(connection, result)``. What is
        committed then is the effect and the answer, or neither. A call without a key has no record, and passes.

        Args:
            connection: Of the database of `connect`, with the effect in its open transaction.
            result: What the handler returns.
            context: The handler's; None: `current_context()`, which a thread pool of your own does not know.

        Raises `RecordLost` if another server has taken the call over, or an earlier transaction of this execution was
        committed after all: let it pass, so that the transaction is rolled back. Raises `UsageError` for a connection
        in autocommit, and for a call whose record is in another store.
        """
        context = context if context is not None else current_context()
        if context is None:
            raise UsageError("SqlStore.record: there is no call here; give it the context of the handler")
        claim = context.claim
        if claim is None:
            return result
        if claim.store is not self:
            raise UsageError(f"SqlStore.record: the record of this call is in {claim.store!r:.200}, not in this store")
        tongue = tongue_of(connection)
        if commits_each_statement(connection, tongue):
            raise UsageError("SqlStore.record: the connection is in autocommit; begin a transaction before the effect")
        kept = claim.kept(result)
        check_size(self, kept.payload, self.max_payload)
        values = {
            "id": _id(claim.key),
            "epoch": claim.epoch,
            "progress": "ok" if kept.ok else "error",
            "payload": kept.payload,
            "ttl": milliseconds("ttl", claim.ttl),
        }
        claim.written = True
        if say(connection, tongue, self._statements(tongue.dialect).complete, values).changed != 1:
            raise RecordLost(
                f"{context.method}: its record is held by another server, or has an answer already", written=False
            )
        return result

    # -- the port

    async def begin(
        self, key: RecordKey, *, fingerprint: bytes, lease: float, ttl: float, on_takeover: OnTakeover = "rerun"
    ) -> Began:
        """As `Store`."""
        check_fingerprint(fingerprint)
        check_takeover(on_takeover)
        held = milliseconds("lease", lease)
        name = _id(key)
        values = {
            "id": name,
            "fingerprint": fingerprint,
            "lease": held,
            "keep": max(milliseconds("ttl", ttl), held + int(KEEP * 1000)),
            "rerun": int(on_takeover == "rerun"),
        }
        step = functools.partial(self._begin, values=values, fingerprint=fingerprint, on_takeover=on_takeover)
        return await self._do(step, functools.partial(self._give_back, name))

    async def renew(self, key: RecordKey, epoch: int, *, lease: float) -> bool:
        """As `Store`."""
        check_epoch(epoch)
        values = {"id": _id(key), "epoch": epoch, "lease": milliseconds("lease", lease)}
        return (await self._do(lambda talk: self._say(talk, "renew", values))).changed == 1

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, *, ok: bool, ttl: float) -> bool:
        """As `Store`."""
        check_epoch(epoch)
        check_payload(payload)
        check_size(self, payload, self.max_payload)
        name = _id(key)
        values = {
            "id": name,
            "epoch": epoch,
            "progress": "ok" if ok else "error",
            "payload": payload,
            "ttl": milliseconds("ttl", ttl),
        }

        def work(talk: Talk) -> bool:
            if self._say(talk, "complete", values).changed == 1:
                return True
            record = self._read(talk, name)
            return record is not None and record.epoch == epoch and record.payload is not None

        return await self._do(work)

    async def abandon(self, key: RecordKey, epoch: int) -> bool:
        """As `Store`."""
        check_epoch(epoch)
        name = _id(key)
        values = {"id": name, "epoch": epoch}

        def work(talk: Talk) -> bool:
            if self._say(talk, "abandon", values).changed == 1:
                return True
            record = self._read(talk, name)
            return record is not None and record.epoch == epoch and record.progress == "abandoned"

        return await self._do(work)

    async def get(self, key: RecordKey) -> Record | None:
        """As `Store`."""
        name = _id(key)
        return await self._do(lambda talk: self._read(talk, name))

    async def delete(self, key: RecordKey) -> bool:
        """As `Store`."""
        values = {"id": _id(key)}
        return (await self._do(lambda talk: self._say(talk, "delete", values))).changed == 1

    async def purge(self, most: int = 10_000) -> int:
        """Delete at most so many records that expired more than a minute ago; how many it were."""
        check_count("most", most)
        return (await self._do(lambda talk: self._say(talk, "purge", {"most": most}))).changed

    async def close(self) -> None:
        """As `Store`. What is waiting is still done."""
        workers = self._workers.pop()
        if workers is not None:
            await workers.aclose(self.timeout)

    # -- in the threads

    def _begin(self, talk: Talk, *, values: Mapping[str, Any], fingerprint: bytes, on_takeover: OnTakeover) -> Began:
        for _ in range(TRIES):
            rows = self._say(talk, "begin", values).rows
            if rows:
                epoch, progress = rows[0]
                return TakenOver(epoch) if progress == "taken_over" else New(epoch)
            record = self._read(talk, values["id"])
            began = None if record is None else began_of(record, fingerprint, on_takeover)
            if began is not None:
                return began
        raise StoreUnavailable("the record changes faster than it can be read", reason="busy", written=False)

    def _give_back(self, name: str, talk: Talk, began: Began) -> None:
        if isinstance(began, New | TakenOver):
            step = "abandon" if isinstance(began, New) else "give_up"
            self._say(talk, step, {"id": name, "epoch": began.epoch})

    def _read(self, talk: Talk, name: str) -> Record | None:
        rows = self._say(talk, "get", {"id": name}).rows
        return record_of(rows[0]) if rows else None

    def _say(self, talk: Talk, step: str, values: Mapping[str, Any]) -> Answer:
        return talk.run(lambda dialect: getattr(self._statements(dialect), step), values)

    def _statements(self, dialect: Any) -> Statements:
        return _statements(dialect, self.table)

    async def _do(self, work: Callable[[Talk], T], undo: Callable[[Talk, T], object] | None = None) -> T:
        workers = self._workers.get(lambda: Workers(self.connect, self.connections))
        return await Job(work, undo).done(workers, self.timeout)


_statements = functools.lru_cache(maxsize=64)(statements_of)


def _id(key: RecordKey) -> str:
    return name_of("rpc", key).decode()
