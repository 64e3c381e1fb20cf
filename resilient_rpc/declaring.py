"""`method`: marks what of a class may be called from outside, before there is a server, a client or a broker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from resilient_rpc.call import Safety
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.names import check_name
from resilient_rpc.serving.access import Allow, check_allow
from resilient_rpc.settings import check_concurrency, check_safety, check_timeout

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__rpc_declared__"


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What was said of a method where it is marked or registered. None: nothing was said."""

    name: str | None = None
    safety: Safety | None = None
    timeout: float | None = None
    concurrency: int | None = None
    allow: Allow | None = None


def declared(
    *,
    name: str | None = None,
    safety: Safety | str | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
    allow: Allow | None = None,
) -> Declared:
    """Check what is said of a method, as every decorator does; `ConfigurationError` names the setting and the value."""
    return Declared(
        name=check_name(name) if name is not None else None,
        safety=check_safety(safety) if safety is not None else None,
        timeout=check_timeout(timeout, "timeout") if timeout is not None else None,
        concurrency=check_concurrency(concurrency) if concurrency is not None else None,
        allow=check_allow(allow),
    )


@overload
def method(function: F, /) -> F: ...


@overload
def method(
    *,
    name: str | None = None,
    safety: Safety | str | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
    allow: Allow | None = None,
) -> Callable[[F], F]: ...


def method(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    safety: Safety | str | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
    allow: Allow | None = None,
) -> Any:
    """Mark a method of a class as callable from outside; as a decorator, with or without arguments.

    Objects of it are served by `Server.add`. `name` (default: its own), `safety`, `timeout` in seconds, `concurrency`
    and `allow` mean what they do for `Server.method`. Nothing without the mark is served. A subclass that overrides the
    method without marking it anew keeps the mark, so an abstract class may be the contract of several. Raises
    `ConfigurationError` for a name that cannot be called, and for a setting that `Server.method` would refuse.
    """
    said = declared(name=name, safety=safety, timeout=timeout, concurrency=concurrency, allow=allow)

    def mark(target: F) -> F:
        if isinstance(target, staticmethod | classmethod):
            setattr(target.__func__, _MARK, said)
            return target
        if not inspect.isroutine(target):
            raise ConfigurationError(f"@method on {target!r:.200}: it marks the methods of a class")
        setattr(target, _MARK, said)
        return target

    return mark(function) if function is not None else mark


def declarations(kind: type[Any]) -> Mapping[str, Declared]:
    """The marked methods of a class, by attribute, sorted; those of its bases too, unless it overrides them with None.

    Raises `ConfigurationError` for a marked one whose name begins with an underscore.
    """
    found: dict[str, Declared] = {}
    for attribute in sorted({name for base in kind.__mro__ for name in vars(base)}):
        said = _nearest(kind, attribute)
        if said is None:
            continue
        check_name(said.name or attribute)
        found[attribute] = said
    return found


def _nearest(kind: type[Any], attribute: str) -> Declared | None:
    lines = [vars(base)[attribute] for base in kind.__mro__ if attribute in vars(base)]
    if not inspect.isroutine(_plain(lines[0])):  # None, or data, in the place of the method
        return None
    return next((mark for mark in (getattr(_plain(line), _MARK, None) for line in lines) if mark is not None), None)


def _plain(member: Any) -> Any:
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member
