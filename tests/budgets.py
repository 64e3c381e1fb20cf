"""The retry budget that a process shares begins anew for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilient_rpc.policies.budget import common_budget


@pytest.fixture(autouse=True)
def _full_budget() -> Iterator[None]:
    """No test is refused a repeat because of those before it."""
    common_budget().clear()
    yield
    common_budget().clear()
