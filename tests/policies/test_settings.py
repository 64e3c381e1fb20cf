from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.settings import (
    check_count,
    check_flag,
    check_function,
    check_name,
    check_number,
    check_seconds,
    check_share,
    shown,
)


def test_what_is_right_passes() -> None:
    check_seconds("x", 0.1)
    check_seconds("x", 0, zero=True)
    check_seconds("x", math.inf, endless=True)
    check_share("x", 0)
    check_share("x", 1.0)
    check_count("x", 1)
    check_count("x", 0, least=0)
    check_number("x", -1.5)
    check_flag("x", False)
    check_name("x", "a" * 100)
    check_function("x", len)
    check_function("x", None, none=True)


@pytest.mark.parametrize(
    ("check", "value", "options", "message"),
    [
        (check_seconds, 0, {}, r"x must be more than 0 and finite \(seconds\), not 0"),
        (check_seconds, -1, {"zero": True}, r"x must be at least 0 and finite \(seconds\), not -1"),
        (check_seconds, 0, {"endless": True}, r"x must be more than 0 \(seconds\), not 0"),
        (check_seconds, math.inf, {}, "not inf"),
        (check_seconds, True, {}, "x must be a number of seconds, not True"),
        (check_seconds, math.nan, {}, "x must be a number of seconds, not nan"),
        (check_seconds, timedelta(1), {}, r"x must be a number of seconds, not datetime\.timedelta\(days=1\)"),
        (check_seconds, 10**400, {}, "x must be a number of seconds, not 1000"),
        (check_flag, 0, {}, "x must be True or False, not 0"),
        (check_name, "a" * 101, {}, "x must be a text of at most 100 printable characters, not 'aaa"),
        (check_name, "a\n", {}, r"not 'a\\n'"),
        (check_name, None, {}, "not None"),
        (check_function, 3, {"none": True}, "x must be a function or None, not 3"),
        (check_function, None, {}, "x must be a function, not None"),
        (check_share, 1.1, {}, "x must be from 0 to 1, not 1.1"),
        (check_share, "1", {}, "x must be a number, not '1'"),
        (check_count, 0, {}, "x must be at least 1, not 0"),
        (check_count, 1.0, {}, "x must be an int, not 1.0"),
        (check_count, True, {}, "x must be an int, not True"),
    ],
)
def test_what_is_wrong_is_named(check: Any, value: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check("x", value, **options)


def test_a_value_is_shown_as_far_as_it_is_short() -> None:
    assert shown("a" * 198) == repr("a" * 198)
    assert shown("a" * 199) == repr("a" * 199)[:199] + "…"
    assert shown(10**5000) == "one of int that cannot be shown"
