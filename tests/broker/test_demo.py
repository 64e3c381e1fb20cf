"""The commands on a real RabbitMQ: a demo that loses a server, and a server that is asked to stop."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

# The demo says what share of its calls was answered in time.
pytestmark = [pytest.mark.slow, pytest.mark.serial]
PROGRAM = [sys.executable, "-m", "resilient_rpc.cli"]
ROW = re.compile(r"^( *[a-z][^\d\n]*?) {2,}(\d+) {2,}(\d+)$", re.MULTILINE)
SERVER = """
import os, time
from resilient_rpc import Server

server = Server(os.environ["RESILIENT_RPC_URL"], service=os.environ["SERVICE"])

@server.method
def slow(path: str) -> str:
    open(path, "w").close()
    time.sleep(1.0)
    return "done"
"""


@pytest.fixture
def run(amqp_url: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *args: subprocess.run(
        [*PROGRAM, *args],
        env={**os.environ, "RESILIENT_RPC_URL": amqp_url, "COLUMNS": "120", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )


def test_with_a_server_killed_every_call_ends(
    run: Callable[..., subprocess.CompletedProcess[str]], amqp_url: str, service: str
) -> None:
    done = run("demo", "--broker", amqp_url, "--calls", "1500", "--service", service, "--phase", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^servers  3 in processes of their own$", done.stdout, re.MULTILINE)
    assert re.search(
        r"^killed   server process \d+ with SIGKILL, [\d,]+ calls having ended$", done.stdout, re.MULTILINE
    )
    added = re.search(r"the counts add up: 1,500 calls = ([\d,]+) results \+ (\d+) errors", done.stdout)
    assert added
    assert int(added[1].replace(",", "")) + int(added[2]) == 1500
    assert done.stdout.endswith("every call ended by its deadline: 1,500 of 1,500\n")
    # Whatever the kill cost says what it is; a repeatable call costs nothing, as another server runs it.
    errors = dict(re.findall(r"^(\w+) +(executed|unknown|not_executed) +\d", done.stdout, re.MULTILINE))
    assert errors.pop("CardDeclined") == "executed"
    assert errors in ({}, {"Interrupted": "unknown"})
    assert re.search(r"^price +read_only +750 +750 +0$", done.stdout, re.MULTILINE)
    assert re.search(r"^ship +idempotent +300 +300 +0$", done.stdout, re.MULTILINE)


def test_without_a_kill_nothing_is_lost(
    run: Callable[..., subprocess.CompletedProcess[str]], amqp_url: str, service: str
) -> None:
    done = run(
        "demo",
        "--broker",
        amqp_url,
        "--calls",
        "300",
        "--service",
        service,
        "--servers",
        "1",
        "--no-kill",
        "--phase",
        "0",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed" not in done.stdout
    assert "the counts add up: 300 calls = 290 results + 10 errors\n" in done.stdout


def test_a_service_in_trouble_is_called_with_and_without_policies(
    run: Callable[..., subprocess.CompletedProcess[str]], amqp_url: str, service: str
) -> None:
    done = run("demo", "--broker", amqp_url, "--calls", "30", "--service", service, "--phase", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout[done.stdout.index("With and without policies") :]
    rows = re.findall(r"(none|default|tuned) +(\d+) +([\d.]+)% +([\d.]+) +([\d,]+)", table)
    assert [row[0] for row in rows] == ["none", "default", "tuned"] * 5
    shares = {(place // 3, row[0]): float(row[2]) for place, row in enumerate(rows)}
    assert shares[0, "none"] > 90
    assert shares[1, "tuned"] > shares[1, "none"]
    # The server was killed, and its calls ended by their deadline; those of the last second waited for the new one.
    assert shares[2, "none"] < 50
    [(ended, calls)] = re.findall(r"every call ended by its deadline: ([\d,]+) of ([\d,]+)\n$", table)
    assert ended == calls
    assert int(calls.replace(",", "")) >= 2250  # the last phase lasts until every chain has results again
    assert len(re.findall(r"10 results in a row again, chain \w+: [\d.]+ s after the server was back", table)) == 3


def test_wrong_credentials_are_said_at_once_and_not_shown(
    run: Callable[..., subprocess.CompletedProcess[str]], amqp_url: str
) -> None:
    done = run("demo", "--broker", re.sub(r"//.*@", "//joe:sesame@", amqp_url))
    assert done.returncode == 2
    assert "ACCESS_REFUSED" in done.stderr
    assert "sesame" not in done.stdout + done.stderr


@pytest.fixture
def server(tmp_path: Path, amqp_url: str, service: str) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "app.py").write_text(SERVER)
    process = subprocess.Popen(
        [*PROGRAM, "serve", "app:server"],
        cwd=tmp_path,
        env={**os.environ, "RESILIENT_RPC_URL": amqp_url, "SERVICE": service},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_a_server_that_is_told_to_stop_finishes_what_it_has_begun(
    server: subprocess.Popen[str], amqp_url: str, service: str, tmp_path: Path
) -> None:
    assert server.stdout is not None
    assert server.stdout.readline() == f"ready: {service}\n"
    begun = tmp_path / "begun"
    call = subprocess.Popen(
        [*PROGRAM, "call", f"{service}.slow", f'["{begun}"]'],
        env={**os.environ, "RESILIENT_RPC_URL": amqp_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not begun.exists():
        assert call.poll() is None, call.communicate()
    server.terminate()
    assert call.communicate(timeout=20) == ('"done"\n', "")
    assert call.returncode == 0
    assert server.wait(timeout=20) == 0


def test_each_key_takes_effect_once_while_servers_are_killed_and_nothing_is_left_in_redis(
    run: Callable[..., subprocess.CompletedProcess[str]],
    amqp_url: str,
    redis_url: str,
    service: str,
    tmp_path: Path,
) -> None:
    parts = ["--calls", "0", "--phase", "0", "--keys", "60"]
    done = run("demo", "--broker", amqp_url, "--redis", redis_url, "--service", service, *parts)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {name.strip(): (int(a), int(b)) for name, a, b in ROW.findall(done.stdout)}
    assert rows["keys"] == (60, 60)
    assert rows["calls"] == rows["answered"] == (100, 100)
    assert rows["servers killed with SIGKILL"][0] >= 1
    once, often = rows["keys that took effect once, by the ledger"], rows["more than once"]
    assert rows["never"] == (0, 0)
    assert once[0] + often[0] == once[1] + often[1] == 60
    assert often[1] >= 40  # what is called twice without a key is done twice
    assert rows["keys with different answers"] == (0, rows["keys with different answers"][1])
    window = re.search(r"\((\d+) of them: the server died", done.stdout)
    assert often[0] == (int(window[1]) if window else 0)
    assert f"with keys, {once[0]} of 60 took effect once" in done.stdout
    with redis.Redis.from_url(redis_url) as client:
        assert list(client.scan_iter("rpc-demo-*")) == []
    assert not list(tmp_path.glob("resilient-rpc-demo-*"))


def test_a_redis_that_cannot_be_reached_is_said_before_anything_begins(
    run: Callable[..., subprocess.CompletedProcess[str]], amqp_url: str, service: str
) -> None:
    done = run("demo", "--broker", amqp_url, "--redis", "redis://:sesame@127.0.0.1:1/0", "--service", service)
    assert done.returncode == 3
    assert re.fullmatch(r"error: no use of the Redis at 127\.0\.0\.1:1: .*refused.*\n", done.stderr)
    assert "sesame" not in done.stdout
    assert "servers" not in done.stdout
