"""The third part of the demo: what it makes of a ledger and of what callers were told, and its errors."""

from __future__ import annotations

import asyncio
import io
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from resilient_rpc.cli import demo_keys, demo_keys_service
from resilient_rpc.cli.demo_keys import KeysSide, Said, calls_of
from resilient_rpc.cli.demo_keys_report import examine, report_keys
from resilient_rpc.cli.demo_ledger import Entry, Ledger
from resilient_rpc.cli.demo_redis import Redis
from resilient_rpc.cli.demo_servers import DemoError
from resilient_rpc.errors import EXECUTED, NOT_EXECUTED, UNKNOWN, Certainty, ConfigurationError
from tests.cli.conftest import Run

DEAD, ALIVE = 1, 2


def effect(key: str, receipt: str, *, token: int = 1, pid: int = ALIVE) -> Entry:
    return Entry("charged", key, token, pid, receipt)


def failed(certainty: Certainty) -> Said:
    return Said(None, "Interrupted", certainty)


def side(said: dict[str, list[Said]], *effects: Entry, name: str = "with keys") -> Any:
    charges: defaultdict[str, list[Entry]] = defaultdict(list)
    for each in effects:
        charges[each.key].append(each)
    ledger = SimpleNamespace(charges=lambda: dict(charges), unfinished=lambda: 3)
    return SimpleNamespace(name=name, said=said, ledger=ledger, fleet=SimpleNamespace(killed=[DEAD]))


GOOD = side({"a": [Said("r1"), Said("r1")], "b": [Said("r2")]}, effect("a", "r1"), effect("b", "r2"))
TWICE = side(
    {"a": [Said("r1"), Said("r2")], "b": [Said("r3")]}, effect("a", "r1"), effect("a", "r2"), effect("b", "r3")
)


def printed(*sides: Any) -> tuple[bool, str]:
    out = io.StringIO()
    ok = report_keys(Console(file=out, width=80), sides)
    return ok, out.getvalue()


def test_each_key_once_and_one_answer_is_right() -> None:
    found = examine(GOOD)
    assert found.right
    assert (found.keys, found.calls, found.answered, found.effects) == (2, 3, 3, {1: 2})
    assert (found.deaths, found.interrupted, found.often, found.differing) == (1, 3, 0, 0)


def test_twice_is_found_and_so_are_two_answers() -> None:
    found = examine(TWICE)
    assert not found.right
    assert (found.often, found.in_window, found.differing, found.untrue) == (1, 0, 1, 0)


@pytest.mark.parametrize(
    ("said", "first", "second", "window"),
    [
        ("r2", effect("a", "r1", pid=DEAD), effect("a", "r2", token=2), True),
        ("r1", effect("a", "r1", pid=DEAD), effect("a", "r2", token=2), False),
        ("r2", effect("a", "r1", pid=ALIVE), effect("a", "r2", token=2), False),
        ("r2", effect("a", "r1", pid=DEAD), effect("a", "r2", token=1), False),
        ("r2", effect("a", "r1", pid=DEAD, token=2), effect("a", "r2", token=1), False),
    ],
)
def test_the_window_is_a_server_that_died_before_anybody_was_told(
    said: str, first: Entry, second: Entry, *, window: bool
) -> None:
    found = examine(side({"a": [Said(said)]}, first, second))
    assert (found.often, found.in_window, found.right) == (1, int(window), window)


@pytest.mark.parametrize(
    ("said", "effects", "untrue"),
    [
        ([failed(NOT_EXECUTED)], [effect("a", "r1")], 1),
        ([failed(NOT_EXECUTED)], [], 0),
        ([failed(NOT_EXECUTED), Said("r1")], [effect("a", "r1")], 0),
        ([failed(EXECUTED)], [], 1),
        ([failed(UNKNOWN)], [effect("a", "r1")], 0),
        ([failed(UNKNOWN)], [], 0),
        ([Said("r9")], [effect("a", "r1")], 1),
        ([Said("r9")], [], 1),
    ],
)
def test_what_callers_were_told_is_compared_with_the_ledger(
    said: list[Said], effects: list[Entry], untrue: int
) -> None:
    assert examine(side({"a": said}, *effects)).untrue == untrue


def test_where_nothing_was_answered_nothing_is_proved() -> None:
    assert not examine(side({"a": [failed(NOT_EXECUTED)]})).right


def test_the_table_fits_a_terminal_and_the_verdict_is_computed() -> None:
    without = side(TWICE.said, *[entry for found in TWICE.ledger.charges().values() for entry in found], name="without")
    ok, text = printed(GOOD, without)
    assert ok
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^ *with keys +without$", text, re.MULTILINE)
    assert re.search(r"^keys that took effect once\S* .* 2 +1$", text, re.MULTILINE)
    assert re.search(r"^  more than once +0 +1$", text, re.MULTILINE)
    assert text.endswith("with keys, 2 of 2 took effect once; without, 1 of 2 more than once\n")
    ok, text = printed(without, GOOD)
    assert not ok
    assert "with keys, 1 of 2 took effect once, 1 more than once, 1 had different answers, 0 wrong ones;" in " ".join(
        text.split()
    )


def test_the_window_is_told() -> None:
    ok, text = printed(side({"a": [Said("r2")]}, effect("a", "r1", pid=DEAD), effect("a", "r2", token=2)), GOOD)
    assert ok
    assert "1 more than once (1 of them: the server died between the effect and its record)" in " ".join(text.split())


def test_certainty_of_errors_is_counted() -> None:
    _, text = printed(
        side({"a": [failed(UNKNOWN), failed(UNKNOWN), failed(NOT_EXECUTED), Said("r1")]}, effect("a", "r1")), GOOD
    )
    rows = dict(re.findall(r"^  (errors: .*?|answered) +(\d+) +\d+$", text, re.MULTILINE))
    assert rows == {"answered": "1", "errors: not executed": "1", "errors: nobody knows": "2", "errors: executed": "0"}


def test_a_ledger_keeps_what_several_writers_note(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / "book"), Ledger(tmp_path / "book")
    one.note("began", "k", 7)
    other.note("began", "l", None)
    one.note("charged", "k", 7, "r1")
    assert one.entries() == other.entries()
    assert one.charges() == {"k": [Entry("charged", "k", 7, os.getpid(), "r1")]}
    assert other.unfinished() == 1
    one.close()
    other.close()


def test_how_many_calls_there_will_be() -> None:
    assert [calls_of(keys) for keys in (1, 2, 3, 4)] == [1, 3, 5, 6]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://x", "--redis must begin with"),
        ("redis+cluster://localhost", "one Redis"),
        ("redis://:sesame@localhost:port/", "percent-encode"),
    ],
)
def test_a_redis_that_the_demo_cannot_use_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        Redis(url)
    assert "sesame" not in str(caught.value)


def test_a_redis_that_is_gone_at_the_end_leaves_keys_and_says_so() -> None:
    with pytest.raises(DemoError, match=r"keys rpc-demo-\w+:\* were left in Redis for some minutes: .*refused"):
        Redis("redis://:sesame@127.0.0.1:1/").clear()


def test_memory_has_no_third_part(run: Run) -> None:
    result = run("demo", "--redis", "redis://localhost")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --redis needs a --broker")


def test_the_first_part_can_be_left_out(run: Run, service: str) -> None:
    result = run("demo", "--calls", "0", "--phase", "0", "--broker", f"memory://{service}")
    assert result.exit_code == 0
    assert result.stdout == f"broker   memory://{service}\n"


class NoFleet:
    """Servers that are struck by word only."""

    def __init__(self) -> None:
        self.killed: list[int] = []

    def strike(self) -> None:
        self.killed.append(DEAD)


@pytest.fixture
def here(service: str, tmp_path: Path) -> Iterator[tuple[KeysSide, Any, Ledger]]:
    """A side without keys on memory://, and its only server."""
    ledger, fleet = Ledger(tmp_path / "book"), NoFleet()
    server = demo_keys_service.build(f"memory://{service}", service, ledger, None, "")
    side: Any = KeysSide("without", f"memory://{service}", service, fleet=fleet, ledger=ledger, keyed=False)  # type: ignore[arg-type]
    yield side, server, ledger
    ledger.close()


def test_a_side_calls_each_order_once_or_twice_and_strikes_in_between(
    here: tuple[KeysSide, Any, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_keys_service, "WORK", 0.06)
    side, server, ledger = here
    server.start()
    try:
        asyncio.run(side.run([str(number) for number in range(60)]))
    finally:
        server.stop()
    assert (side.ended, side.failed) == (calls_of(60), 0)
    assert [len(side.said[str(number)]) for number in range(6)] == [1, 2, 2, 1, 2, 2]
    assert Counter(len(each) for each in ledger.charges().values()) == {1: 20, 2: 40}
    assert side.fleet.killed == [DEAD] * demo_keys.KILLS
    found = examine(side)
    assert (found.often, found.differing, found.untrue, found.in_window) == (40, 40, 0, 0)


def test_calls_that_fail_are_noted_with_their_certainty(
    here: tuple[KeysSide, Any, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_keys, "LIMIT", 0.05)
    side, _, _ = here
    asyncio.run(side.run(["a"]))
    assert side.said["a"][0].receipt is None
    assert side.said["a"][0].certainty is NOT_EXECUTED
    assert (side.ended, side.failed) == (1, 1)
    assert not examine(side).right


def test_when_the_time_is_up_no_further_order_is_begun(
    here: tuple[KeysSide, Any, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_keys, "BEGIN_WITHIN", -1.0)
    side, _, _ = here
    asyncio.run(side.run(["a", "b"]))
    assert side.said == {}
    assert side.fleet.killed == []


def test_with_redis_a_server_keeps_records_by_a_lease_that_is_shorter_than_a_call(service: str, tmp_path: Path) -> None:
    server = demo_keys_service.build(
        "memory://x", service, Ledger(tmp_path / "book"), "redis://localhost", "rpc-demo-x"
    )
    [shown] = server.describe()
    assert shown.startswith("Idempotency(")
    assert demo_keys_service.LEASE < demo_keys.LIMIT
