"""What a store raises, and what each says of the record.

::

    DependencyUnavailable
    └─ StoreError                 .reason .written
       ├─ StoreUnavailable        later it may work: down, slow, full, read-only, being closed
       └─ StoreRefused            not before somebody acts: credentials, rights, a payload too large
          └─ CorruptRecord        what stands under the key is no record of ours
"""

from __future__ import annotations

from typing import Literal

from resilient_rpc.errors import DependencyUnavailable


class StoreError(DependencyUnavailable):
    """A step was not answered as it should be.

    `reason` is one word for it, for counters. `written` says whether the step changed the record: False, or None
    where nobody knows. It is never True: a step that is known to have been written is answered. Steps may be repeated.
    """

    reason: str = "unexpected"
    written: Literal[False] | None = None

    def __init__(
        self,
        message: str = "",
        *,
        reason: str | None = None,
        written: Literal[False] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        if reason is not None:
            self.reason = reason
        self.written = written


class StoreUnavailable(StoreError):
    """The store cannot be reached, does not answer in time, or takes no writes for now."""


class StoreRefused(StoreError):
    """The store answers, and will go on refusing until somebody changes something."""

    retryable = False


class CorruptRecord(StoreRefused):
    """What stands under the key was not written by a store of this kind; the call must not be taken for a new one."""

    reason = "corrupt"
