from __future__ import annotations

import math
from typing import Any

import pybreaker
import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.breaker_rules import Rules


@pytest.mark.parametrize("name", ["window", "open_for", "max_open", "probe_timeout", "max_half_open", "slow_call"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "5"])
def test_a_wrong_time_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"CircuitBreaker\.{name} .*{value!r}"):
        Rules(**{name: value})


@pytest.mark.parametrize("name", ["min_calls", "permits", "successes_required", "consecutive"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "5"])
def test_a_wrong_count_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"CircuitBreaker\.{name} .*{value!r}"):
        Rules(**{name: value})


@pytest.mark.parametrize("name", ["failure_rate", "slow_rate"])
@pytest.mark.parametrize("value", [0, -0.1, 1.1, 50, math.nan, True, "5"])
def test_a_wrong_share_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"CircuitBreaker\.{name} .*{value!r}"):
        Rules(**{name: value})


def test_a_rate_of_nothing_names_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"disable\(target\)"):
        Rules(failure_rate=0)


def test_the_open_time_cannot_be_longer_than_its_limit() -> None:
    with pytest.raises(ConfigurationError, match=r"max_open=3 is less than open_for=5\.0; raise it"):
        Rules(max_open=3)
    assert Rules(open_for=5, max_open=5).max_open == 5


@pytest.mark.parametrize("mode", ["", "dry", None, 1])
def test_a_wrong_mode_is_refused(mode: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf'CircuitBreaker\.mode must be "normal" .*{mode!r}'):
        Rules(mode=mode)


@pytest.mark.parametrize(("name", "value"), [("counts", 5), ("key", "orders"), ("random", None), ("random", 0.5)])
def test_what_is_called_must_be_a_function(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"CircuitBreaker\.{name} must be a function.*{value!r}"):
        Rules(**{name: value})


@pytest.mark.parametrize("listeners", [5, "log", pybreaker.CircuitBreakerListener(), {1}])
def test_listeners_must_be_a_tuple(listeners: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"CircuitBreaker\.listeners must be a tuple"):
        Rules(listeners=listeners)


@pytest.mark.parametrize("listener", [print, pybreaker.CircuitBreakerListener, None])
def test_a_listener_must_be_one(listener: Any) -> None:
    with pytest.raises(ConfigurationError, match="pass an instance"):
        Rules(listeners=(listener,))


def test_what_can_be_left_out_can() -> None:
    rules = Rules(slow_call=None, consecutive=None, counts=None, key=None)
    assert (rules.slow_call, rules.consecutive, rules.counts, rules.key) == (None,) * 4
    assert Rules(slow_call=0.5, consecutive=1, failure_rate=1, slow_rate=1).slow_call == 0.5
