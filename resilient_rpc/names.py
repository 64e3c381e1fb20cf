"""What a method or a service may be called."""

from __future__ import annotations

import re
from typing import Any

from resilient_rpc.errors import ConfigurationError

MAX_NAME = 128
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*", re.ASCII)


def check_name(name: Any, what: str = "method") -> str:
    """Return `name` if it may be called from outside: letters first, dots between parts, no part private.

    Raises `ConfigurationError` otherwise.
    """
    if not is_name(name):
        raise ConfigurationError(
            f"{what} name {str(name)[:MAX_NAME]!r}: use letters, digits and underscores, parts that begin with a "
            f"letter, joined by dots, at most {MAX_NAME} characters"
        )
    checked: str = name
    return checked


def is_name(name: Any) -> bool:
    """Whether `name` may be called from outside."""
    return isinstance(name, str) and len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None
