"""Fixtures for tests of services and policies; pytest finds them by itself where this package is installed.

Loaded in every run of pytest: what a fixture needs is imported when it is asked for.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from resilient_rpc.testing.bench import Bench
    from resilient_rpc.testing.clock import VirtualClock


@pytest.fixture
def virtual_clock() -> Iterator[VirtualClock]:
    """A `VirtualClock`, closed after the test."""
    from resilient_rpc.testing.clock import VirtualClock  # noqa: PLC0415 - see above

    with VirtualClock() as clock:
        yield clock


@pytest.fixture(params=["blocking", "asyncio"])
def rpc_bench(request: pytest.FixtureRequest, virtual_clock: VirtualClock) -> Iterator[Bench]:
    """A `Bench`: the test runs twice, for blocking and for asyncio callers, in the time of `virtual_clock`."""
    from resilient_rpc.testing.bench import AsyncioBench, BlockingBench  # noqa: PLC0415 - see above

    if request.param == "blocking":
        yield BlockingBench(virtual_clock)
    else:
        with asyncio.Runner(loop_factory=virtual_clock.new_loop) as runner:
            yield AsyncioBench(virtual_clock, runner)


@pytest.fixture
def memory_url() -> Iterator[str]:
    """The URL of a bus in memory that no other test uses; it is empty after the test."""
    from resilient_rpc.transport.memory import Bus  # noqa: PLC0415 - see above

    bus = Bus.named(f"test-{secrets.token_hex(8)}")  # held: it would be forgotten whenever nobody is connected
    yield f"memory://{bus.name}"
    bus.reset()
