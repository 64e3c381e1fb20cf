from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import Chain, check_order, compose
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import AttemptTimeout, Deadline
from resilient_rpc.policy import Handler, Policy
from tests.runtimes import Bench


@dataclass(frozen=True, kw_only=True, eq=False)
class Mark:
    """Leaves its name on the way in and on the way out."""

    name: str
    seen: list[str]

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        self.seen.append(f"{self.name}>")
        try:
            return await proceed(call)
        finally:
            self.seen.append(f"<{self.name}")


async def echo(call: Call) -> Reply:
    return Reply(result=call.params)


def test_the_first_policy_is_the_outermost(runtime: Bench) -> None:
    seen: list[str] = []
    chain = Chain([Mark(name="a", seen=seen), Mark(name="b", seen=seen)], echo)
    assert runtime.call(chain.handler, params={"x": 1}).result == {"x": 1}
    assert seen == ["a>", "b>", "<b", "<a"]


def test_no_policies_is_the_terminal_itself(runtime: Bench) -> None:
    assert compose([], echo) is echo
    chain = Chain([], echo)
    assert chain.describe() == []
    assert str(chain) == "no policies"


def test_errors_pass_through_every_policy(runtime: Bench) -> None:
    seen: list[str] = []

    async def boom(_: Call) -> Reply:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        runtime.call(compose([Mark(name="a", seen=seen), Mark(name="b", seen=seen)], boom))
    assert seen == ["a>", "b>", "<b", "<a"]


def test_a_function_is_a_policy_and_so_is_a_subclass(runtime: Bench) -> None:
    class Derived(Mark):
        pass

    async def function(call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call.replace(params={"y": 2}))

    chain = Chain([Derived(name="a", seen=[]), function], echo)
    assert runtime.call(chain.handler).result == {"y": 2}
    assert chain.describe()[1].endswith("function")
    assert isinstance(function, Policy)


def test_one_chain_serves_many_callers_and_a_policy_many_chains(runtime: Bench) -> None:
    policy = Mark(name="a", seen=[])
    chains = [Chain([policy, policy], echo), Chain([policy], echo)]
    results = runtime.together(
        *[lambda number=number: chains[number % 2].handler(runtime.make(params={"n": number})) for number in range(10)]
    )
    assert [reply.result["n"] for reply in results] == list(range(10))
    assert len(policy.seen) == 30


def test_describe_has_each_policy_with_its_settings() -> None:
    class Plain:
        async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
            return await proceed(call)

    chain = Chain([Deadline(limit=5), Plain(), AttemptTimeout()], echo)
    described = chain.describe()
    assert described == ["Deadline(limit=5)", "Plain", "AttemptTimeout(limit=10.0, repeatable_only=False)"]
    assert str(chain) == "Deadline(limit=5) → Plain → AttemptTimeout(limit=10.0, repeatable_only=False)"


class Outer:
    role: ClassVar[str] = "outer"
    above: ClassVar[dict[str, str]] = {"inner": "because of this"}

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call)


class Inner(Outer):
    role = "inner"
    above: ClassVar[Any] = ()
    below: ClassVar[frozenset[str]] = frozenset({"middle"})


class Middle(Outer):
    role = "middle"
    above: ClassVar[Any] = ()


class Only(Outer):
    role = "only"
    above: ClassVar[Any] = {"only": "two would double everything"}


class Anywhere:
    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        return await proceed(call)


def test_a_right_order_is_accepted_with_anything_in_between() -> None:
    check_order([Anywhere(), Outer(), Anywhere(), Middle(), Outer(), Inner(), Anywhere()])


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ([Inner(), Outer()], r"Outer must stand before \(outside of\) Inner: because of this"),
        ([Inner(), Anywhere(), Middle()], r"Middle must stand before \(outside of\) Inner$"),
        ([Only(), Anywhere(), Only()], r"Only and Only exclude each other in one chain: two would double everything"),
        ([AttemptTimeout(), Deadline(limit=1)], r"Deadline must stand before \(outside of\) AttemptTimeout: the cap"),
    ],
)
def test_a_wrong_order_is_refused_with_the_reason(policies: list[Policy], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Chain(policies, echo)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (AttemptTimeout, r"AttemptTimeout is a class; pass an instance: AttemptTimeout\(\.\.\.\)"),
        (7, "not a policy: 7"),
    ],
)
def test_what_is_no_policy_is_refused(policy: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Chain([policy], echo)


def test_policies_that_exclude_each_other_are_refused_in_either_order() -> None:
    class One(Mark):
        role: ClassVar[str] = "retry"
        excludes: ClassVar[dict[str, str]] = {"hedge": "each would repeat the attempts of the other"}

    class Other(Mark):
        role: ClassVar[str] = "hedge"

    one, other = One(name="one", seen=[]), Other(name="other", seen=[])
    for order in ([one, other], [other, one]):
        with pytest.raises(ConfigurationError, match=r"One and .*Other exclude each other: each would repeat"):
            check_order(order)
    check_order([one])
