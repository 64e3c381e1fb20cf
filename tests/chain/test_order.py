"""The built-in policies in every order: accepted, or refused with a reason."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc import policies
from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import ORDER, Plan, check_order
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.options import default_policies
from resilient_rpc.policy import Handler

MAKE: dict[str, Callable[[Any], Any]] = {
    "fallback": lambda kind: kind(value=None),
    "cache": lambda kind: kind(ttl=5),
    "deadline": lambda kind: kind(limit=20),
    "rate_limit": lambda kind: kind(rate=100),
    "chaos": lambda kind: kind(latency=1.0),
}
"""How to make one that has a setting without a default."""


SERVERS = {"idempotency"}
"""Roles that have no place in the chain of a client."""


def built_in() -> dict[str, Any]:
    """One policy of each role of a client's chain."""
    kinds = [kind for _, kind in inspect.getmembers(policies, inspect.isclass) if getattr(kind, "role", None)]
    return {kind.role: MAKE.get(kind.role, lambda kind: kind())(kind) for kind in kinds if kind.role not in SERVERS}


BUILT_IN = built_in()
USUAL = [BUILT_IN[role] for role in ORDER if role in BUILT_IN]


def without(role: str) -> list[Any]:
    return [policy for policy in USUAL if policy.role != role]


def test_every_built_in_policy_has_a_place_in_the_usual_order() -> None:
    assert set(BUILT_IN) <= set(ORDER)
    assert {"retry", "breaker", "deadline", "attempt_timeout", "bulkhead", "hedge"} <= set(BUILT_IN)


@pytest.mark.parametrize("role", ["retry", "hedge"])
def test_the_usual_order_is_accepted_with_retry_or_with_hedge(role: str) -> None:
    check_order(without(role))


def test_both_together_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="exclude each other: "):
        check_order(USUAL)


def test_the_default_chain_is_accepted_and_is_a_client_s_own() -> None:
    Plan(default_policies())
    for one, other in zip(default_policies(), default_policies(), strict=True):
        assert one is not other


@pytest.mark.parametrize("role", ORDER)
def test_rules_name_roles_that_there_are_and_say_why(role: str) -> None:
    policy = BUILT_IN.get(role)
    for rule in ("above", "below", "excludes"):
        reasons = getattr(policy, rule, {})
        assert set(reasons) <= set(ORDER)
        assert all(len(reason) > 10 for reason in reasons.values())


@pytest.mark.parametrize(("outer", "inner"), list(itertools.combinations(ORDER, 2)))
def test_no_two_policies_rule_each_other_out_of_the_usual_order(outer: str, inner: str) -> None:
    pair = [BUILT_IN[role] for role in (outer, inner) if role in BUILT_IN]
    if (outer, inner) != ("retry", "hedge"):
        check_order(pair)


@given(order=st.permutations(USUAL), count=st.integers(1, len(USUAL)))
def test_any_selection_in_any_order_is_accepted_or_refused_with_a_reason(order: list[Any], count: int) -> None:
    chosen = order[:count]
    try:
        check_order(chosen)
    except ConfigurationError as error:
        what, _, reason = str(error).partition(": ")
        assert "must stand before (outside of)" in what or "exclude each other" in what
        assert len(reason) > 10
        names = {type(policy).__name__ for policy in chosen}
        assert len([name for name in names if name in what.split()]) == 2
    else:
        assert not {"retry", "hedge"} <= {policy.role for policy in chosen}
        describe = Plan(chosen).describe()
        assert len(describe) == count


def test_one_object_has_one_place() -> None:
    for policy in USUAL:
        with pytest.raises(ConfigurationError, match=rf"the same {type(policy).__name__} stands|exclude each other"):
            check_order([policy, policy])

    async def twice(call: Call, proceed: Handler) -> Reply:
        return await proceed(call)

    check_order([twice, twice])


class OneArgument:
    async def __call__(self, call: Call) -> Reply:
        raise NotImplementedError


@pytest.mark.parametrize("policy", [OneArgument(), lambda: None, lambda call: None, lambda a, b, c: None])
def test_what_cannot_be_given_a_call_and_the_way_on_is_no_policy(policy: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is no policy: it must take two arguments, `\(call, proceed\)`"):
        check_order([policy])


def test_what_does_not_say_what_it_takes_is_believed() -> None:
    check_order([min])
