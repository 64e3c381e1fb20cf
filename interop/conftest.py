"""Programs that no Python package brings: a test fails where its own is missing. Nothing is left out in silence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.interop import Page


def needs(program: str) -> str:
    """Its path; a failure where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"make interop needs {program}: install it, or leave its test out with PYTEST='-k ...'")
    return found


@pytest.fixture
def page(tmp_path: Path, amqp_url: str, service: str) -> Iterator[Page]:
    """The page on other languages."""
    found = Page(tmp_path, amqp_url=amqp_url, service=service)
    yield found
    found.clean()
