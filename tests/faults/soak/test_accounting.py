"""The account finds what it is there to find."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from resilient_rpc.errors import EXECUTED, NOT_EXECUTED, UNKNOWN
from tests.faults.soak.accounting import Account, Evidence, settle, settle_plain
from tests.faults.soak.callers import Said
from tests.faults.soak.ledger import Line
from tests.faults.soak.report import lines_of
from tests.faults.soak.strikes import Strike

LEASE = 2.0


def effect(at: float, epoch: int, pid: int = 1, key: str = "k") -> Line:
    return Line(kind="effect", at=at, pid=pid, key=key, epoch=epoch, token=f"{key}.{epoch}.{pid}")


def recorded(at: float, epoch: int, pid: int = 1, key: str = "k") -> Line:
    return Line(kind="recorded", at=at, pid=pid, key=key, epoch=epoch)


def told(answer: str | None = None, *, key: str = "k", end: float = 1.0, certainty: str = "") -> Said:
    error = "" if answer else "DeadlineExceeded: it took too long"
    return Said(key=key, begin=0.0, end=end, timeout=5.0, answer=answer, error=error, certainty=certainty)


def account(lines: Sequence[Line], said: Sequence[Said], *strikes: Strike, republished: Sequence[str] = ()) -> Account:
    return settle(Evidence(lines=lines, said=said, strikes=strikes, republished=republished, lease=LEASE))


def strike(kind: str, begin: float, end: float, pid: int = 0) -> Strike:
    return Strike(kind=kind, begin=begin, end=end, pid=pid)


def test_one_effect_and_one_answer_are_in_order() -> None:
    found = account([effect(1.0, 1), recorded(1.1, 1)], [told("k.1.1"), told("k.1.1")])

    assert (found.calls, found.acknowledged, found.effects) == (2, 2, 1)
    assert found.bad == []


def test_an_answer_without_its_effect_is_lost() -> None:
    assert len(account([effect(1.0, 1)], [told("k.9.9")]).lost) == 1
    assert len(account([], [told("k.1.1")]).lost) == 1


def test_two_effects_without_a_cause_are_duplicated() -> None:
    found = account([effect(1.0, 1), effect(4.0, 2, pid=2)], [told("k.1.1")])

    assert found.duplicated == ["k: k.1.1, then k.2.2"]
    assert not found.window


def test_two_effects_with_one_token_are_duplicated_whatever_was_struck() -> None:
    assert account([effect(1.0, 1), effect(4.0, 1)], [told("k.1.1")], strike("server-kill", 2.0, 2.1, 1)).duplicated


def test_an_effect_after_a_record_is_duplicated_whatever_was_struck() -> None:
    lines = [effect(1.0, 1), recorded(1.1, 1), effect(4.0, 2, pid=2)]

    assert account(
        lines, [told("k.1.1")], strike("server-kill", 2.0, 2.1, 1), strike("redis-kill", 1.0, 3.0)
    ).duplicated


@pytest.mark.parametrize(
    ("struck", "cause"),
    [
        (strike("server-kill", 1.5, 1.6, 1), "killed"),
        (strike("server-crash", 0.0, 0.0, 1), "injected"),
        (strike("server-outlive", 1.2, 3.9, 1), "frozen"),
        (strike("redis-kill", 0.5, 1.2), "store"),
        (strike("redis-lose", 1.0, 1.2), "store"),
    ],
)
def test_a_double_effect_is_explained_by_what_was_struck(struck: Strike, cause: str) -> None:
    lines = [effect(1.0, 1), effect(4.0, 2, pid=2), recorded(4.1, 2, pid=2)]
    found = account(lines, [told("k.1.1"), told("k.2.2")], struck)

    assert found.window == {cause: 1}
    assert found.differing_in_window == 1
    assert found.bad == []


@pytest.mark.parametrize(
    "struck",
    [
        strike("server-kill", 1.5, 1.6, 2),  # another server
        strike("server-kill", 4.5, 4.6, 1),  # after it was done twice
        strike("server-drain", 1.5, 1.6, 1),  # it answers before it ends
        strike("server-freeze", 1.5, 1.9, 1),  # shorter than a lease
        strike("redis-kill", -9.0, -8.0),  # long before
        strike("redis-kill", 5.0, 6.0),  # after
        strike("redis-flush", 1.0, 1.1),  # scripts are loaded again
        strike("broker-kill", 1.0, 3.0),  # not where records are
    ],
)
def test_a_double_effect_is_not_explained_by_what_cannot_have_caused_it(struck: Strike) -> None:
    assert account([effect(1.0, 1), effect(4.0, 2, pid=2)], [told("k.1.1")], struck).duplicated


def test_an_effect_after_one_with_a_larger_token_is_one_that_a_check_of_tokens_refuses() -> None:
    lines = [effect(3.0, 2, pid=2), recorded(3.1, 2, pid=2), effect(4.0, 1)]
    found = account(lines, [told("k.2.2")], strike("server-outlive", 0.9, 3.9, 1))

    assert (found.window, found.fenced, found.bad) == ({"frozen": 1}, 1, [])


def test_two_answers_for_one_key_differ_outside_of_the_window() -> None:
    found = account([effect(1.0, 1, key="k"), effect(1.0, 1, pid=2, key="l")], [told("k.1.1"), told("l.1.2", key="l")])
    assert found.differing == []

    found = account([effect(1.0, 1)], [told("k.1.1"), told("k.1.2")])
    assert found.differing == ["k: k.1.1, k.1.2"]


def test_an_answer_that_was_never_recorded_is_a_finding_unless_its_server_was_killed() -> None:
    lines, said = [effect(1.0, 1)], [told("k.1.1")]

    assert account(lines, said).unrecorded == ["k: k.1.1"]
    assert account(lines, said, strike("server-drain", 1.5, 1.6, 1)).unrecorded == ["k: k.1.1"]
    found = account(lines, said, strike("server-kill", 1.5, 1.6, 1))
    assert (found.unrecorded, found.unrecorded_in_window, found.bad) == ([], 1, [])
    assert account(lines, [told()]).unrecorded == []


def test_an_effect_that_nobody_called_is_unexpected() -> None:
    assert len(account([effect(1.0, 1)], []).unexpected) == 1


def test_an_effect_of_a_call_that_was_not_executed_is_unexpected() -> None:
    said = [told(certainty=NOT_EXECUTED)]

    assert len(account([effect(1.0, 1)], said).unexpected) == 1
    assert account([effect(1.0, 1)], said, republished=["k"]).unexpected == []
    assert account([effect(1.0, 1)], [*said, told(certainty=UNKNOWN)]).unexpected == []
    assert account([], said).unexpected == []


def test_a_call_that_was_executed_without_effect_is_unexpected() -> None:
    assert len(account([], [told(certainty=EXECUTED)]).unexpected) == 1


def test_a_call_that_ended_long_after_its_deadline_is_late() -> None:
    assert account([], [told(end=5.9)]).late == []
    assert account([], [told(end=6.1)]).late == ["k took 6.10 of 5 s"]


def test_the_report_names_every_number_and_what_must_not_be() -> None:
    found = account([effect(1.0, 1), effect(4.0, 1), recorded(4.1, 1)], [told("k.1.1"), told(key="l")])
    text = "\n".join(lines_of(found))

    assert "acknowledged          1, of which replayed 0" in text
    assert "failed                1 (DeadlineExceeded 1)" in text
    assert "duplicated            1\n    k: k.1.1, then k.1.1" in text
    assert "in the window         0" in text
    assert len(found.bad) == 1

    found = account([effect(4.0, 1), effect(3.0, 2, pid=2)], [], strike("server-crash", 0.0, 0.0, 1))
    assert "in the window         1 (injected 1); differing answers 0; a fencing token refuses 1" in lines_of(found)


class TestWithoutKeys:
    """Each call is its own, so a second effect needs leave."""

    def account(self, lines: Sequence[Line], said: Sequence[Said], **known: Sequence[str]) -> Account:
        return settle_plain(Evidence(lines=lines, said=said, strikes=[], **known))

    def test_one_effect_and_its_answer_are_in_order(self) -> None:
        found = self.account([effect(1.0, 0)], [told("k.0.1")])

        assert (found.calls, found.acknowledged, found.effects, found.repeated, found.bad) == (1, 1, 1, 0, [])

    def test_a_second_effect_is_duplicated_if_the_call_may_not_be_repeated(self) -> None:
        lines = [effect(1.0, 0), effect(4.0, 0, pid=2)]

        assert self.account(lines, [told("k.0.1")]).duplicated == ["k: k.0.1, then k.0.2"]
        allowed = self.account(lines, [told("k.0.2")], repeatable=["k"])
        assert (allowed.repeated, allowed.bad) == (1, [])

    def test_what_an_old_broker_no_longer_marks_after_a_stop_is_in_the_window(self) -> None:
        lines = [effect(1.0, 0), effect(4.0, 0, pid=2)]
        stops = [Strike(kind="broker-stop", begin=2.0, end=3.0, pid=0)]

        found = settle_plain(Evidence(lines=lines, said=[told("k.0.1")], strikes=stops, unmarked=True))
        assert (found.window, found.bad) == ({"unmarked": 1}, [])
        assert "in the window         1 (unmarked 1)" in "\n".join(lines_of(found, keyed=False))
        assert settle_plain(Evidence(lines=lines, said=[], strikes=stops)).duplicated
        assert settle_plain(Evidence(lines=lines, said=[], strikes=[], unmarked=True)).duplicated
        before = [effect(0.5, 0), effect(1.0, 0, pid=2)]
        assert settle_plain(Evidence(lines=before, said=[], strikes=stops, unmarked=True)).duplicated

    def test_a_call_that_its_caller_was_told_is_not_executed_must_not_be(self) -> None:
        assert self.account([effect(1.0, 0)], [told(certainty=NOT_EXECUTED)]).unexpected
        assert not self.account([effect(1.0, 0)], [told(certainty=UNKNOWN)]).bad
        assert self.account([], [told(certainty=EXECUTED)]).unexpected

    def test_an_answer_that_no_server_gave_is_lost(self) -> None:
        assert self.account([effect(1.0, 0)], [told("forged")]).lost == ["k was answered with forged"]

    def test_calls_of_strangers_may_take_effect_once(self) -> None:
        assert self.account([effect(1.0, 0)], []).unexpected == ["k took effect, and nobody called it"]
        assert self.account([effect(1.0, 0)], [], strangers=["k"]).bad == []
        assert self.account([effect(1.0, 0), effect(2.0, 0)], [], strangers=["k"]).duplicated

    def test_a_call_past_its_deadline_is_late_and_printed(self) -> None:
        found = self.account([], [told(end=7.0, certainty=UNKNOWN)])

        lines = lines_of(found, keyed=False)

        assert found.late == ["k took 7.00 of 5 s"]
        assert "past their deadline   1" in lines
        assert "ended by deadline     1" in lines
        assert "repeated, as allowed  0" in lines
