"""How a policy checks its settings: the offending value stands in the message."""

from __future__ import annotations

import math
from typing import Any

from resilient_rpc.errors import ConfigurationError

LONGEST_NAME = 100
LONGEST_SHOWN = 200
"""Characters of a value in a message."""


def check_seconds(name: str, value: float, *, zero: bool = False, endless: bool = False) -> None:
    """ConfigurationError unless `value` is a number of seconds above 0 (`zero`: or 0; `endless`: or `math.inf`)."""
    check_number(name, value, " of seconds")
    if value < 0 or (value == 0 and not zero) or (math.isinf(value) and not endless):
        least = "at least 0" if zero else "more than 0"
        limits = f"{least}{'' if endless else ' and finite'}"
        raise ConfigurationError(f"{name} must be {limits} (seconds), not {shown(value)}")


def check_share(name: str, value: float) -> None:
    """ConfigurationError unless `value` is a number from 0 to 1."""
    check_number(name, value)
    if not 0 <= value <= 1:
        raise ConfigurationError(f"{name} must be from 0 to 1, not {shown(value)}")


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """ConfigurationError unless `value` is an int, and not less than `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} must be an int, not {shown(value)}")
    if value < least:
        raise ConfigurationError(f"{name} must be at least {shown(least)}, not {shown(value)}")


def check_number(name: str, value: object, kind: str = "") -> None:
    """ConfigurationError unless `value` is an int or a float, and not NaN; bool is neither. `kind`: number of what."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_float(value):
        raise ConfigurationError(f"{name} must be a number{kind}, not {shown(value)}")


def check_flag(name: str, value: object) -> None:
    """ConfigurationError unless `value` is True or False: any other would be taken for one of them."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {shown(value)}")


def check_name(name: str, value: object) -> None:
    """ConfigurationError unless `value` is a text that can stand in events, labels and keys."""
    if not isinstance(value, str) or len(value) > LONGEST_NAME or not value.isprintable():
        raise ConfigurationError(
            f"{name} must be a text of at most {LONGEST_NAME} printable characters, not {shown(value)}"
        )


def check_function(name: str, value: object, *, none: bool = False) -> None:
    """ConfigurationError unless `value` can be called (`none`: or is None)."""
    if not callable(value) and not (none and value is None):
        raise ConfigurationError(f"{name} must be a function{' or None' if none else ''}, not {shown(value)}")


def shown(value: object) -> str:
    """The value as a message shows it: not too long, and whatever its own `repr` does."""
    try:
        text = repr(value)
    except Exception:
        return f"one of {type(value).__name__} that cannot be shown"
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def _is_float(value: float) -> bool:
    try:
        return not math.isnan(value)
    except OverflowError:
        return False
