from __future__ import annotations

import math
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.settings import check_count, check_number, check_seconds, check_share


def test_what_is_right_passes() -> None:
    check_seconds("x", 0.1)
    check_seconds("x", 0, zero=True)
    check_seconds("x", math.inf, endless=True)
    check_share("x", 0)
    check_share("x", 1.0)
    check_count("x", 1)
    check_count("x", 0, least=0)
    check_number("x", -1.5)


@pytest.mark.parametrize(
    ("check", "value", "options", "message"),
    [
        (check_seconds, 0, {}, r"x must be more than 0 and finite \(seconds\), not 0"),
        (check_seconds, -1, {"zero": True}, r"x must be at least 0 and finite \(seconds\), not -1"),
        (check_seconds, 0, {"endless": True}, r"x must be more than 0 \(seconds\), not 0"),
        (check_seconds, math.inf, {}, "not inf"),
        (check_seconds, True, {}, "x must be a number, not True"),
        (check_seconds, math.nan, {}, "x must be a number, not nan"),
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
