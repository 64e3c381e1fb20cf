from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc.chain.reload import hand_over
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import Deadline, for_


class Counter:
    """A policy with state."""

    def __init__(self, name: str = "", count: int = 0, fails: str = "") -> None:
        self.name, self.count, self.fails = name, count, fails

    def adopt(self, old: Counter) -> None:
        if self.fails:
            raise RuntimeError(self.fails)
        self.count, old.count = old.count, 0

    async def __call__(self, *_: Any) -> Any:
        raise AssertionError


class Other(Counter):
    pass


def test_state_goes_to_the_policy_of_the_same_class_and_name_wherever_it_stands() -> None:
    old = [Counter("a", 1), Deadline(limit=3), Counter("b", 2), Other("a", 3)]
    new = [Other("a"), Counter("b"), Counter("a"), Counter("c"), Deadline(limit=4)]
    hand_over(old, new)
    assert [policy.count for policy in new[:4] if isinstance(policy, Counter)] == [3, 2, 1, 0]


def test_several_of_one_name_are_paired_in_their_order() -> None:
    new = [Counter(), Counter(), Counter()]
    hand_over([Counter(count=1), Counter(count=2)], new)
    assert [policy.count for policy in new] == [1, 2, 0]


def test_those_of_an_override_follow_those_of_the_same_pattern() -> None:
    base, price, pay = Counter(), Counter(), Counter()
    old = [Counter(count=1), for_("orders.price", Counter(count=2)), for_("orders.create", Counter(count=3))]
    hand_over(old, [for_("orders.pay", pay), for_("orders.price", price), base])
    assert (base.count, price.count, pay.count) == (1, 2, 0)


def test_a_policy_that_stays_keeps_what_it_has() -> None:
    same = Counter(count=7)
    hand_over([same], [Deadline(limit=1), same])
    assert same.count == 7


def test_after_a_failure_everybody_has_what_they_had(caplog: pytest.LogCaptureFixture) -> None:
    old = [Counter("a", 1), Counter("b", 2), Counter("c", 3, fails="back, too")]
    new = [Counter("a"), Counter("b"), Counter("c", fails="no room")]
    with pytest.raises(ConfigurationError, match=r"Counter could not adopt .* state: RuntimeError\('no room'\)"):
        hand_over(old, new)
    assert [policy.count for policy in old] == [1, 2, 3]
    assert "could not take its state back" in caplog.text
