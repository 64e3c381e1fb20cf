"""`dead` on a real broker: what it shows, sends again and deletes, and that nothing is lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from resilient_rpc import Server
from resilient_rpc.cli import app
from resilient_rpc.cli.dead import replaying
from resilient_rpc.transport.amqp.reader import AmqpReader
from tests.broker.dead import Graveyard, graveyard
from tests.waiting import until


@pytest.fixture
def yard(amqp_url: str, service: str) -> Iterator[Graveyard]:
    """A service whose server has been there."""
    with graveyard(amqp_url, service) as made:
        made.declare()
        yield made


def dead(yard: Graveyard, command: str, *args: str, **options: str) -> Result:
    """Run a command in this process."""
    environment = {"COLUMNS": "200", "RESILIENT_RPC_URL": yard.url}
    return CliRunner().invoke(app, ["dead", command, yard.service, *args], env=environment, **options)  # type: ignore[arg-type]


def test_the_dead_letters_of_a_version_and_environment_go_back_to_where_they_died(amqp_url: str, service: str) -> None:
    with graveyard(amqp_url, service) as yard:
        yard.queue = f"shop.{service}.v2.eu-west"
        yard.dead, yard.expired = f"{yard.queue}.dead", f"{yard.queue}.expired"
        server = Server(amqp_url, service=service, prefix="shop.", version="v2", environment="eu-west")
        server.method(name="price")(lambda: None)
        server.start()
        server.stop()
        yard.bury(1)
        yard.service = f"{service}.v2.eu-west"
        assert dead(yard, "list").exit_code == 3, "with another prefix there is none"
        listed = dead(yard, "list", "--prefix", "shop.", "--method", f"{service}.price")
        assert listed.stdout.startswith(f"{yard.dead}: 1 of 1 dead letters"), listed.output
        assert f"{yard.expired}: 0 expired" in listed.stdout
        assert dead(yard, "show", "1", "--prefix", "shop.").exit_code == 0
        assert dead(yard, "replay", "--prefix", "shop.", "--force-unsafe").exit_code == 0
        assert (yard.depth(yard.queue), yard.depth(yard.dead)) == (1, 0)
        yard.bury(2)
        assert dead(yard, "purge", "--prefix", "shop.", "--yes").exit_code == 0
        assert yard.depth(yard.dead) == 0


@pytest.mark.parametrize("name", ["", "a b", "a..b", "-x", "1", "a.b\n"])
def test_a_name_that_no_service_has_is_wrong_usage(yard: Graveyard, name: str) -> None:
    yard.service = name
    assert dead(yard, "list").exit_code == 2


def test_list_counts_by_reason_and_method_and_leaves_all_in_order(yard: Graveyard) -> None:
    for number in range(70):
        yard.bury(number, "interrupted" if number % 2 else "failed", "create" if number % 5 else "price")
    result = dead(yard, "list")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{yard.dead}: 70 of 70 dead letters, first 20")
    assert lines[1].split() == ["reason", "method", "letters", "calls", "first", "last"]
    assert [line.split()[:4] for line in lines[2:6]] == [
        ["failed", "create", "28", "28"],
        ["failed", "price", "7", "7"],
        ["interrupted", "create", "28", "28"],
        ["interrupted", "price", "7", "7"],
    ]
    assert lines[6] == f"{yard.expired}: 0 expired"
    assert yard.ids(yard.dead) == [f"m{number}" for number in range(70)]


def test_list_with_filters_and_a_line_for_each(yard: Graveyard) -> None:
    yard.bury(1, "failed", "price")
    yard.bury(2, "interrupted", "create")
    result = dead(yard, "list", "--each", "--reason", "interrupted", "--method", "cre*", "--since", "1h")
    assert f"{yard.dead}: 1 of 2 dead letters" in result.stdout
    assert [line.split()[0::2][:3] for line in result.stdout.splitlines() if line.startswith("2 ")] == [
        ["2", "interrupted", "2"]
    ]
    assert "0 of 2 dead letters, first -, last -" in dead(yard, "list", "--since", "2999-01-01").stdout


def test_show_tells_why_and_the_body_only_when_asked(yard: Graveyard) -> None:
    yard.bury(1)
    yard.bury(2, "malformed", **{"rpc-dead-exception": "x\x1b[31m.Evil", "rpc-dead-stack": "a.py:1 f\nb.py:2 g"})
    result = dead(yard, "show", "2")
    assert result.exit_code == 0, result.output
    assert "reason:       malformed\n" in result.stdout
    assert "exception:    x?[31m.Evil\n" in result.stdout
    assert "stack:        a.py:1 f\nstack:        b.py:2 g\n" in result.stdout
    assert '"params"' not in result.stdout
    assert '"params": [2]' in dead(yard, "show", "2", "--payload").stdout
    missing = dead(yard, "show", "3")
    assert (missing.exit_code, missing.stderr) == (1, f"error: {yard.dead} holds 2 letters\n")
    assert yard.ids(yard.dead) == ["m1", "m2"]


def test_replay_sends_letters_as_they_were(yard: Graveyard) -> None:
    for number in range(5):
        yard.bury(number, tenant="acme")
    result = dead(yard, "replay", "--limit", "3")
    assert (result.exit_code, result.stdout) == (0, f"3 replayed to {yard.queue}\n")
    assert yard.depth(yard.dead) == 2
    sent = yard.take(yard.queue)
    assert [properties.message_id for properties, _ in sent] == ["m0", "m1", "m2"]
    properties, body = sent[2]
    assert body == b'{"jsonrpc": "2.0", "method": "price", "params": [2], "id": 2}'
    assert properties.headers == {"rpc-version": "1", "rpc-method": "price", "tenant": "acme"}
    assert (properties.correlation_id, properties.reply_to, properties.delivery_mode) == ("c.2", None, 2)
    assert yard.ids(yard.dead) == ["m3", "m4"]


def test_replay_with_filters_leaves_the_rest_in_order(yard: Graveyard) -> None:
    for number in range(6):
        yard.bury(number, "failed" if number % 2 else "refused", "price" if number < 4 else "create")
    result = dead(yard, "replay", "--reason", "failed", "--method", f"{yard.service}.price", "--rate", "1000")
    assert result.stdout == f"2 replayed to {yard.queue}, 4 others\n"
    assert yard.ids(yard.queue) == ["m1", "m3"]
    assert yard.ids(yard.dead) == ["m0", "m2", "m4", "m5"]


def test_a_dry_run_sends_nothing(yard: Graveyard) -> None:
    yard.bury(1)
    result = dead(yard, "replay", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, f"1 would be replayed to {yard.queue}\n")
    assert (yard.depth(yard.queue), yard.ids(yard.dead)) == (0, ["m1"])


@pytest.mark.parametrize(
    ("reason", "headers"), [("interrupted", {}), ("failed", {"rpc-dead-partial": True})], ids=["interrupted", "partial"]
)
def test_what_may_have_been_executed_is_refused_without_force(yard: Graveyard, reason: str, headers: dict) -> None:  # type: ignore[type-arg]
    yard.bury(1, reason, **headers)  # type: ignore[arg-type]
    yard.bury(2)
    result = dead(yard, "replay")
    assert (result.exit_code, result.stdout) == (1, f"1 replayed to {yard.queue}, 1 unsafe\n")
    assert result.stderr == "error: 1 letters may have been executed: look at them, then --force-unsafe\n"
    assert yard.ids(yard.queue) == ["m2"]
    assert dead(yard, "replay", "--force-unsafe").exit_code == 0
    assert yard.ids(yard.queue) == ["m1"]
    assert yard.depth(yard.dead) == 0


def test_a_letter_goes_nowhere_else_than_where_its_service_listens(yard: Graveyard) -> None:
    yard.bury(1, **{"rpc-dead-queue": "rpc.payments"})
    assert dead(yard, "replay").stdout == f"0 replayed to {yard.queue}, 1 of another queue\n"
    result = dead(yard, "replay", "--queue", "rpc.payments")
    assert result.exit_code == 3
    assert result.stderr == "error: Unroutable: there is no queue 'rpc.payments'\n"
    assert yard.ids(yard.dead) == ["m1"]


def test_what_dies_again_is_not_replayed_in_the_same_run(yard: Graveyard) -> None:
    server = Server(yard.url, service=yard.service)
    seen: list[int] = []

    @server.method
    def price(number: int) -> None:
        seen.append(number)
        raise ValueError(number)

    yard.bury(1)
    server.start()
    try:
        assert dead(yard, "replay").stdout == f"1 replayed to {yard.queue}\n"
        until(lambda: yard.depth(yard.dead) == 1)
    finally:
        server.stop()
    assert seen == [1]
    [(properties, _)] = yard.take(yard.dead)
    assert properties.message_id == "m1"
    assert properties.headers["rpc-dead-exception"] == "builtins.ValueError"


def test_killed_in_the_middle_nothing_is_lost_and_repeats_have_the_same_id(yard: Graveyard, tmp_path: Path) -> None:
    count = 400
    for number in range(count):
        yard.bury(number)
    process = subprocess.Popen(
        [sys.executable, "-m", "resilient_rpc.cli", "dead", "replay", yard.service, "--rate", "400"],
        env={**os.environ, "RESILIENT_RPC_URL": yard.url},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: yard.depth(yard.queue) >= 20, 30)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: yard.depth(yard.dead) + yard.depth(yard.queue) >= count)
    assert yard.depth(yard.dead) > 0
    assert dead(yard, "replay").exit_code == 0
    sent = yard.ids(yard.queue)
    assert set(sent) == {f"m{number}" for number in range(count)}
    assert len(sent) <= count + 1  # the one between its confirm and its ack
    assert yard.depth(yard.dead) == 0


def test_a_long_replay_tells_how_far_it_is(yard: Graveyard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "SAY_EVERY", 0.0)
    for number in range(2):
        yard.bury(number)
    result = dead(yard, "replay")
    assert result.stderr == "1 replayed, 1 of 2 seen\n2 replayed, 2 of 2 seen\n"


def test_a_queue_that_is_emptied_meanwhile_ends_the_command(yard: Graveyard, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = AmqpReader._set_up

    async def late(self: AmqpReader) -> None:
        await opened(self)
        self.waiting += 3  # somebody else was quicker

    monkeypatch.setattr(AmqpReader, "_set_up", late)
    yard.bury(1)
    assert f"{yard.dead}: 1 of 4 dead letters" in dead(yard, "list").stdout


def test_expired_messages_are_counted_where_there_is_a_queue_for_them(yard: Graveyard) -> None:
    yard.channel.basic_publish("", yard.expired, b"x")
    assert dead(yard, "list").stdout.endswith(f"{yard.expired}: 1 expired\n")
    yard.channel.queue_delete(yard.expired)
    assert dead(yard, "list").stdout.endswith(f"{yard.expired}: 0 expired\n")


def test_purge_deletes_what_it_counted(yard: Graveyard) -> None:
    for number in range(5):
        yard.bury(number, "failed" if number % 2 else "malformed")
    assert dead(yard, "purge", "--dry-run").stdout == f"5 of 5 would be deleted from {yard.dead}\n"
    declined = dead(yard, "purge", "--reason", "failed", input="n\n")
    assert declined.exit_code == 1
    assert "error: nothing was deleted" in declined.stderr
    assert dead(yard, "purge", "--reason", "failed").exit_code == 1  # nobody answers
    assert (
        dead(yard, "purge", "--reason", "failed", input="y\n").stdout.splitlines()[-1] == f"2 deleted from {yard.dead}"
    )
    assert dead(yard, "purge", "--limit", "1", "--yes").stdout == f"1 deleted from {yard.dead}\n"
    assert yard.ids(yard.dead) == ["m2", "m4"]
    assert dead(yard, "purge").stdout == f"0 deleted from {yard.dead}\n"


@pytest.mark.parametrize("command", ["list", "show", "replay", "purge"])
def test_a_service_that_nobody_ever_served(amqp_url: str, service: str, command: str) -> None:
    result = CliRunner().invoke(app, ["dead", command, service, "--url", amqp_url])
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: there is no queue 'rpc.{service}.dead'; a server of ")
