"""Every policy of the library keeps the rules that check_policy() holds others to."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc import Reply
from resilient_rpc.policies import Fallback
from resilient_rpc.registry import BUILT_IN, known_policies, load_policy
from resilient_rpc.stores import MemoryStore
from resilient_rpc.testing import check_policy

ANSWERS = {"errors": "it answers in place of an error"}
# One that is not named here is made without settings. Some do nothing unless told to, or before they have seen much.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "adaptive_limit": [{}, {"initial": 4, "max": 4, "queue": 1000}, {"initial": 4, "samples": 5}],
    "attempt_timeout": [{}, {"limit": 0.5}],
    "bulkhead": [{}, {"limit": 5, "queue": 10, "max_wait": 1.0}, {"limit": 1, "queue": 1000}],
    "cache": [{}, {"ttl": 1.0, "stale": 3600.0, "stale_if_error": 3600.0}],
    "chaos": [{"rate": 1.0, "latency": 0.01, "enabled": True}],
    "deadline": [{"limit": 20.0}],
    "fallback": [{"value": "instead"}, {"target": "other"}],
    "hedge": [{}, {"delay": 0.05, "max_hedges": 2}],
    "idempotency": [{"store": MemoryStore()}],
    "rate_limit": [{"rate": 100.0}, {"rate": 1.0, "burst": 3.0}, {"rate": 5.0, "max_wait": 1000.0}],
    "retry": [{}, {"attempts": 10}],
}
EXCEPT_FOR: dict[str, dict[str, str]] = {"fallback": ANSWERS}
NAMES = [name for name, known in known_policies().items() if known.origin == BUILT_IN]
CASES = [(name, settings) for name in NAMES for settings in SETTINGS.get(name, [{}])]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_it_keeps_the_rules(name: str, settings: dict[str, Any]) -> None:
    left_out = EXCEPT_FOR.get(name, {})
    report = check_policy(lambda: load_policy(name)(**settings), except_for=left_out)
    assert report.left_out == left_out


def test_none_is_forgotten() -> None:
    assert {*SETTINGS, *EXCEPT_FOR} <= {*NAMES}
    assert len(NAMES) >= 9


def test_what_is_left_out_would_be_found() -> None:
    with pytest.raises(AssertionError, match="breaks the rule `errors`") as caught:
        check_policy(lambda: Fallback(value="instead"))
    assert repr(Reply(result="instead", degraded=True)) in str(caught.value)
