"""Java calls our server, and is called. The client library is found as Debian installs it, or by AMQP_CLIENT_JARS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from interop.conftest import needs
from tests.docs.interop import Page

DEBIAN = "/usr/share/java/amqp-client.jar:/usr/share/java/slf4j-api.jar:/usr/share/java/slf4j-nop.jar"


def compiled(page: Page, name: str) -> list[str]:
    """The command that runs a program of the page."""
    jars = [jar for jar in os.environ.get("AMQP_CLIENT_JARS", DEBIAN).split(":") if Path(jar).is_file()]
    if not jars:
        pytest.fail("make interop needs amqp-client for Java: apt-get install librabbitmq-client-java libslf4j-java")
    path = ":".join([*jars, str(page.folder)])
    page.run(needs("javac"), "-cp", path, str(page.write(f"{name}.java")))
    return [needs("java"), "-cp", path, name]


def test_its_client_calls_our_server(page: Page) -> None:
    with page.our_server():
        assert page.run(*compiled(page, "RpcClient")) == '{"jsonrpc":"2.0","result":19.0,"id":1}\n'


def test_its_server_is_called_by_our_client(page: Page) -> None:
    with page.serving(compiled(page, "RpcServer")):
        page.ask()
