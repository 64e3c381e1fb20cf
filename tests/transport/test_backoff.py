from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.transport.backoff import Backoff

positive = st.floats(1e-3, 1e3)


@given(positive, positive, positive, st.integers(0, 100_000), st.booleans(), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_longer_than_its_cap_nor_than_the_doubling_allows(
    base: float, cap: float, urgent: float, failures: int, hurried: bool, chance: float
) -> None:
    backoff = Backoff(base=base, cap=cap, urgent=urgent, random=lambda: chance)
    delay = backoff.delay(failures, urgent=hurried)
    assert 0 <= delay <= cap
    assert delay <= base * 2.0 ** min(failures, 60)
    if hurried:
        assert delay <= urgent


def test_the_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(random=lambda: 1.0)
    assert [backoff.delay(n, urgent=False) for n in range(9)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    )
    assert [backoff.delay(n, urgent=True) for n in range(7)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2, 2])


def test_many_clients_do_not_come_back_together() -> None:
    backoff = Backoff()
    delays = sorted(backoff.delay(10, urgent=False) for _ in range(1000))
    assert delays[0] < 1
    assert delays[-1] > 9
    assert 4 < delays[500] < 6


@pytest.mark.parametrize("name", ["base", "cap", "urgent"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, True, "1", None])
def test_a_setting_is_a_positive_number(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Backoff\({name}={value!r}\)"):
        Backoff(**{name: value})
