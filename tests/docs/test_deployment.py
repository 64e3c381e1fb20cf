"""The samples of the page on deployment, as far as they can be held against the code; servers are in tests/broker."""

from __future__ import annotations

import configparser
import re

import pytest

from resilient_rpc import Server
from resilient_rpc.policies import AttemptTimeout
from resilient_rpc.serving import draining
from resilient_rpc.transport.urls import AmqpUrl
from tests.docs.blocks import DOCS, blocks_of, rows_of
from tests.servers.tls import rabbitmq_conf

PAGE = DOCS / "deployment.md"
SAMPLES = {block.title: block.body for block in blocks_of(PAGE) if block.title}


def _default(name: str) -> float:
    return float(Server.__init__.__kwdefaults__[name])


def _seconds(row: str) -> float:
    (found,) = [cells[1] for cells in rows_of(PAGE, "Times, from the inside out") if cells[0].startswith(row)]
    return float(re.findall(r"\d+", found)[0])


def test_the_unit_leaves_a_server_the_time_to_drain() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(SAMPLES["orders.service"])
    service = unit["Service"]
    assert service["KillSignal"] == "SIGTERM"
    needed = _default("grace") + 2 * draining.LAST_WORDS
    assert float(service["TimeoutStopSec"]) > needed
    assert service["ExecStart"].endswith("resilient-rpc serve orders:server")
    assert _seconds("TimeoutStopSec") == float(service["TimeoutStopSec"])


def test_the_times_of_the_page_are_those_of_the_code_and_grow_outwards() -> None:
    assert _seconds("AttemptTimeout.limit") == AttemptTimeout().limit
    assert _seconds("the call's timeout") == 30.0
    assert _seconds("Server.grace") == _default("grace")
    times = [
        _seconds(row) for row in ("AttemptTimeout", "the call's", "Server.grace", "TimeoutStopSec", "timeout client")
    ]
    assert times == sorted(times)


def test_a_proxy_outlives_the_silence_between_heartbeats() -> None:
    heartbeat = AmqpUrl(hosts=(("h", 1),)).heartbeat
    for side in ("client", "server"):
        (limit,) = re.findall(rf"timeout {side} (\d+)s", SAMPLES["haproxy.cfg"])
        assert int(limit) > 2 * heartbeat


def test_the_container_runs_the_command_as_its_first_process_and_not_as_root() -> None:
    lines = SAMPLES["Containerfile"].splitlines()
    assert 'ENTRYPOINT ["resilient-rpc", "serve", "orders:server"]' in lines
    assert lines.index("USER orders") < len(lines) - 1


def test_the_configuration_of_rabbitmq_is_the_one_that_the_tests_run_with() -> None:
    shown = SAMPLES["rabbitmq.conf"].replace("listeners.tcp = none\n", "")
    assert shown == rabbitmq_conf("/etc/rabbitmq", "5671")


@pytest.mark.parametrize("title", ["rabbitmq-users.sh", "users.acl", "haproxy.cfg"])
def test_the_samples_that_other_tests_run_are_there(title: str) -> None:
    assert SAMPLES[title]
