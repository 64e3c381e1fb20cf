"""A queue that nobody consumes: ``when_no_server="fail"``, over every transport."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import Any

import pytest

from resilient_rpc import Certainty, DeadlineExceeded, NoServer, Server
from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policies import Retry
from resilient_rpc.transport import vacancy
from resilient_rpc.transport.vacancy import Vacancies
from tests.colours import Colour
from tests.contract.sessions import consuming, declare, publishing
from tests.contract.sides import Side
from tests.waiting import until

FASTER = 4


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker is asked so much sooner who consumes a queue."""
    monkeypatch.setattr(vacancy, "QUIET", vacancy.QUIET / FASTER)
    monkeypatch.setattr(vacancy, "SELDOM", vacancy.SELDOM / FASTER)


SOON = pytest.mark.usefixtures("soon")


def serve(side: Side, gate: threading.Event | None = None) -> Server:
    server = Server(side.url, service=side.service)

    @server.method
    def wait() -> str:
        return "waited" if gate is None or gate.wait(10) else "never"

    server.start()
    return server


def test_a_call_fails_soon_and_says_that_it_may_still_be_executed(side: Side, colour: Colour) -> None:
    asyncio.run(declare(side))
    client = colour.client(side.url, when_no_server="fail", policies=[])
    begin = time.monotonic()
    with pytest.raises(NoServer, match=side.queue) as caught:
        colour.call(client, f"{side.service}.wait", timeout=20.0)
    assert 0.5 <= time.monotonic() - begin < 5.0
    assert caught.value.certainty is Certainty.UNKNOWN
    assert (caught.value.retryable, caught.value.counted) == (True, True)


@SOON
def test_all_that_wait_fail_and_what_comes_later_too(side: Side, colour: Colour) -> None:
    asyncio.run(declare(side))
    client = colour.client(side.url, when_no_server="fail", policies=[])
    calls: list[Any] = [lambda: colour.call(client, f"{side.service}.wait", timeout=20.0)] * 20
    for _ in range(2):
        found = colour.together(*calls)
        assert {type(error) for error in found} == {NoServer}
    assert client.stats().pending == 0


@SOON
def test_by_default_it_waits(side: Side, colour: Colour) -> None:
    asyncio.run(declare(side))
    client = colour.client(side.url, policies=[])
    with pytest.raises(DeadlineExceeded):
        colour.call(client, f"{side.service}.wait", timeout=0.9 / FASTER)


@SOON
def test_a_server_that_is_slow_is_waited_for(side: Side, colour: Colour) -> None:
    gate = threading.Event()
    server = serve(side, gate)
    threading.Timer(1.7 / FASTER, gate.set).start()
    client = colour.client(side.url, when_no_server="fail", policies=[])
    assert colour.call(client, f"{side.service}.wait", timeout=20.0) == "waited"
    server.stop()


@SOON
def test_a_server_that_stops_still_answers_what_it_has(side: Side, colour: Colour) -> None:
    gate = threading.Event()
    server = serve(side, gate)
    client = colour.client(side.url, when_no_server="fail", policies=[])
    stopping = threading.Thread(target=server.stop)
    answers: list[Any] = []

    def stop_then_open() -> None:
        until(lambda: server.health()["running"] == 1)
        stopping.start()
        time.sleep(1.2 / FASTER)
        gate.set()

    helper = threading.Thread(target=stop_then_open)
    helper.start()
    answers.append(colour.call(client, f"{side.service}.wait", timeout=20.0))
    helper.join()
    stopping.join()
    assert answers == ["waited"]


@SOON
def test_a_retry_repeats_what_may_be_repeated(side: Side, colour: Colour) -> None:
    asyncio.run(declare(side))
    client = colour.client(side.url, when_no_server="fail", policies=[Retry(attempts=2, base=0.001)])
    with pytest.raises(NoServer) as caught:
        colour.call(client, f"{side.service}.wait", timeout=20.0, safety="read_only")
    assert caught.value.attempts == 2

    async def count() -> int:
        async with publishing(side) as (publisher, _):
            state = await publisher.inspect(side.queue)
            assert state is not None
            return state.messages

    assert asyncio.run(count()) == 2


@SOON
def test_nobody_is_asked_more_than_once_a_second_for_a_queue(
    side: Side, colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the link remembers: a consumer that takes everything and answers nothing is asked about in vain."""
    asked: list[float] = []
    ask = Vacancies._ask

    async def counted(self: Vacancies, *args: Any) -> None:
        asked.append(time.monotonic())
        await ask(self, *args)

    ready, stop = threading.Event(), threading.Event()

    async def mute() -> None:
        async with consuming(side):
            ready.set()
            await asyncio.to_thread(stop.wait, 10)

    thread = threading.Thread(target=lambda: asyncio.run(mute()))
    thread.start()
    ready.wait(10)
    client = colour.client(side.url, when_no_server="fail", policies=[])
    monkeypatch.setattr(Vacancies, "_ask", counted)
    with pytest.raises(DeadlineExceeded):
        colour.call(client, f"{side.service}.wait", timeout=3.2 / FASTER)
    stop.set()
    thread.join()
    assert vacancy.SELDOM * FASTER == 1.0
    assert 2 <= len(asked) <= 4
    assert all(later - sooner >= 0.99 * vacancy.SELDOM for sooner, later in itertools.pairwise(asked))


@pytest.mark.parametrize("value", ["never", "", None, True, ["fail"]])
def test_the_setting_is_checked(value: Any, colour: Colour) -> None:
    with pytest.raises(ConfigurationError, match="when_no_server="):
        colour.client("memory://nobody", when_no_server=value)
