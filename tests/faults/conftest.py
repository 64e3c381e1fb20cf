"""Whom the rows of the fault matrix ask: servers in this process, stopped in the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.keyed import Shop
from tests.faults.plain import Desk


@pytest.fixture
def shop(service: str) -> Iterator[Shop]:
    """Servers of keyed calls."""
    with Shop(service) as made:
        yield made


@pytest.fixture
def desk(service: str) -> Iterator[Desk]:
    """Servers of plain calls."""
    with Desk(service) as made:
        yield made
