"""The policy that policies.md writes, for both kinds of callers, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_rpc import (
    Call,
    ConfigurationError,
    ConnectionLost,
    Handler,
    InvalidParams,
    NotConnected,
    Policy,
    Reply,
    RpcError,
    Safety,
)
from resilient_rpc.errors import Overloaded
from tests.docs.blocks import DOCS, blocks_of
from tests.runtimes import Bench


@pytest.fixture(scope="module")
def example() -> Any:
    """The class, as the page has it."""
    (block,) = [block for block in blocks_of(DOCS / "policies.md", "python") if block.title == "one_more_try.py"]
    names: dict[str, Any] = {"__name__": "one_more_try"}
    exec(compile(block.body, block.where, "exec", dont_inherit=True), names)  # noqa: S102 - the page is ours
    return names["OneMoreTry"]


class Answers:
    """A handler that gives one answer after the other, and keeps the calls that it got."""

    def __init__(self, policy: Policy, *answers: Reply | RpcError) -> None:
        self._policy, self._answers = policy, list(answers)
        self.calls: list[Call] = []

    async def _answer(self, call: Call) -> Reply:
        self.calls.append(call)
        answer = self._answers.pop(0)
        if isinstance(answer, RpcError):
            raise answer
        return answer

    @property
    def handler(self) -> Handler:
        """The policy around it."""
        return lambda call: self._policy(call, self._answer)


def test_it_is_a_policy(example: Any) -> None:
    assert isinstance(example(), Policy)


def test_it_repeats_what_was_not_executed(runtime: Bench, example: Any) -> None:
    answers = Answers(example(pause=2.0), NotConnected("nobody there"), Reply(result=1))
    assert runtime.call(answers.handler).result == 1
    assert runtime.passed == 2.0
    assert [call.attempt for call in answers.calls] == [1, 2]


def test_it_waits_as_long_as_the_server_asks(runtime: Bench, example: Any) -> None:
    answers = Answers(example(pause=2.0), Overloaded("later", retry_after=7.0), Reply(result=1))
    assert runtime.call(answers.handler).result == 1
    assert runtime.passed == 7.0


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (InvalidParams("never fits"), {}),
        (ConnectionLost("who knows"), {"safety": Safety.UNSAFE}),
        (NotConnected("no time left"), {"timeout": 1.0}),
    ],
    ids=["no use", "not safe", "no time"],
)
def test_it_does_not_repeat(runtime: Bench, example: Any, error: RpcError, fields: dict[str, Any]) -> None:
    answers = Answers(example(pause=2.0), error)
    with pytest.raises(type(error)):
        runtime.call(answers.handler, **fields)
    assert runtime.passed == 0
    assert len(answers.calls) == 1


def test_it_repeats_what_does_no_harm(runtime: Bench, example: Any) -> None:
    answers = Answers(example(), ConnectionLost("who knows"), Reply(result=1))
    assert runtime.call(answers.handler, safety=Safety.READ_ONLY).result == 1


def test_it_checks_its_setting(example: Any) -> None:
    with pytest.raises(ConfigurationError, match="-1"):
        example(pause=-1)
