from __future__ import annotations

import functools
from typing import Any

import pytest

from resilient_rpc.call import Call, Reply
from resilient_rpc.chain import Chain, compose
from resilient_rpc.chain.faults import Blame, shown
from resilient_rpc.chain.guard import Guard, is_trusted
from resilient_rpc.errors import Certainty, PolicyFailed
from resilient_rpc.events import PolicyFaulted
from resilient_rpc.hub import Events
from resilient_rpc.policies import Deadline
from resilient_rpc.policy import Handler
from tests.runtimes import Bench


class Base:
    """Carries on, or raises; what is derived shares its code."""

    def __init__(self, error: Exception | None = None, name: str = "") -> None:
        self.error, self.name = error, name

    async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
        if self.error is not None:
            raise self.error
        return await proceed(call)


class Derived(Base):
    pass


def timed(function: Any) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any) -> Any:
        return await function(*args)

    return wrapper


class Wrapped(Base):
    __call__ = timed(Base.__call__)


class WrappedToo(Base):
    __call__ = timed(Base.__call__)


async def echo(call: Call) -> Reply:
    return Reply(result=call.params)


async def broken(_: Call) -> Reply:
    raise OSError("below")


def culprit(runtime: Bench, policies: list[Any], terminal: Handler = echo) -> Any:
    """Whom the blame falls on."""
    handler = compose(policies, terminal)
    (error,) = runtime.together(lambda: handler(runtime.make()), return_errors=True)
    return Blame(policies, terminal).culprit(error)


@pytest.mark.parametrize("kind", [Base, Derived, Wrapped])
def test_the_innermost_policy_that_the_error_passed_is_found(runtime: Bench, kind: type[Base]) -> None:
    outer, same, bad, inner = Base(), kind(), kind(ValueError("x")), kind()
    assert culprit(runtime, [outer, same, bad, inner]) is bad


def test_policies_that_share_a_decorator_are_told_apart(runtime: Bench) -> None:
    bad = WrappedToo(ValueError("x"))
    assert culprit(runtime, [Wrapped(), bad]) is bad


def test_a_function_is_found(runtime: Bench) -> None:
    async def bad(call: Call, proceed: Handler, /) -> Reply:
        await proceed(call)
        raise ValueError("x")

    assert culprit(runtime, [Base(), bad, Base()]) is bad


def test_code_without_arguments_is_not_mistaken(runtime: Bench) -> None:
    class Static(Base):
        @staticmethod
        async def __call__(*_: Any) -> Reply:
            raise ValueError("x")

    bad: Any = Static()
    assert culprit(runtime, [Base(), bad]) is bad


def test_what_carries_the_call_out_is_nobody(runtime: Bench) -> None:
    assert culprit(runtime, [Base(), Base()], broken) is None


def test_the_method_of_another_object_is_not_what_carries_this_call_out(runtime: Bench) -> None:
    class Other:
        def __init__(self, error: Exception | None) -> None:
            self.error = error

        async def carry(self, call: Call) -> Reply:
            if self.error is not None:
                raise self.error
            return await echo(call)

    elsewhere = Other(OSError("there"))

    async def calls_elsewhere(call: Call, _: Handler) -> Reply:
        return await elsewhere.carry(call)

    assert culprit(runtime, [calls_elsewhere], Other(None).carry) is calls_elsewhere
    assert culprit(runtime, [Base()], Other(OSError("here")).carry) is None


def test_code_that_is_not_python_s_is_nobody_s() -> None:
    policies: list[Any] = [functools.partial(print), len]
    assert Blame(policies, echo).culprit(ValueError("x")) is None


def test_the_error_of_a_policy_of_ours_is_contained_at_the_top(runtime: Bench) -> None:
    bad, events, heard = Deadline(limit=1), Events(), list[PolicyFaulted]()
    object.__setattr__(bad, "limit", "soon")
    events.on(PolicyFaulted, heard.append)
    chain = Chain([Deadline(limit=9), bad], echo)
    call = runtime.run(lambda: _call(runtime)).replace(events=events)
    (error,) = runtime.together(lambda: chain.handler(call), return_errors=True)
    assert type(error) is TypeError
    failed = chain.contain(call, error)
    assert isinstance(failed, PolicyFailed)
    assert (failed.policy, failed.certainty) == ("Deadline", Certainty.UNKNOWN)
    assert [(fault.policy, fault.reason) for fault in heard] == [("Deadline", "raised")]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), OSError("of nobody")])
def test_what_is_no_policy_s_error_stays_as_it_is(runtime: Bench, error: BaseException) -> None:
    assert Chain([Deadline(limit=9)], echo).contain(runtime.run(lambda: _call(runtime)), error) is error


async def _call(runtime: Bench) -> Call:
    return runtime.make()


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (Base(), "Base"),
        (Base(name="eu"), "Base 'eu'"),
        (Base(name=7), "Base"),  # type: ignore[arg-type]
        (echo, "echo"),
    ],
)
def test_a_policy_is_shown_by_its_class_and_name(policy: Any, name: str) -> None:
    assert shown(policy) == name


def test_a_policy_of_ours_has_no_guard_around_it_and_one_derived_from_it_has() -> None:
    class Mine(Deadline):
        pass

    assert not is_trusted(Mine(limit=1))
    assert not is_trusted(echo_too)
    assert is_trusted(Deadline(limit=1))
    guarded = getattr(Chain([Mine(limit=1)], echo).handler, "__self__", None)
    assert isinstance(guarded, Guard)
    assert not hasattr(Chain([Deadline(limit=1)], echo).handler, "__self__")


async def echo_too(call: Call, proceed: Handler) -> Reply:
    return await proceed(call)
