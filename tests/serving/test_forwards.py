"""Messages that are sent on: told of once, and never before a queue has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import ConfigurationError, TooLarge
from resilient_rpc.serving.forwards import TRIES, Forward, Forwards
from resilient_rpc.transport.properties import encode_properties
from tests.transport.fakes import FakePublisher


class Rig:
    """Forwards over a session that does nothing by itself."""

    def __init__(self) -> None:
        self.woken = 0
        self.forwards = Forwards(self._wake)
        self.session: Any = FakePublisher(self.forwards, replies=False)  # type: ignore[arg-type]
        self.told: list[tuple[str, bool]] = []

    def _wake(self) -> None:
        self.woken += 1

    def add(self, name: str, correlation: str = "") -> None:
        properties = encode_properties(message_id=name)
        self.forwards.add(Forward("q", name.encode(), properties, correlation, lambda ok: self.told.append((name, ok))))

    def send(self) -> list[str]:
        """What is published by it."""
        before = len(self.session.sent)
        self.forwards.send(self.session)
        return [message.body.decode() for message in self.session.sent[before:]]


def test_a_forward_is_told_of_when_it_is_confirmed() -> None:
    rig = Rig()
    rig.add("a")
    rig.add("b")
    assert rig.woken == 2
    assert rig.send() == ["a", "b"]
    assert all(message.mandatory for message in rig.session.sent)
    assert (rig.told, rig.forwards.pending) == ([], 2)
    rig.forwards.confirmed(1, multiple=False, ok=True)
    rig.forwards.confirmed(7, multiple=False, ok=True)  # a reply's
    assert rig.told == [("a", True)]
    rig.forwards.confirmed(2, multiple=True, ok=True)
    assert (rig.told, rig.forwards.pending) == ([("a", True), ("b", True)], 0)


def test_what_is_refused_is_sent_again_and_given_up_in_the_end() -> None:
    rig = Rig()
    rig.add("a")
    for number in range(1, TRIES + 1):
        assert rig.told == []
        assert rig.send() == ["a"]
        rig.forwards.confirmed(number, multiple=False, ok=False)
    assert (rig.told, rig.send()) == ([("a", False)], [])


def test_what_finds_no_queue_is_not_with_anybody() -> None:
    rig = Rig()
    rig.add("a", "c.1")
    rig.add("b", "c.2")
    rig.send()
    rig.forwards.returned("c.1")
    rig.forwards.confirmed(2, multiple=True, ok=True)
    assert rig.told == [("b", True)]
    assert rig.send() == ["a"]
    rig.forwards.confirmed(3, multiple=False, ok=True)
    assert rig.told == [("b", True), ("a", True)]


@pytest.mark.parametrize("error", [TooLarge("large"), ConfigurationError("wrong")])
def test_what_never_fits_is_given_up_at_once(error: Exception) -> None:
    rig = Rig()
    rig.add("a")
    rig.session.raises = error
    assert (rig.send(), rig.told) == ([], [("a", False)])


def test_a_session_that_has_ended_takes_nothing_and_the_next_one_all_in_order() -> None:
    rig = Rig()
    for name in "abc":
        rig.add(name)
    rig.send()
    rig.forwards.confirmed(1, multiple=False, ok=True)
    rig.add("d")
    rig.session.raises = ConnectionError("ended")
    assert rig.send() == []
    rig.forwards.lost()
    rig.session.raises = None
    assert rig.send() == ["b", "c", "d"]


def test_a_socket_that_is_full_is_waited_for() -> None:
    rig = Rig()
    rig.add("a")
    rig.session.writable = False
    assert rig.send() == []
    rig.session.writable = True
    assert rig.send() == ["a"]


steps = st.lists(st.sampled_from(["add", "send", "ack", "nack", "all", "lost", "return"]), max_size=40)


@given(steps)
def test_whatever_happens_each_is_told_of_once_and_true_only_after_its_confirm(wanted: list[str]) -> None:
    rig, added = Rig(), 0
    for step in [*wanted, *["send", "all"] * (TRIES + 1)]:
        last = len(rig.session.sent)
        if step == "add":
            rig.add(str(added), str(added))
            added += 1
        elif step == "send":
            rig.send()
        elif step == "lost":
            rig.forwards.lost()
        elif step == "return" and last:
            rig.forwards.returned(rig.session.sent[-1].body.decode())
        elif step in {"ack", "nack"} and last:
            rig.forwards.confirmed(last, multiple=False, ok=step == "ack")
        elif step == "all":
            rig.forwards.confirmed(last, multiple=True, ok=True)
    assert sorted(name for name, _ in rig.told) == sorted(map(str, range(added)))
    assert rig.forwards.pending == 0
