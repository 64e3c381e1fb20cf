"""JavaScript calls our server, and is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.conftest import needs
from tests.docs.interop import SAMPLES, Page

AMQPLIB = "amqplib@2"


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    install = [needs("npm"), "install", "--no-audit", "--no-fund", "--silent", AMQPLIB]
    Page(folder, amqp_url="", service="").run(*install)
    return folder / "node_modules"


def command(page: Page, modules: Path, title: str) -> list[str]:
    link = page.folder / "node_modules"
    if not link.exists():
        link.symlink_to(modules)
    return [needs("node"), str(page.write(title))]


def test_its_client_calls_our_server(page: Page, modules: Path) -> None:
    with page.our_server():
        assert page.run(*command(page, modules, "rpc_client.js")) == SAMPLES["Output"]


def test_its_server_is_called_by_our_client(page: Page, modules: Path) -> None:
    with page.serving(command(page, modules, "rpc_server.js")):
        page.ask()
