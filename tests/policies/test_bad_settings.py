"""Each setting of each policy against values of every kind: the only error is `ConfigurationError`, and it is short."""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import pytest

from resilient_rpc import policies
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import RedisCache, RedisRate, RetryBudget

REDIS = {"url": "redis://localhost:1"}
NEEDED: dict[str, dict[str, Any]] = {
    "Deadline": {"limit": 1.0},
    "RateLimit": {"rate": 1.0},
    "Fallback": {"value": 1},
    "Chaos": {"latency": 1.0},
    "RedisCache": REDIS,
    "RedisRate": REDIS,
}
"""What a class cannot be made without."""


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no text for this")


WEIRD = [
    *(None, True, False, 0, -1, -0.5, 1.5, math.nan, math.inf, -math.inf, 1e308, 10**30, 10**400, 10**5000),
    *("", "5", "5s", "\x00", "x" * 100_000, b"x", 1 + 2j, [], ["a", 3], (), {}, {"a": 3}),
    *(object(), int, len, Unshowable()),
]
ELSEWHERE = {"Idempotency"}
"""Needs a store; its settings are tested beside it."""
POLICIES = [
    kind
    for name, kind in vars(policies).items()
    if name in policies.__all__ and name not in ELSEWHERE and dataclasses.is_dataclass(kind)
]
SETTINGS = [
    pytest.param(kind, item.name, id=f"{kind.__name__}.{item.name}")
    for kind in POLICIES
    if isinstance(kind, type)
    for item in dataclasses.fields(kind)
    if item.init
]


def make(kind: type[Any], setting: str, value: object) -> Any:
    return kind(**{**NEEDED.get(kind.__name__, {}), setting: value})


def test_all_policies_are_here() -> None:
    named = {name for name, kind in vars(policies).items() if inspect.isclass(kind) and hasattr(kind, "role")}
    assert named <= {kind.__name__ for kind in POLICIES} | ELSEWHERE
    assert {RedisCache, RedisRate, RetryBudget} <= set(POLICIES)


@pytest.mark.parametrize(("kind", "setting"), SETTINGS)
def test_a_value_is_taken_or_refused_with_a_short_message(kind: type[Any], setting: str) -> None:
    messages = []
    for value in WEIRD:
        try:
            make(kind, setting, value)
        except ConfigurationError as error:
            messages.append(str(error))
    assert all(kind.__name__ in message for message in messages)
    assert all(len(message) < 600 for message in messages)


@pytest.mark.parametrize("value", [None, True, 3, ["a"], "x" * 101, "a\nb", Unshowable()])
def test_a_name_is_a_short_text(value: object) -> None:
    for kind in POLICIES:
        if "name" in {item.name for item in dataclasses.fields(kind)}:
            with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\.name must be a text of at most 100"):
                make(kind, "name", value)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [(policies.AttemptTimeout, "repeatable_only"), (policies.Chaos, "duplicate"), (RedisCache, "broadcast")],
)
@pytest.mark.parametrize("value", [None, 0, 1, "no", "", math.nan])
def test_a_switch_is_true_or_false(kind: type[Any], setting: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\.{setting} must be True or False, not "):
        make(kind, setting, value)
