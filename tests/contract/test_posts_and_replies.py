"""Casts, broadcasts and raw calls with each reply strategy, over every transport."""

from __future__ import annotations

from typing import Any

import pika
import pytest

from resilient_rpc import Server
from resilient_rpc.replies import Direct, Exclusive, Named, PerCall, Pool
from tests.colours import Colour
from tests.contract.sides import AmqpSide, Side
from tests.waiting import until

STRATEGIES = [Direct(), Exclusive(), Named(app="t"), Pool(size=3), PerCall()]


@pytest.mark.parametrize("replies", STRATEGIES, ids=lambda each: type(each).__name__)
def test_answers_come_wherever_replies_are_to_arrive(side: Side, colour: Colour, replies: Any) -> None:
    server = Server(side.url, service=side.service, name="one")
    ran: list[int] = []
    server.method(lambda n: n + 1, name="next")
    server.method(ran.append, name="note")
    server.raw(f"{side.service}_queue")(lambda body: body[::-1])
    server.start()
    client = colour.client(side.url, replies=replies)
    name = f"{side.service}.next"
    for n in range(5):
        assert colour.call(client, name, [n], timeout=10.0) == n + 1
        assert colour.do(client, "call_raw", f"{side.service}_queue", b"on", timeout=10.0) == b"no"
        assert colour.do(client, "broadcast", name, [n], timeout=10.0, expect=1) == [("one", n + 1)]
        colour.do(client, "cast", f"{side.service}.note", [n])
    until(lambda: ran == list(range(5)))
    stats = client.stats()
    assert (stats.completed, stats.pending, stats.unknown_replies) == (20, 0, 0)
    server.stop()
    if isinstance(side, AmqpSide):
        with pika.BlockingConnection(pika.URLParameters(side.url)) as connection:
            connection.channel().queue_delete(f"{side.service}_queue")
