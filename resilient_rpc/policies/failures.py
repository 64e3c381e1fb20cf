"""What the attempts of one call ended in, and the one error that comes out of it."""

from __future__ import annotations

from collections import deque

from resilient_rpc.errors import NOT_EXECUTED, Certainty, DeadlineExceeded, Rejected, RpcError
from resilient_rpc.policies.certainty import certainty_of, joined

KEPT = 20
"""Earlier errors that are remembered: a strategy that never stops must not fill the memory."""


class Failures:
    """The errors of one call, in the order of its attempts."""

    __slots__ = ("_certainty", "_errors", "_real")

    def __init__(self) -> None:
        self._errors: deque[Exception] = deque(maxlen=KEPT + 1)
        self._real: Exception | None = None
        self._certainty: Certainty = NOT_EXECUTED

    def add(self, error: Exception) -> None:
        """One more attempt failed."""
        self._errors.append(error)
        if not isinstance(error, Rejected):
            self._real = error
        self._certainty = joined((self._certainty, certainty_of(error)))

    @property
    def last(self) -> Exception:
        """The latest."""
        return self._errors[-1]

    def outcome(self, attempts: int) -> Exception:
        """The error that the caller gets: the last one of the target, which a refusal by a policy here does not mask.

        It says how many attempts there were, whether any of them may have been executed, and what the others ended in.
        """
        error = self.last if self._real is None else self._real
        if isinstance(error, RpcError):
            error.attempts, error.certainty = attempts, self._certainty
            error.history = tuple(other for other in self._errors if other is not error)
            if isinstance(error, DeadlineExceeded) and error.__cause__ is None and error.history:
                error.__cause__ = error.history[-1]
        return error

    def clear(self) -> None:
        """Forget the errors: their tracebacks hold the frames that hold this."""
        self._errors.clear()
        self._real = None
