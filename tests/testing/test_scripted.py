"""The scripted peer, as a handler and as a service."""

from __future__ import annotations

import gc

import pytest

from resilient_rpc import (
    ApplicationError,
    Call,
    Client,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    NotConnected,
    Reply,
)
from resilient_rpc.chain import compose
from resilient_rpc.errors import Overloaded
from resilient_rpc.policies import AttemptTimeout
from resilient_rpc.testing import Bench, ScriptedPeer, answer, drop, fail, hang


class TestAsAHandler:
    def test_it_does_one_step_for_each_call_and_the_last_for_ever(self, rpc_bench: Bench) -> None:
        peer = ScriptedPeer(answer(1), answer(2), answer(3))
        assert [rpc_bench.call(peer).result for _ in range(5)] == [1, 2, 3, 3, 3]
        assert len(peer.calls) == 5

    def test_it_keeps_the_calls_that_came(self, rpc_bench: Bench) -> None:
        peer = ScriptedPeer()
        rpc_bench.call(peer, "orders.price", params={"sku": "A1"}, attempt=3)
        (call,) = peer.calls
        assert (call.method, call.params, call.attempt) == ("orders.price", {"sku": "A1"}, 3)

    def test_without_a_script_it_answers_none(self, rpc_bench: Bench) -> None:
        assert rpc_bench.call(ScriptedPeer()).result is None

    def test_values_answer_and_errors_fail(self, rpc_bench: Bench) -> None:
        peer = ScriptedPeer({"price": 9.5}, NotConnected("nobody there"))
        assert rpc_bench.call(peer, attempt=2).attempts == 2
        with pytest.raises(NotConnected, match="nobody there"):
            rpc_bench.call(peer)

    def test_an_answer_takes_its_time(self, rpc_bench: Bench) -> None:
        rpc_bench.call(ScriptedPeer(answer(1, after=3.0)))
        assert rpc_bench.passed == 3.0

    def test_an_answer_may_depend_on_the_call(self, rpc_bench: Bench) -> None:
        peer = ScriptedPeer(answer(lambda call: call.params["n"] * 2))
        assert rpc_bench.call(peer, params={"n": 21}).result == 42

    def test_a_reply_is_given_as_a_copy(self, rpc_bench: Bench) -> None:
        reply = Reply(result=1, replayed=True)
        found = rpc_bench.call(ScriptedPeer(reply))
        assert found.replayed
        assert found is not reply

    def test_every_failure_is_an_error_of_its_own(self, rpc_bench: Bench) -> None:
        error = DeadlineExceeded("too late")
        handler = compose([AttemptTimeout(limit=1.0)], ScriptedPeer(fail(error)))
        with pytest.raises(DeadlineExceeded) as caught:
            rpc_bench.call(handler)
        assert caught.value.retryable
        assert not error.retryable
        assert error.__traceback__ is None

    @pytest.mark.parametrize("step", [hang(), answer(1, after=20.0), fail(NotConnected(), after=20.0), drop(after=9)])
    def test_it_ends_at_the_deadline(self, rpc_bench: Bench, step: object) -> None:
        with pytest.raises(DeadlineExceeded) as caught:
            rpc_bench.call(ScriptedPeer(step), timeout=9.0)
        assert rpc_bench.passed == 9.0
        assert caught.value.certainty == "unknown"

    def test_a_call_without_time_left_waits_for_nothing(self, rpc_bench: Bench) -> None:
        with pytest.raises(DeadlineExceeded):
            rpc_bench.call(ScriptedPeer(hang()), timeout=-5.0)
        assert rpc_bench.passed == 0

    def test_a_dropped_connection_says_that_nobody_knows(self, rpc_bench: Bench) -> None:
        with pytest.raises(ConnectionLost) as caught:
            rpc_bench.call(ScriptedPeer(drop(after=2.0)))
        assert (rpc_bench.passed, caught.value.certainty) == (2.0, "unknown")

    def test_many_may_call_at_once(self, rpc_bench: Bench) -> None:
        peer = ScriptedPeer(*[answer(n, after=1.0) for n in range(50)])
        replies = rpc_bench.together(*[lambda: peer(rpc_bench.make())] * 50)
        assert sorted(reply.result for reply in replies) == list(range(50))
        assert rpc_bench.passed == 1.0

    def test_wrong_steps_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="not 'no error'"):
            fail("no error")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="after must be at least 0"):
            answer(1, after=-1)


class TestAsAService:
    def test_it_answers_clients(self, memory_url: str) -> None:
        peer = ScriptedPeer(answer(lambda call: [call.method, dict(call.params)]), answer("second"))
        with peer.serving(memory_url, "orders.price", "orders.create"), Client(memory_url) as client:
            assert client.call("orders.create", {"sku": "A1"}, tags={"tenant": "a"}) == ["orders.create", {"sku": "A1"}]
            assert client.call("orders.price", ["A1", 2]) == "second"
        assert [dict(call.tags) for call in peer.calls] == [{"tenant": "a"}, {}]
        assert list(peer.calls[1].params) == ["A1", 2]

    def test_it_fails(self, memory_url: str) -> None:
        peer = ScriptedPeer(Overloaded("busy", retry_after=2.0), ApplicationError("sold out", type="sold_out"))
        with peer.serving(memory_url, "orders.price"), Client(memory_url, policies=[]) as client:
            with pytest.raises(Overloaded) as overloaded:
                client.call("orders.price")
            assert overloaded.value.retry_after == 2.0
            with pytest.raises(ApplicationError, match="sold out"):
                client.call("orders.price")

    def test_it_hangs_until_the_deadline(self, memory_url: str) -> None:
        with ScriptedPeer(hang()).serving(memory_url, "orders.price"), Client(memory_url) as client:
            with pytest.raises(DeadlineExceeded) as caught:
                client.call("orders.price", timeout=0.1)
            assert caught.value.certainty == "unknown"

    def test_it_drops_the_connections_of_clients(self, memory_url: str) -> None:
        peer = ScriptedPeer(drop(), answer("again"))
        with peer.serving(memory_url, "orders.price"), Client(memory_url) as client:
            with pytest.raises(ConnectionLost) as caught:
                client.call("orders.price", timeout=5.0)
            assert caught.value.certainty == "unknown"
            assert client.call("orders.price", timeout=5.0) == "again"

    def test_what_no_server_can_do_is_refused(self, memory_url: str) -> None:
        with (
            pytest.raises(ConfigurationError, match=r"no server can make a client see NotConnected"),
            ScriptedPeer(NotConnected("x")).serving(memory_url, "orders.price"),
        ):
            pass

    @pytest.mark.parametrize("methods", [(), ("orders.price", "audit.write")])
    def test_it_is_one_service(self, memory_url: str, methods: tuple[str, ...]) -> None:
        with (
            pytest.raises(ConfigurationError, match="name the methods of one service"),
            ScriptedPeer().serving(memory_url, *methods),
        ):
            pass

    def test_it_serves_in_memory_only(self) -> None:
        with (
            pytest.raises(ConfigurationError, match="not at amqp://"),
            ScriptedPeer().serving("amqp://localhost/", "orders.price"),
        ):
            pass

    def test_nothing_of_it_stays(self, memory_url: str) -> None:
        with ScriptedPeer().serving(memory_url, "orders.price"):
            pass
        gc.collect()
        with pytest.raises(DeadlineExceeded), Client(memory_url) as client:
            client.call("orders.price", timeout=0.1)


def test_a_call_can_be_read_after_it_has_ended(rpc_bench: Bench) -> None:
    peer = ScriptedPeer()
    call: Call = rpc_bench.run(lambda: _keeping(peer, rpc_bench))
    assert peer.calls == [call]


async def _keeping(peer: ScriptedPeer, bench: Bench) -> Call:
    call = bench.make()
    await peer(call)
    return call
