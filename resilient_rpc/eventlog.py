"""Events as log records: with the logging of the standard library, or with structlog."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from resilient_rpc.errors import ConfigurationError, RpcError
from resilient_rpc.events import Event

E = TypeVar("E", bound=Event)
PREFIX = "rpc_"
"""Before each name: a `LogRecord` has fields such as `name` and `args`, which nothing may overwrite."""
HIDDEN = frozenset({"body", "key", "params", "payload", "result"})
"""Fields that hold what a call carries, in events of whatever origin."""
LONGEST = 200
"""Characters of one value."""
METHODS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


class Source(Protocol):
    """A client, a server, or `Events`."""

    def on(self, event_type: type[E], hook: Callable[[E], object], /) -> Callable[[], None]:
        """Have `hook` called with every event of a type."""


def log_events(
    source: Source,
    logger: Any = None,
    *,
    event_type: type[Event] = Event,
    levels: Mapping[type[Event], int] | None = None,
) -> Callable[[], None]:
    """Write a log record for each event of a client or a server; returns what ends it.

    The fields stand in `extra`, each with ``rpc_`` before its name, and as ``name=value`` in the message. A structlog
    logger is given them as keywords. Neither arguments nor results of calls are ever written, nor the texts of errors
    (which may quote them), nor the credentials of a URL.

    Args:
        source: Anything with ``on(event_type, hook)``.
        logger: Of the standard library (None: ``resilient_rpc.events``), or any object with `bind` and a method for
            each level, as structlog has.
        event_type: Which events: of this type or its subtypes.
        levels: Levels by type, the nearest type first, in place of the event's own `log_level`. A type that is given
            no level here has the one of its class: WARNING for rejections, bypasses and changes of state, DEBUG for
            what comes with every call.

    A handler that may block (a file, a socket) blocks the caller whose event it writes: put a
    `logging.handlers.QueueHandler` before it.
    """
    if not callable(getattr(source, "on", None)):
        raise ConfigurationError(f"{source!r:.200} has no events: give a client or a server")
    if not isinstance(levels or {}, Mapping):
        raise ConfigurationError(f"levels={levels!r:.200}: give a mapping from type of event to level")
    chosen: dict[Any, int] = dict(levels or {})
    if strange := [kind for kind in chosen if not (isinstance(kind, type) and issubclass(kind, Event))]:
        raise ConfigurationError(f"levels: {strange[0]!r:.200} is not a type of event, such as CallEnded")
    if wrong := [level for level in chosen.values() if level not in METHODS]:
        raise ConfigurationError(f"levels: {wrong[0]!r} is not a level of logging, such as logging.INFO")
    write = _writer(logging.getLogger("resilient_rpc.events") if logger is None else logger)

    def hook(event: Event) -> None:
        level = next((chosen[kind] for kind in type(event).__mro__ if kind in chosen), event.log_level)
        write(level, event)

    return source.on(event_type, hook)


def _writer(logger: Any) -> Callable[[int, Event], object]:
    if isinstance(logger, logging.Logger | logging.LoggerAdapter):
        return lambda level, event: _write(logger, level, event)
    if not callable(getattr(logger, "bind", None)):
        raise ConfigurationError(f"neither a logger of logging, nor one with bind() as structlog has: {logger!r}")
    return lambda level, event: getattr(logger, METHODS[level])(type(event).__name__, **_fields(event))


def _write(logger: logging.Logger | logging.LoggerAdapter[Any], level: int, event: Event) -> None:
    if logger.isEnabledFor(level):
        fields, name = _fields(event), type(event).__name__
        text = " ".join(f"{key.removeprefix(PREFIX)}={value}" for key, value in fields.items() if value is not None)
        logger.log(level, "%s %s", name, text, extra={f"{PREFIX}event": name, **fields})


def _fields(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in event.__struct_fields__:
        if name not in HIDDEN:
            value = getattr(event, name)
            fields[PREFIX + name] = _plain(value)
            if isinstance(value, RpcError):
                fields[PREFIX + "certainty"] = str(value.certainty)
    return fields


def _plain(value: object) -> str | float | None:
    """Numbers as they are, texts in one line and not too long, of all else only the type."""
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        value = " ".join(item.partition("(")[0] for item in value)  # a chain: its policies, without their settings
    if not isinstance(value, str):
        return type(value).__name__
    text = _CREDENTIALS.sub("***@", str(value))
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
