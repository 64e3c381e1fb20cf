"""check_store: each rule, by a store that breaks it."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any

import pytest

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.stores import Busy, MemoryStore, Mismatch, New, Record, RecordKey, Replay, TakenOver, Unknown
from resilient_rpc.testing import check_store
from resilient_rpc.testing.store_rules import RULES

NAMES = [rule.name for rule in RULES]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come about is given up after two seconds."""
    monkeypatch.setattr("resilient_rpc.testing.store_rules.bench.TRIES", 40)


def told(rule: str, store: type[Any], **settings: Any) -> str:
    """What is said of a store that breaks the rule; the others are left out, for it may break them as well."""
    others = {name: "another test" for name in NAMES if name != rule}
    with pytest.raises(AssertionError, match=f"{store.__name__} breaks the rule `{rule}`") as caught:
        check_store(store, except_for=others, **settings)
    return str(caught.value)


def test_the_report_says_what_holds_and_what_was_left_out() -> None:
    report = check_store(MemoryStore, except_for={"fork": "nobody forks here"})
    assert list(report.holds) == [name for name in NAMES if name != "fork"]
    lines = str(report).splitlines()
    assert lines[0] == f"MemoryStore keeps {len(NAMES) - 1} rules:"
    assert lines[-1] == "  fork: left out, for nobody forks here"


class Plain(MemoryStore):
    """Breaks no rule; the others differ from it in one thing."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        return await super().begin(key, **settings)


class NoPort:
    """Has nothing."""


class Generous(Plain):
    """Everybody may execute."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        await self.delete(key)
        return await super().begin(key, **settings)


class Cutting(Plain):
    """Keeps a part of what it is given."""

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, **settings: Any) -> bool:
        return await super().complete(key, epoch, payload[:100], **settings)


class Trusting(Plain):
    """Does not look at fingerprints."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        return await super().begin(key, **{**settings, "fingerprint": b"same"})


class Forgetful(Plain):
    """An abandoned record leaves nothing behind."""

    async def abandon(self, key: RecordKey, epoch: int) -> bool:
        object.__setattr__(self, "_epoch", 0)
        object.__setattr__(self, "_base", self._base - 1000)
        return await super().abandon(key, epoch)


class Patient(Plain):
    """Never takes anything over."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        began = await super().begin(key, **settings)
        return Busy(1.0) if isinstance(began, TakenOver | Unknown) else began


class Unfenced(Plain):
    """Takes whatever epoch is named for the one that holds the record."""

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, **settings: Any) -> bool:
        record = await self.get(key)
        return record is not None and await super().complete(key, record.epoch, payload, **settings)


class Strict(Plain):
    """Who is late has lost, though nobody came."""

    async def renew(self, key: RecordKey, epoch: int, *, lease: float) -> bool:
        record = await self.get(key)
        return record is not None and record.lease_left > 0 and await super().renew(key, epoch, lease=lease)


class Once(Plain):
    """Does not recognise what is repeated."""

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, **settings: Any) -> bool:
        record = await self.get(key)
        done = record is not None and record.payload is not None
        return not done and await super().complete(key, epoch, payload, **settings)


class Eternal(Plain):
    """Forgets nothing."""

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, *, ok: bool, ttl: float) -> bool:
        return await super().complete(key, epoch, payload, ok=ok, ttl=ttl and 1000.0)


class Fleeting(Plain):
    """Its ttl goes before its lease."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        began = await super().begin(key, **settings)
        if isinstance(began, New):
            self._held[key].expires = self.clock() + settings["ttl"]
        return began


class Reader(Plain):
    """Reading changes something."""

    async def get(self, key: RecordKey) -> Record | None:
        record = await super().get(key)
        if record is not None:
            await self.abandon(key, record.epoch)
        return record


class Keeper(Plain):
    """Deletes nothing."""

    async def delete(self, key: RecordKey) -> bool:
        return await super().get(key) is not None


class Joining(Plain):
    """Joins the parts of a key."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        return await super().begin(RecordKey("", "", "", ":".join(key)), **settings)

    async def complete(self, key: RecordKey, epoch: int, payload: bytes, **settings: Any) -> bool:
        return await super().complete(RecordKey("", "", "", ":".join(key)), epoch, payload, **settings)


class Racing(Plain):
    """Looks first and writes later."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        record = await self.get(key)
        await asyncio.sleep(0.01)
        if record is None:
            await self.delete(key)
        return await super().begin(key, **settings)


class Mixing(Plain):
    """Answers with the payload of another record."""

    payloads = itertools.cycle([b"one", b"two"])

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        began = await super().begin(key, **settings)
        return Replay(next(self.payloads), began.ok) if isinstance(began, Replay) else began


class Leaking(Plain):
    """Who is cancelled has begun, and holds the record."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        began = await super().begin(key, **settings)
        await asyncio.sleep(0)
        return began


class Credulous(Plain):
    """Takes any lease."""

    async def begin(self, key: RecordKey, *, lease: Any, **settings: Any) -> Any:
        return await super().begin(key, lease=lease or 1.0, **settings)


class Touchy(Plain):
    """Fails in its own way."""

    async def begin(self, key: RecordKey, *, lease: Any, **settings: Any) -> Any:
        if not lease:
            raise ZeroDivisionError
        return await super().begin(key, lease=lease, **settings)


class Closed(Plain):
    """Cannot be used after close()."""

    async def close(self) -> None:
        self._held.clear()


class Parental(Plain):
    """Belongs to one process."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        if os.getpid() != PARENT:
            raise RuntimeError("not here")
        return await super().begin(key, **settings)


class Hanging(Plain):
    """Never answers."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        await asyncio.sleep(60)


class Failing(Plain):
    """Always fails."""

    async def begin(self, key: RecordKey, **settings: Any) -> Any:
        raise OSError("no disk")


PARENT = os.getpid()
BROKEN: list[tuple[str, type[Any], str]] = [
    ("port", NoPort, "begin is None"),
    ("first", Generous, "the second begin was answered with New"),
    ("first", Failing, "it raised OSError('no disk')"),
    ("replay", Cutting, "256 bytes, ok=True, became"),
    ("mismatch", Trusting, "for a call that is running, it was answered with Busy"),
    ("abandon", Forgetful, "the epoch was"),
    ("takeover", Patient, "0 of 40 took it over"),
    ("unknown", Patient, "begin with fail_unknown was answered with Busy"),
    ("fencing", Unfenced, "complete() of an epoch that does not hold the record returned True"),
    ("strangers", Unfenced, "complete() of an epoch that does not hold the record returned True"),
    ("late", Strict, "it could not be renewed"),
    ("repeats", Once, "complete() was refused"),
    ("expiry", Eternal, "an answer was not forgotten after its ttl"),
    ("outliving", Fleeting, "after its lease it was None"),
    ("reading", Reader, "done, it was Record"),
    ("deleting", Keeper, "a deleted record could be read"),
    ("keys", Joining, "was answered with"),
    ("concurrency", Racing, "120 were New"),
    ("crowd", Mixing, "some got the answer of another"),
    ("cancelling", Leaking, "somebody went on holding a record"),
    ("arguments", Credulous, "ended in New"),
    ("arguments", Touchy, "ended in ZeroDivisionError()"),
    ("closing", Closed, "the record was gone after close()"),
    ("fork", Parental, "RuntimeError('not here')"),
]


@pytest.mark.parametrize(("rule", "store", "says"), BROKEN)
def test_a_store_that_breaks_a_rule_is_told_which(rule: str, store: type[Any], says: str) -> None:
    assert says in told(rule, store)


def test_every_rule_is_broken_by_somebody() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(NAMES)


def test_the_store_that_the_broken_ones_are_made_of_breaks_none() -> None:
    check_store(Plain)


def test_one_that_hangs_is_given_up() -> None:
    assert "it did not end within 0.1 s" in told("first", Hanging, patience=0.1)


@pytest.mark.parametrize(
    ("left_out", "says"),
    [
        ({"frist": "x"}, "there is no rule 'frist'; did you mean 'first'"),
        ({"zzz": "x"}, "there is no rule 'zzz'; known: port"),
        ({"first": " "}, "say why"),
    ],
)
def test_what_is_left_out_must_be_a_rule_and_have_a_reason(left_out: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_store(MemoryStore, except_for=left_out)


def test_outcomes_are_told_apart_by_their_kind() -> None:
    assert New(5) != TakenOver(5)
    assert Mismatch() != Unknown()
