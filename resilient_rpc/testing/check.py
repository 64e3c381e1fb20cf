"""check_policy(): whether a policy keeps the rules, for blocking and for asyncio callers, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resilient_rpc.call import Call
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies.settings import check_count, check_seconds
from resilient_rpc.policy import Policy
from resilient_rpc.spelling import choice
from resilient_rpc.testing.clock import VirtualClock
from resilient_rpc.testing.lab import Broken, Lab
from resilient_rpc.testing.report import Report, check_left_out, said
from resilient_rpc.testing.rules import answers, cancelling, forked, sharing, time
from resilient_rpc.testing.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    answers.declaration,
    answers.one_colour,
    answers.real_time,
    answers.results,
    sharing.locks,
    answers.errors,
    answers.certainty,
    answers.safety,
    answers.attempts,
    answers.immutability,
    time.deadline,
    time.rebinding,
    cancelling.cancellation,
    cancelling.independence,
    cancelling.permits,
    sharing.events,
    sharing.concurrency,
    sharing.loops,
    sharing.leaks,
    forked.fork,
)
"""In the order in which they are checked: one that is broken often breaks those after it."""
START = 1.5e7
"""Half a year: who mistakes real time for that of the call is far off, in either direction."""


@dataclass(frozen=True, kw_only=True)
class PolicyReport(Report):
    """What `check_policy` found to hold, and what it was told to leave out."""

    policy: str

    def __str__(self) -> str:
        return self.of(self.policy)


def check_policy(
    make: Callable[[], Policy],
    *,
    call: Mapping[str, Any] | None = None,
    except_for: Mapping[str, str] | None = None,
    crowd: int = 100,
    patience: float = 2.0,
) -> PolicyReport:
    """Try a policy out as blocking and asyncio callers would; AssertionError names the first rule that it breaks.

    It takes a few seconds of real time; all waiting is virtual. Call it where no event loop runs.

    Args:
        make: Makes a new policy each time: its class, or ``lambda: MyPolicy(limit=5)``.
        call: Fields of the calls, in place of ``method="orders.price"`` and ``safety="read_only"``: choose them such
            that the policy has something to do.
        except_for: Rules that the policy breaks by its nature, each with the reason, which the report repeats:
            ``{"errors": "it answers in their place"}``.
        crowd: Calls at once, and in a row: give more than the policy has permits.
        patience: Real seconds without any progress after which a call counts as hanging.
    """
    left_out = dict(except_for or {})
    _check_arguments(left_out, crowd, patience)
    _check_fields(call or {})
    name = _name(_new(make))
    for rule in RULES:
        if rule.name in left_out:
            continue
        for blocking in (True, False) if rule.both else (False,):
            try:
                _check(rule, make, call or {}, blocking=blocking, crowd=crowd, patience=patience)
            except Broken as broken:
                whose = f", for {'blocking' if blocking else 'asyncio'} callers" if rule.both else ""
                raise AssertionError(f"{name} breaks the rule `{rule.name}`{whose}: {rule.says}.\n{broken}") from broken
    return PolicyReport(policy=name, holds=said(RULES, left_out), left_out=left_out)


def _check(
    rule: Rule, make: Callable[[], Policy], fields: Mapping[str, Any], *, blocking: bool, crowd: int, patience: float
) -> None:
    try:
        with VirtualClock(start=START, patience=patience) as clock:
            rule.check(Lab(make=make, clock=clock, fields=fields, blocking=blocking, crowd=crowd))
    except Broken:
        raise
    except Exception as error:  # what a policy raises where none of its callers would expect it
        raise Broken(f"it raised {error!r}") from error


def _new(make: Callable[[], Policy]) -> Policy:
    try:
        policy = make()
    except TypeError as error:
        raise ConfigurationError(
            f"check_policy needs a function without arguments that makes a policy: {error}"
        ) from error
    return policy


def _check_arguments(left_out: Mapping[str, str], crowd: int, patience: float) -> None:
    check_count("crowd", crowd, least=2)
    check_seconds("patience", patience)
    check_left_out(RULES, left_out)


def _check_fields(fields: Mapping[str, Any]) -> None:
    known = [name for name in Call.__struct_fields__ if name not in {"runtime", "deadline", "timeout"}]
    for name in fields:
        if name not in known:
            raise ConfigurationError(f"call: a call has no field {name!r}; {choice(str(name), known)}")


def _name(policy: Policy) -> str:
    return getattr(policy, "__qualname__", "") or type(policy).__qualname__
