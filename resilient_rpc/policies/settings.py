"""How a policy checks its settings: the offending value stands in the message."""

from __future__ import annotations

import math
from typing import Any

from resilient_rpc.errors import ConfigurationError


def check_seconds(name: str, value: float, *, zero: bool = False, endless: bool = False) -> None:
    """ConfigurationError unless `value` is a number of seconds above 0 (`zero`: or 0; `endless`: or `math.inf`)."""
    check_number(name, value)
    if value < 0 or (value == 0 and not zero) or (math.isinf(value) and not endless):
        least = "at least 0" if zero else "more than 0"
        raise ConfigurationError(f"{name} must be {least}{'' if endless else ' and finite'} (seconds), not {value!r}")


def check_share(name: str, value: float) -> None:
    """ConfigurationError unless `value` is a number from 0 to 1."""
    check_number(name, value)
    if not 0 <= value <= 1:
        raise ConfigurationError(f"{name} must be from 0 to 1, not {value!r}")


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """ConfigurationError unless `value` is an int, and not less than `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} must be an int, not {value!r}")
    if value < least:
        raise ConfigurationError(f"{name} must be at least {least}, not {value!r}")


def check_number(name: str, value: object) -> None:
    """ConfigurationError unless `value` is an int or a float, and not NaN; bool is neither."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ConfigurationError(f"{name} must be a number, not {value!r}")
