"""How a command ends when it cannot do what was asked: one line on stderr, and a number."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from resilient_rpc.errors import (
    EXECUTED,
    UNKNOWN,
    ConfigurationError,
    DeadlineExceeded,
    Expired,
    RemoteError,
    RpcError,
    UsageError,
)

FAILED, USAGE, NOT_EXECUTED, NOBODY_KNOWS = 1, 2, 3, 4


def fail(message: str, code: int) -> NoReturn:
    """Say why, and end."""
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise typer.Exit(code)


def one_line(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())


def exit_code(error: RpcError) -> int:
    """The number for a call that failed: what somebody who wants to try again must know."""
    if isinstance(error, ConfigurationError | UsageError):
        return USAGE
    if error.certainty is UNKNOWN or isinstance(error, DeadlineExceeded):
        return NOBODY_KNOWS
    if error.certainty is EXECUTED:
        return FAILED
    # Not executed: either the call itself is wrong, or the server could not take it just now.
    # The class says which: a retry clears `retryable` of the error itself when it gives up.
    wrong = isinstance(error, RemoteError) and not type(error).retryable and not isinstance(error, Expired)
    return FAILED if wrong else NOT_EXECUTED
