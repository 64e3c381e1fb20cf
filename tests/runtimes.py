"""The fixture `runtime`: a test of a policy or a chain that asks for it runs in both colours, in virtual time.

What it gives is `resilient_rpc.testing.Bench`, under the short name that the tests of this repository use.
"""

from __future__ import annotations

import pytest

from resilient_rpc.testing import VirtualClock
from resilient_rpc.testing.bench import AsyncioBench, Bench, BlockingBench

__all__ = ["AsyncioBench", "Bench", "BlockingBench", "clock", "runtime"]


@pytest.fixture
def clock(virtual_clock: VirtualClock) -> VirtualClock:
    """A virtual clock, closed after the test."""
    return virtual_clock


@pytest.fixture
def runtime(rpc_bench: Bench) -> Bench:
    """Both colours, one after the other."""
    return rpc_bench
