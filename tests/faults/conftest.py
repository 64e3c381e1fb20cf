"""One RabbitMQ for all tests of this folder that leave it running again: each start of one costs some seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import choose
from tests.servers.handle import Broker


@pytest.fixture(scope="package")
def module_broker() -> Iterator[Broker]:
    """A RabbitMQ that may be killed, frozen and reconfigured, if it is as it was when the test ends."""
    with choose.broker(private=True) as server:
        yield server
