from __future__ import annotations

from typing import Any, ClassVar

import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import Chain, check_order
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import AttemptTimeout, Deadline, for_
from resilient_rpc.policy import Handler
from tests.runtimes import Bench


class Step:
    """Leaves its name in the call's tags."""

    def __init__(self, name: str, role: str | None = None, **rules: Any) -> None:
        self.name = name
        if role is not None:
            self.role = role
        vars(self).update(rules)

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call.replace(tags={**call.tags, self.name: ""}))

    def __repr__(self) -> str:
        return self.name


async def path(call: Call) -> Reply:
    return Reply(result="".join(call.tags))


def way(runtime: Bench, chain: Chain, method: str) -> str:
    """The names of the policies that a call of `method` passes."""
    return str(runtime.call(chain.handler, method).result)


def test_a_policy_takes_the_place_of_the_one_with_its_role(runtime: Bench) -> None:
    chain = Chain([for_("orders.price", Step("R", "retry")), Step("a"), Step("r", "retry"), Step("b", "breaker")], path)
    assert way(runtime, chain, "orders.price") == "aRb"
    assert way(runtime, chain, "orders.create") == "arb"
    assert way(runtime, chain, "shop.price") == "arb"


def test_a_policy_with_another_role_or_none_stands_where_the_override_stands(runtime: Bench) -> None:
    override = for_("orders", Step("c", "cache"), Step("n"), Step("B", "breaker"))
    chain = Chain([Step("a"), override, Step("b", "breaker"), Step("m")], path)
    assert way(runtime, chain, "orders.price") == "acnBm"
    assert way(runtime, chain, "shop.price") == "abm"


def test_roles_are_left_out(runtime: Bench) -> None:
    chain = Chain([Step("r", "retry"), Step("b", "breaker"), for_("orders.create", without=("retry",))], path)
    assert way(runtime, chain, "orders.create") == "b"
    assert way(runtime, chain, "orders.price") == "rb"


def test_several_policies_of_a_role_are_replaced_together(runtime: Bench) -> None:
    chain = Chain(
        [Step("1", "rate_limit"), Step("a"), Step("2", "rate_limit"), for_("x", Step("3", "rate_limit"))], path
    )
    assert way(runtime, chain, "x.y") == "3a"
    other = Chain([Step("1", "rate_limit"), for_("x", Step("3", "rate_limit"), Step("4", "rate_limit"))], path)
    assert way(runtime, other, "x.y") == "34"


def test_a_method_goes_before_its_service_and_later_before_earlier(runtime: Bench) -> None:
    chain = Chain(
        [
            for_("orders.price", Step("M", "retry")),
            for_("orders", Step("s", "retry"), Step("t", "breaker")),
            for_("orders", Step("S", "retry")),
            Step("r", "retry"),
            Step("b", "breaker"),
        ],
        path,
    )
    assert way(runtime, chain, "orders.price") == "Mt"
    assert way(runtime, chain, "orders.create") == "St"
    assert way(runtime, chain, "other.price") == "rb"
    assert way(runtime, chain, "orders.items.price") == "St"


def test_a_method_may_leave_out_what_its_service_has_brought(runtime: Bench) -> None:
    chain = Chain([for_("orders", Step("c", "cache")), for_("orders.create", without=("cache",)), Step("a")], path)
    assert way(runtime, chain, "orders.price") == "ca"
    assert way(runtime, chain, "orders.create") == "a"


def test_more_methods_than_are_remembered_find_their_chains(runtime: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_rpc.remembered.MOST", 3)
    chain = Chain([for_("orders", Step("o")), for_("shop.price", Step("p")), Step("a")], path)
    for number in range(5):
        assert way(runtime, chain, f"orders.m{number}") == "oa"
        assert way(runtime, chain, f"other.m{number}") == "a"
        assert way(runtime, chain, "shop.price") == "pa"


def test_a_chain_without_overrides_asks_nobody() -> None:
    assert Chain([], path).handler is path


def test_describe_shows_overrides_in_the_list_and_the_chain_of_one_method() -> None:
    chain = Chain(
        [Deadline(limit=9), for_("orders.price", Deadline(limit=2), without=("attempt_timeout",)), AttemptTimeout()],
        path,
    )
    assert chain.describe() == [
        "Deadline(limit=9)",
        "for_('orders.price', Deadline(limit=2), without=('attempt_timeout',))",
        "AttemptTimeout(limit=10.0, repeatable_only=False)",
    ]
    assert chain.describe("orders.price") == ["Deadline(limit=2)"]
    assert chain.describe("orders.create") == ["Deadline(limit=9)", "AttemptTimeout(limit=10.0, repeatable_only=False)"]


def test_every_chain_that_comes_of_an_override_is_checked_when_built() -> None:
    override = for_("orders.price", AttemptTimeout())
    with pytest.raises(ConfigurationError, match=r"the chain for 'orders\.price': Deadline must stand before"):
        Chain([override, Deadline(limit=5)], path)
    Chain([Deadline(limit=5), override], path)


def test_a_method_s_chain_is_checked_together_with_its_service_s() -> None:
    class Outer(Step):
        above: ClassVar[dict[str, str]] = {"inner": "it must"}

    items = [for_("orders", Step("i", "inner")), Step("a"), for_("orders.price", Outer("o", "outer"))]
    with pytest.raises(ConfigurationError, match=r"the chain for 'orders\.price': Outer must stand before"):
        Chain(items, path)


@pytest.mark.parametrize(
    ("without", "hint"),
    [
        ("retri", r"\(it has: breaker, retry\); did you mean 'retry'\?"),
        ("hedge", r"\(it has: breaker, retry\)$"),
        ("zzz", r"\(it has: breaker, retry\)$"),
    ],
)
def test_leaving_out_what_is_not_there_is_refused(without: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"for_\('orders', without=.*the role '{without}' {hint}"):
        Chain([Step("r", "retry"), Step("b", "breaker"), for_("orders", without=(without,))], path)


def test_a_role_that_only_another_service_s_override_brings_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match=r"the role 'cache' \(it has: none\)"):
        Chain([for_("shop", Step("c", "cache")), for_("orders", without=("cache",))], path)


def test_the_same_override_twice_is_refused() -> None:
    override = for_("orders", Step("a"))
    with pytest.raises(ConfigurationError, match="stands in the list twice"):
        Chain([override, override], path)


def test_an_override_is_nothing_for_a_bare_order() -> None:
    with pytest.raises(ConfigurationError, match="not a policy: for_"):
        check_order([for_("orders", Step("a"))])
