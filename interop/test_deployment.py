"""HAProxy and systemd read the samples of the page on deployment."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from interop.conftest import needs
from resilient_rpc import Client, Server
from tests.docs.blocks import DOCS, blocks_of
from tests.servers.handle import Broker
from tests.servers.ports import HOST, free_port, speaks_amqp, wait_until

SAMPLES = {block.title: block.body for block in blocks_of(DOCS / "deployment.md") if block.title}


@pytest.fixture
def proxied(private_broker: Broker, tmp_path: Path) -> Iterator[int]:
    """HAProxy as on the page: of its three nodes one runs."""
    listening, broker = free_port(), urlsplit(private_broker.url).port
    text = SAMPLES["haproxy.cfg"].replace("bind :5672", f"bind {HOST}:{listening}")
    for node, port in (("node1", free_port()), ("node2", broker), ("node3", free_port())):
        text = text.replace(f"{node}:5672", f"{HOST}:{port}")
    config = tmp_path / "haproxy.cfg"
    config.write_text(text)
    process = subprocess.Popen([needs("haproxy"), "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: speaks_amqp(listening), seconds=20, what="HAProxy ready")
        yield listening
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.timeout(120)
def test_calls_go_through_haproxy_and_survive_a_restart_of_the_node(
    proxied: int, private_broker: Broker, service: str
) -> None:
    url = f"amqp://guest:guest@{HOST}:{proxied}/"
    server = Server(url, service=service)

    @server.method(safety="read_only")
    def price(sku: str) -> float:
        return 9.5

    server.start()
    try:
        with Client(url, safety="read_only", timeout=40) as client:
            assert client.call(f"{service}.price", ["A1"]) == 9.5
            private_broker.restart()
            assert client.call(f"{service}.price", ["A1"]) == 9.5
    finally:
        server.stop()


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    command = tmp_path / "resilient-rpc"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit = tmp_path / "orders.service"
    unit.write_text(SAMPLES["orders.service"].replace("/opt/orders/.venv/bin/resilient-rpc", str(command)))
    done = subprocess.run(
        [needs("systemd-analyze"), "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "orders.service" not in done.stderr, done.stderr
