"""`publish`: an event to those who subscribe to it, and a number that says whether to try again."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_rpc import Context, Server
from tests.cli.conftest import Run
from tests.waiting import PATIENCE

Heard = queue.Queue[tuple[Any, ...]]


@pytest.fixture
def heard(service: str) -> Iterator[Heard]:
    """What the subscriber of the bus `memory://<service>` was told."""
    found: Heard = queue.Queue()
    server = Server(f"memory://{service}", service="billing")

    @server.on("orders.created")
    def created(ctx: Context, id: str = "none", qty: int = 1) -> None:  # noqa: A002 - the name on the wire
        found.put((id, qty, ctx.event_id))

    server.start()
    yield found
    server.stop()


def test_every_subscriber_has_it_when_the_command_ends(run: Run, service: str, heard: Heard) -> None:
    result = run("publish", "orders.created", '{"id": "o-1", "qty": 2}', "--key", "e-1", "--url", f"memory://{service}")
    assert (result.exit_code, result.output) == (0, "")
    assert heard.get(timeout=PATIENCE) == ("o-1", 2, "e-1")


def test_without_arguments_and_from_stdin(run: Run, service: str, heard: Heard) -> None:
    env = {"RESILIENT_RPC_URL": f"memory://{service}"}
    assert run("publish", "orders.created", env=env).exit_code == 0
    assert heard.get(timeout=PATIENCE)[:2] == ("none", 1)
    assert run("publish", "orders.created", "-", "--ttl", "60", env=env, input='["o-2"]').exit_code == 0
    assert heard.get(timeout=PATIENCE)[:2] == ("o-2", 1)


def test_an_event_that_nobody_subscribes_to_is_told(run: Run, service: str, heard: Heard) -> None:
    result = run("publish", "orders.deleted", "--url", f"memory://{service}")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: nobody subscribes to 'orders.deleted': it is in no queue\n"
    assert heard.empty()


def test_the_names_are_those_of_the_servers(run: Run, service: str, heard: Heard) -> None:
    url = f"memory://{service}"
    assert run("publish", "orders.created", "--environment", "prod", "--url", url).exit_code == 1
    assert heard.empty()


@pytest.mark.parametrize(
    "args",
    [
        ["orders.created", "{"],
        ["orders.created", "17"],
        ["orders.*"],
        ["orders.created", "--timeout", "-1"],
        ["a", "--ttl", "0"],
    ],
)
def test_wrong_usage_is_2(run: Run, service: str, args: list[str]) -> None:
    result = run("publish", *args, "--url", f"memory://{service}")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: ")


def test_without_a_broker_it_is_not_published_and_no_password_is_shown(run: Run) -> None:
    result = run("publish", "orders.created", "--url", "amqp://joe:sesame@127.0.0.1:1/", "--timeout", "0.5")
    assert result.exit_code == 3
    assert "sesame" not in result.output
