"""A handler that calls: what its own caller is told of the errors it met."""

from __future__ import annotations

import threading

import pytest

from resilient_rpc import ApplicationError, Certainty, Client, RpcError, Server
from resilient_rpc.errors import Refused


def test_an_inner_error_is_never_taken_for_the_fate_of_the_outer_call(url: str, service: str) -> None:
    effects: list[int] = []
    server = Server(url, service=service)
    with Client(url) as inner:

        @server.method
        def pay(missing: str) -> None:
            effects.append(1)
            inner.call(missing, timeout=5.0)

        @server.method
        def refuse() -> None:
            raise Refused("not for you")

        server.start()
        with Client(url) as client:
            for missing, kind in ((f"{service}_none.charge", "Unroutable"), (f"{service}.nothing", "method_not_found")):
                with pytest.raises(ApplicationError) as caught:
                    client.call(f"{service}.pay", [missing])
                assert caught.value.certainty is Certainty.EXECUTED
                assert not caught.value.retryable
                assert caught.value.type == kind
            with pytest.raises(Refused) as meant:
                client.call(f"{service}.refuse")
            assert meant.value.certainty is Certainty.NOT_EXECUTED
        server.stop()
    assert effects == [1, 1]


def test_a_call_in_a_handler_ends_by_the_deadline_of_the_outer_one(url: str, service: str) -> None:
    left = threading.Event()
    seen: list[RpcError] = []
    server = Server(url, service=service)
    with Client(url) as inner:

        @server.method
        def outer() -> None:
            try:
                inner.call(f"{service}.stuck", timeout=60.0)
            except RpcError as error:
                seen.append(error)
            finally:
                left.set()

        @server.method
        def stuck() -> None:
            left.wait(30.0)

        server.start()
        with Client(url) as client:
            for each in (inner, client):
                each.call(f"{service}.rpc.ping")  # it is connected
            with pytest.raises(TimeoutError):
                client.call(f"{service}.outer", timeout=1.0)
        assert left.wait(5.0)
        server.stop()
    assert [type(error).__name__ for error in seen] == ["DeadlineExceeded"]
