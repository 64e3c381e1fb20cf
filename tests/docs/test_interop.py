"""The Python programs of the page on other languages; those in JavaScript and Java are run by `make interop`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.interop import SAMPLES, Page


@pytest.fixture
def page(tmp_path: Path, amqp_url: str, service: str) -> Iterator[Page]:
    found = Page(tmp_path, amqp_url=amqp_url, service=service)
    yield found
    found.clean()


def test_a_client_that_has_pika_and_nothing_else_calls_our_server(page: Page) -> None:
    with page.our_server():
        assert page.run(sys.executable, str(page.write("rpc_client.py"))) == SAMPLES["Output"]


def test_a_server_that_has_pika_and_nothing_else_is_called_by_our_client(page: Page) -> None:
    with page.serving([sys.executable, str(page.write("rpc_server.py"))]):
        page.ask()


def test_the_client_of_the_tutorial_is_answered_in_bytes(page: Page) -> None:
    with page.our_server("fibonacci_service.py"):
        printed = page.run(sys.executable, str(page.write("fibonacci_client.py")))
    assert printed == SAMPLES["fibonacci_client.py prints"]


def test_the_server_of_the_tutorial_is_called_with_bytes(page: Page) -> None:
    with page.serving([sys.executable, str(page.write("fibonacci_server.py"))]):
        printed = page.run(sys.executable, str(page.write("fibonacci_ask.py")))
    assert printed == SAMPLES["fibonacci_ask.py prints"]


@pytest.mark.parametrize("title", ["rpc_client.py", "rpc_server.py", "fibonacci_client.py", "fibonacci_server.py"])
def test_the_other_side_imports_nothing_of_ours(title: str) -> None:
    imports = [node for node in ast.walk(ast.parse(SAMPLES[title])) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "resilient_rpc" not in ast.unparse(ast.Module(imports, []))


def test_every_language_has_both_sides() -> None:
    assert {"rpc_client.py", "rpc_server.py", "rpc_client.js", "rpc_server.js"} <= set(SAMPLES)
    assert {"RpcClient.java", "RpcServer.java"} <= set(SAMPLES)
