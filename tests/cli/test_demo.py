"""`demo` on memory://: what it prints, what it checks, and how it ends when something is wrong."""

from __future__ import annotations

import asyncio
import re
import threading
import time

import pytest

from resilient_rpc.cli import demo as demo_command
from resilient_rpc.cli import demo_servers, demo_trouble
from resilient_rpc.cli.demo_servers import DemoError, ServerProcess
from resilient_rpc.cli.demo_service import SERVICE
from resilient_rpc.cli.demo_trouble import Made, Phase, Side
from resilient_rpc.client import Client
from tests.cli.conftest import Run


@pytest.mark.slow
def test_every_call_ends_and_the_counts_add_up(run: Run, service: str) -> None:
    result = run("demo", "--calls", "400", "--threads", "3", "--phase", "0", "--broker", f"memory://{service}")
    assert result.exit_code == 0, result.output
    assert re.search(r"^servers  2 in this process$", result.stdout, re.MULTILINE)
    assert re.search(r"^price +read_only +200 +200 +0$", result.stdout, re.MULTILINE)
    assert re.search(r"^create +unsafe +80 +80 +0$", result.stdout, re.MULTILINE)
    assert re.search(r"^ship +idempotent +80 +80 +0$", result.stdout, re.MULTILINE)
    assert re.search(r"^pay +unsafe +40 +27 +13$", result.stdout, re.MULTILINE)  # the card of each third is declined
    assert re.search(r"^all +400 +387 +13$", result.stdout, re.MULTILINE)
    assert re.search(r"^Client, 3 threads( +[\d,.]+){5}$", result.stdout, re.MULTILINE)
    assert re.search(r"^AsyncClient, 64 in flight( +[\d,.]+){5}$", result.stdout, re.MULTILINE)
    assert re.search(r"^CardDeclined +executed +13 +order \d+: the card was declined *$", result.stdout, re.MULTILINE)
    assert "the counts add up: 400 calls = 387 results + 13 errors\n" in result.stdout
    assert "every result is its call's own: 387 of 387\n" in result.stdout
    assert result.stdout.endswith("every call ended by its deadline: 400 of 400\n")


@pytest.mark.slow
def test_piped_there_is_nothing_that_only_a_terminal_understands(run: Run, service: str) -> None:
    result = run("demo", "--seconds", "1.3", "--phase", "0", "--broker", f"memory://{service}")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\r" not in result.stdout
    assert re.search(r"^[\d,]+ calls, [\d,]+ calls/s, [\d,]+ errors$", result.stdout, re.MULTILINE)


@pytest.mark.slow
def test_on_a_terminal_a_line_moves(run: Run, service: str) -> None:
    result = run(
        "demo",
        "--calls",
        "400",
        "--phase",
        "0",
        "--broker",
        f"memory://{service}",
        env={"FORCE_COLOR": "1", "TERM": "xterm"},
    )
    assert result.exit_code == 0
    assert "400 of 400 calls" in result.stdout
    assert "\x1b[2K" in result.stdout  # the line is written anew


@pytest.mark.slow
def test_it_ends_by_calls_or_by_time_whatever_comes_first(run: Run, service: str) -> None:
    began = time.monotonic()
    result = run("demo", "--calls", "100000000", "--seconds", "0.5", "--phase", "0", "--broker", f"memory://{service}")
    assert result.exit_code == 0
    assert time.monotonic() - began < 10
    assert "calls    100,000,000, or as many as begin within 0.5 s, each with a deadline of 5 s\n" in result.stdout


@pytest.mark.slow
def test_gives_up_when_nothing_ends(run: Run, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(demo_command, "STUCK_AFTER", 0.5)
    monkeypatch.setattr(Client, "call", lambda *_, **__: stuck.wait(20))
    result = run("demo", "--calls", "200", "--threads", "2", "--phase", "0", "--broker", f"memory://{service}")
    stuck.set()
    assert result.exit_code == 1
    assert "no call ended in the last 0.5 s\n" in result.stdout
    assert "the counts do not add up: 200 calls != " in result.stdout
    assert re.search(r"every call ended by its deadline: 198 of 200\n$", result.stdout)


@pytest.mark.slow
def test_then_a_service_gets_into_trouble_with_and_without_policies(run: Run, service: str) -> None:
    result = run("demo", "--calls", "10", "--phase", "0.5", "--broker", f"memory://{service}")
    assert result.exit_code == 0, result.output
    assert "chain    none: no policies\n" in result.stdout
    assert "chain    default: Retry → CircuitBreaker → AttemptTimeout(repeatable_only=True)\n" in result.stdout
    tuned_chain = (
        r"chain    tuned: Retry\(attempts=4, base=0\.02, budget=RetryBudget\(ratio=1\.0\)\) → CircuitBreaker\(.*\n"
    )
    assert re.search(tuned_chain, result.stdout)
    phases = ["healthy", "half of it fails", "dead", "back again", "a fifth is stuck"]
    assert re.findall(r"^phase    (\S.*)$", result.stdout, re.MULTILINE) == phases
    assert re.search(r"^healthy +none +\d+ +100\.0% +1\.00 +\d+ *$", result.stdout, re.MULTILINE)
    row = r"^half of it fails +none +\d+ +([\d.]+)% +1\.00 +\d+ *$\n^ +default .*$\n^ +tuned +\d+ +([\d.]+)% +([\d.]+) "
    without, tuned, sent = map(float, re.search(row, result.stdout, re.MULTILINE).groups())  # type: ignore[union-attr]
    assert without < tuned
    assert 1 < sent <= 2.1  # the budget: a repeat for each call, and one a second
    assert len(re.findall(r"10 results in a row again, chain \w+: [\d.]+ s after", result.stdout)) == 3
    assert re.search(r"every call ended by its deadline: ([\d,]+) of \1\n$", result.stdout)


class Supply:
    def kill(self) -> None:
        pass

    start = kill


def a_side(name: str) -> Side:
    side = Side(name, "memory://nobody", "nobody", [], Supply())
    side.begin()
    return side


def test_the_service_is_called_until_all_have_recovered_or_for_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_trouble, "PHASES", (Phase(name="back", event="start", until_recovered=True),))
    monkeypatch.setattr(demo_trouble, "AWAITED", 1.0)
    monkeypatch.setattr(demo_trouble, "LOOK", 0.05)
    begun: list[float] = []

    def answer_from(side: Side, seconds: float) -> None:
        async def call(number: int) -> None:
            now = time.monotonic()
            error = None if now >= begun[0] + seconds else "CircuitOpen"
            side.phases[-1].calls.append(Made(began=now, ended=now, error=error))

        monkeypatch.setattr(side, "call", call)

    async def lead(seconds: float) -> float:
        begun[:] = [time.monotonic()]
        first, second = a_side("first"), a_side("second")
        answer_from(first, 0.0)
        answer_from(second, seconds)
        await demo_trouble.run((first, second), 0.1, lambda _: None)
        return time.monotonic() - begun[0]

    assert 0.4 <= asyncio.run(lead(0.4)) < 1.0, "until the last one has"
    assert asyncio.run(lead(60.0)) >= 1.1, "but not for ever"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--broker", "http://x"], "error: a URL begins with amqp://, amqps:// or memory://"),
        (["--broker", "amqp://localhost", "--servers", "1"], "error: --servers 1 leaves nobody after the kill"),
        (["--calls", "-1"], "Usage: "),
        (["--keys", "0"], "Usage: "),
        (["--service", "a.b"], "error: service name 'a.b'"),
    ],
)
def test_wrong_usage_is_2(run: Run, args: list[str], said: str) -> None:
    result = run("demo", *args)
    assert result.exit_code == 2
    assert result.stderr.startswith(said)


@pytest.mark.parametrize("hosts", ["127.0.0.1:1", "127.0.0.1:1,127.0.0.1:2"])
def test_without_a_broker_it_says_so_and_shows_no_password(run: Run, hosts: str) -> None:
    result = run("demo", "--broker", f"amqp://joe:sesame@{hosts}/")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: no connection to amqp://joe:***@{hosts}/%2F: ")
    assert result.stderr.count("\n") == 1
    assert "sesame" not in result.output


@pytest.mark.slow
def test_a_server_process_that_cannot_begin_says_why() -> None:
    process = ServerProcess("http://x", SERVICE)
    try:
        with pytest.raises(DemoError, match=r"did not begin: error: .*demo_service:server\(\) failed: .* a URL begins"):
            process.wait_ready()
        process._process.wait(10)
        assert process.crashed() == f"server process {process.pid} ended with 2: {process.last_words()}"
    finally:
        process.stop()


@pytest.mark.slow
def test_a_server_process_that_is_not_ready_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_servers, "READY_WITHIN", 0.0)
    process = ServerProcess("amqp://127.0.0.1:1/", SERVICE)
    try:
        with pytest.raises(DemoError, match="did not begin"):
            process.wait_ready()
    finally:
        process.stop()
