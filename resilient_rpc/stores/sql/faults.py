"""What a driver raises, as an error of ours; drivers share the names of DB-API 2, but no classes."""

from __future__ import annotations

from typing import Literal

from resilient_rpc.stores.errors import StoreError, StoreRefused, StoreUnavailable


class RecordLost(StoreError):
    """The execution does not hold its record any more: another server has it, or its answer is recorded already.

    Raised within the transaction of a handler, which must be rolled back: let it pass.
    """

    reason = "lost"
    retryable = False


_BUSY = ("locked", "busy")
_NO_TABLE = ("no such table", "does not exist", "no such column")


def fault_of(error: Exception, *, written: Literal[False] | None) -> StoreError:
    """By the name of its class, and for SQLite, which has one class for most, by its text."""
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    says = f"{type(error).__name__}: {text.strip().splitlines()[0][:200]}" if text.strip() else type(error).__name__
    if any(words in text for words in _NO_TABLE):
        return StoreRefused(
            f"the table of records is not there or not as it should be (see create_table): {says}",
            reason="schema",
            written=False,
        )
    if any(words in text for words in _BUSY):
        return StoreUnavailable(f"the database is busy: {says}", reason="busy", written=written)
    if names & {"OperationalError", "InterfaceError", "TimeoutError", "OSError"}:
        return StoreUnavailable(f"the database does not answer: {says}", reason="down", written=written)
    if names & {"ProgrammingError", "NotSupportedError", "DataError", "IntegrityError"}:
        return StoreRefused(f"the database refuses a step: {says}", reason="refused", written=written)
    return StoreError(f"the database failed: {says}", written=written)
