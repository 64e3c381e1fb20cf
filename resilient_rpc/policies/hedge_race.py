"""The attempts of one hedged call: which are under way, and what came of the others."""

from __future__ import annotations

from asyncio import CancelledError

from resilient_rpc.call import Call, Reply
from resilient_rpc.errors import NOT_EXECUTED, UNKNOWN, Certainty, ConnectionLost, Overloaded, Rejected, RpcError
from resilient_rpc.pending import Started
from resilient_rpc.policies.certainty import certainty_of, joined
from resilient_rpc.policies.outcome import health, safe_to_repeat
from resilient_rpc.policy import Handler, Runtime


class Race:
    """Starts attempts and judges them. Belongs to its call alone; never waits."""

    def __init__(self, call: Call, proceed: Handler) -> None:
        self._call, self._proceed = call, proceed
        self.running: dict[Started[Reply], int] = {}
        """By number: 0 is the primary, 1 the first hedge."""
        self.errors: dict[int, Exception] = {}
        self.started = 0

    def start(self) -> None:
        """One more attempt, beside the caller."""
        call, proceed, number = self._call, self._proceed, self.started

        async def attempt(runtime: Runtime) -> Reply:
            return await proceed(call.replace(runtime=runtime, attempt=call.attempt + number))

        self.running[call.runtime.start(attempt)] = number
        self.started += 1

    def take(self) -> tuple[int, Reply] | None:
        """The first success among the attempts that have ended since; the errors of the others are kept."""
        for started in [started for started in self.running if started.done()]:
            number = self.running.pop(started)
            try:
                return number, started.result()
            except CancelledError:
                message = f"{self._call.method}: the attempt was cancelled, as when its client is closed"
                self.errors[number] = lost = ConnectionLost(message, certainty=UNKNOWN)
                lost.retryable = False
            except Exception as error:
                self.errors[number] = error.with_traceback(None)
        return None

    def answered(self) -> bool:
        """Whether the application has answered, with an error."""
        return any(is_final(error) for error in self.errors.values())

    def may_repeat(self) -> bool:
        """Whether one more attempt can help, and is safe, after those that have failed."""
        return all(
            isinstance(error, RpcError) and error.retryable and safe_to_repeat(error, self._call)
            for error in self.errors.values()
        )

    def pushed_back(self) -> bool:
        """Whether the other side, or a policy inside, has asked for patience."""
        return any(
            isinstance(error, Overloaded) or getattr(error, "retry_after", None) is not None
            for error in self.errors.values()
        )

    def verdict(self) -> Exception:
        """The error that says most, with a certainty that holds for all attempts together. Asked once, at the end."""
        error = max(self.errors.values(), key=_weight)
        if isinstance(error, RpcError):
            error.certainty = self.certainty()
            error.attempts = self.started
            error.history = tuple(other for other in self.errors.values() if other is not error)
        self.errors.clear()  # its traceback will hold the frames that hold this race
        return error

    def certainty(self) -> Certainty:
        """Of the call: nobody knows of an attempt that is under way."""
        known = [certainty_of(error) for error in self.errors.values()]
        return joined([*known, UNKNOWN] if self.running else known)

    def cancel(self) -> None:
        """Have what still runs end; nobody waits for it."""
        for started in self.running:
            started.cancel()


def is_final(error: Exception) -> bool:
    """Whether it is the application's answer, which another attempt would only repeat."""
    return isinstance(error, RpcError) and not error.retryable and health(error) is True


def _weight(error: Exception) -> int:
    if is_final(error):
        return 4
    if health(error) is not None:
        return 3
    if isinstance(error, Rejected):
        return 0
    return 1 if certainty_of(error) is NOT_EXECUTED else 2
