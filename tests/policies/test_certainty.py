from __future__ import annotations

import pytest

from resilient_rpc.errors import EXECUTED, NOT_EXECUTED, UNKNOWN, Certainty, NotConnected
from resilient_rpc.policies.certainty import certainty_of, joined


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([NOT_EXECUTED], NOT_EXECUTED),
        ([NOT_EXECUTED, NOT_EXECUTED], NOT_EXECUTED),
        ([NOT_EXECUTED, UNKNOWN], UNKNOWN),
        ([UNKNOWN, EXECUTED, NOT_EXECUTED], EXECUTED),
        ([], NOT_EXECUTED),
    ],
)
def test_what_is_known_of_several_attempts_holds_for_all(parts: list[Certainty], expected: Certainty) -> None:
    assert joined(parts) is expected


def test_nothing_is_known_after_an_error_of_another_kind() -> None:
    assert certainty_of(NotConnected("")) is NOT_EXECUTED
    assert certainty_of(KeyError("x")) is UNKNOWN
