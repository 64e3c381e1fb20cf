"""Who may call what: `Server(allow=)` and `method(allow=)`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from resilient_rpc.context import Context
from resilient_rpc.errors import NOT_EXECUTED, ConfigurationError, Refused, RemoteError, RpcError
from resilient_rpc.wire.faults import text_of

log = logging.getLogger(__name__)
Allow = Callable[[Context], object]
"""From the context of a call (method, principal, tags, key, ...) to whether it may be made."""


def check_allow(allow: Any) -> Allow | None:
    """Return it if it is a plain function, or None; `ConfigurationError` otherwise."""
    if allow is None:
        return None
    if not callable(allow):
        raise ConfigurationError(f"allow={allow!r:.200}: give a function of the call's Context")
    if any(inspect.iscoroutinefunction(part) for part in (allow, getattr(allow, "__call__", None))):  # noqa: B004 - of an object
        raise ConfigurationError(
            f"allow={allow!r:.200}: give a plain function; one that waits would hold up every call, so look up what it "
            "needs beforehand, or ask in a policy"
        )
    return allow  # type: ignore[no-any-return]


def check_access(guards: tuple[Allow, ...], context: Context) -> None:
    """Raise what the caller is told unless all of them allow the call. What fails, refuses."""
    for allow in guards:
        try:
            allowed = allow(context)
        except RpcError as error:
            raise _told(context, error) from None
        except Exception as error:
            log.exception("%s was refused, because asking whether it is allowed failed", context.method)
            raise Refused(f"{context.method}: not allowed") from error
        if inspect.iscoroutine(allowed):
            allowed.close()
            log.error("%s was refused: %r has given a coroutine, which nobody awaits", context.method, allow)
            raise Refused(f"{context.method}: not allowed")
        if not allowed:
            raise Refused(f"{context.method}: not allowed")


def _told(context: Context, error: RpcError) -> RpcError:
    """What it raised on purpose, as long as that says that nothing was executed."""
    if isinstance(error, RemoteError) and not error.received and error.certainty is NOT_EXECUTED:
        return error
    log.warning("%s was refused: %s", context.method, type(error).__name__)
    return Refused(f"{context.method}: not allowed: {text_of(error):.200}")
