from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_rpc.errors import (
    CODES,
    EXECUTED,
    INTERNAL_ERROR,
    NOT_EXECUTED,
    UNKNOWN,
    ApplicationError,
    Certainty,
    CircuitOpen,
    ConnectionLost,
    DeadlineExceeded,
    DependencyUnavailable,
    Interrupted,
    InvalidParams,
    MalformedMessage,
    MethodNotFound,
    NotConnected,
    Overloaded,
    RemoteError,
    RpcError,
    TooLarge,
)
from resilient_rpc.wire.codec import JSON, MSGPACK, Codec
from resilient_rpc.wire.envelope import ErrorBody, Failure, ForeignError
from resilient_rpc.wire.faults import MAX_MESSAGE, describe_fault, rebuild_fault

both = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
NEVER_STARTED = {-32700, -32600, -32601, -32602}


class OutOfStock(ApplicationError):
    type = "out_of_stock"


REGISTRY: Mapping[str, type[RemoteError]] = {"out_of_stock": OutOfStock}


def travel(
    error: BaseException | ErrorBody, codec: Codec = JSON, *, ours: bool = True, registry: Any = REGISTRY
) -> RpcError:
    body = error if isinstance(error, ErrorBody) else describe_fault(error)
    answer = codec.answers.decode(codec.encode(Failure(body, 1)))
    return rebuild_fault(codec, answer.error, registry, ours=ours)


def foreign(code: int, data: Any = None, message: str = "no", codec: Codec = JSON) -> ForeignError:
    return codec.decoder(ForeignError).decode(codec.encode({"code": code, "message": message, "data": data}))  # type: ignore[no-any-return]


class TestThereAndBack:
    @pytest.mark.parametrize("certainty", Certainty)
    @pytest.mark.parametrize("code", CODES)
    @both
    def test_every_code_keeps_its_class_its_message_and_its_certainty(
        self, codec: Codec, code: int, certainty: Certainty
    ) -> None:
        kind = CODES[code].error
        made = kind("why", certainty=certainty, retry_after=1.5)
        if isinstance(made, RemoteError):
            made.code, made.details = code, {"a": [1]}
        found = travel(made, codec)
        expected = MalformedMessage if kind is MalformedMessage else kind
        assert type(found) is expected
        assert str(found) == "why"
        assert found.certainty is certainty
        assert found.retry_after == 1.5
        assert (found.retryable, found.counted) == (kind.retryable, kind.counted)
        if isinstance(found, RemoteError):
            assert (found.code, found.details) == (code, {"a": [1]})

    @pytest.mark.parametrize("code", CODES)
    def test_a_code_without_data_has_the_certainty_of_its_class(self, code: int) -> None:
        found = travel(ErrorBody(code, "why"))
        assert found.certainty is (UNKNOWN if code == INTERNAL_ERROR else CODES[code].error.certainty)
        if isinstance(found, RemoteError):
            assert found.type == CODES[code].name

    @both
    @pytest.mark.parametrize("kind", [DependencyUnavailable, Interrupted, OutOfStock, NotConnected])
    def test_that_no_other_try_can_help_is_told_and_that_one_can_is_known_by_the_class(
        self, codec: Codec, kind: type[RpcError]
    ) -> None:
        class Never(kind):  # type: ignore[misc, valid-type]
            retryable = False

        final, plain, eager = kind("x"), kind("x"), kind("x")
        assert travel(Never("x"), codec).retryable is False
        final.retryable, eager.retryable = False, True
        assert travel(final, codec).retryable is False
        assert travel(plain, codec).retryable is travel(eager, codec).retryable
        assert b"retryable" not in codec.encode(Failure(describe_fault(plain), 1))
        assert b"retryable" not in codec.encode(Failure(describe_fault(eager), 1))

    @both
    def test_a_registered_error_comes_back_as_its_class(self, codec: Codec) -> None:
        found = travel(OutOfStock("none left", details={"sku": "A1"}), codec)
        assert type(found) is OutOfStock
        assert (found.type, found.details, found.certainty) == ("out_of_stock", {"sku": "A1"}, EXECUTED)

    def test_an_error_nobody_registered_is_an_application_error_with_its_name(self) -> None:
        found = travel(OutOfStock("none left"), registry={})
        assert type(found) is ApplicationError
        assert found.type == "out_of_stock"

    @both
    def test_any_other_exception_is_an_application_error_with_its_text(self, codec: Codec) -> None:
        found = travel(KeyError("sku"), codec)
        assert type(found) is ApplicationError
        assert (found.type, str(found), found.certainty) == ("KeyError", "'sku'", EXECUTED)

    def test_no_traceback_leaves_the_process(self) -> None:
        with pytest.raises(ValueError, match="in the text") as caught:
            int_of("in the text")
        sent = JSON.encode(describe_fault(caught.value))
        assert b"Traceback" not in sent
        assert b"test_faults" not in sent
        assert b"int_of" not in sent

    @pytest.mark.parametrize("kind", [DeadlineExceeded, ConnectionLost, CircuitOpen])
    def test_an_error_without_a_code_is_an_internal_error(self, kind: type[RpcError]) -> None:
        found = travel(kind("inner"))
        assert type(found) is RemoteError
        assert found.code == INTERNAL_ERROR
        assert found.certainty is kind.certainty

    def test_a_long_message_is_cut(self) -> None:
        assert len(describe_fault(ValueError("x" * 100_000)).message) == MAX_MESSAGE
        assert len(str(travel(ErrorBody(-32000, "x" * 100_000)))) == MAX_MESSAGE

    @given(st.text(alphabet=st.characters()))
    def test_any_text_can_be_sent(self, text: str) -> None:
        for error in (ValueError(text), ApplicationError(text)):
            JSON.encode(describe_fault(error))
            MSGPACK.encode(describe_fault(error))

    def test_an_exception_that_cannot_be_shown_is_still_answered(self) -> None:
        class Bad(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        class Worse(ApplicationError):
            def __str__(self) -> str:
                raise SystemExit

        assert describe_fault(Bad()).code == ApplicationError.code
        assert describe_fault(Worse()).code == ApplicationError.code


class TestForeignServers:
    @pytest.mark.parametrize("code", sorted({*CODES, 1, 0, -1, -32099, -31999, 2**40}))
    @both
    def test_only_json_rpcs_own_codes_say_that_nothing_was_executed(self, codec: Codec, code: int) -> None:
        data = {"type": "out_of_stock", "executed": False, "retry_after": 3}
        found = rebuild_fault(codec, foreign(code, data, codec=codec), REGISTRY, ours=False)
        assert found.certainty is (NOT_EXECUTED if code in NEVER_STARTED else UNKNOWN)
        assert not isinstance(found, (OutOfStock, Overloaded, ApplicationError))
        assert found.retry_after is None
        if isinstance(found, RemoteError):
            assert (found.code, found.details) == (code, data)

    def test_json_rpcs_own_codes_have_their_classes(self) -> None:
        assert type(rebuild_fault(JSON, foreign(-32601), {}, ours=False)) is MethodNotFound
        assert type(rebuild_fault(JSON, foreign(-32602), {}, ours=False)) is InvalidParams
        assert type(rebuild_fault(JSON, foreign(-32600), {}, ours=False)) is MalformedMessage
        assert type(rebuild_fault(JSON, foreign(-32001), {}, ours=False)) is RemoteError
        assert type(rebuild_fault(JSON, foreign(-32006), {}, ours=False)) is RemoteError

    @pytest.mark.parametrize("data", [None, "text", 5, [1], {"a": {}}])
    def test_their_data_are_details(self, data: Any) -> None:
        found = rebuild_fault(JSON, foreign(7, data), {}, ours=False)
        assert isinstance(found, RemoteError)
        assert found.details == data

    def test_data_that_cannot_be_read_are_no_details(self) -> None:
        for raw in (b"\xff", b"[" * 100_000, b'"\\ud800"'):
            fault = ForeignError(7, "m", msgspec.Raw(raw))
            found = rebuild_fault(JSON, fault, {}, ours=False)
            assert isinstance(found, RemoteError)
            assert found.details is None


class TestHostileServers:
    @pytest.mark.parametrize(
        "name",
        [
            "builtins.SystemExit", "SystemExit", "os.system", "KeyboardInterrupt", "resilient_rpc.errors.CircuitOpen",
            "__class__", "RpcError", "out_of_stock ", "OUT_OF_STOCK", "x" * 10_000, "\n\x1b[31m", "",
        ],
    )  # fmt: skip
    def test_a_type_is_a_name_and_never_a_class(self, name: str) -> None:
        found = travel(ErrorBody(-32000, "m", msgspec.convert({"type": name}, type=describe_data())))
        assert type(found) is ApplicationError
        assert isinstance(found, Exception)

    @pytest.mark.parametrize(
        "data",
        [
            1, "x", [], True, {"type": 5}, {"type": ["os", "system"]}, {"retry_after": "soon"}, {"executed": "yes"},
            {"executed": 1}, {"details": {"__class__": "os"}}, {"type": None, "executed": None},
        ],
    )  # fmt: skip
    @both
    def test_data_of_a_wrong_type_are_ignored(self, codec: Codec, data: Any) -> None:
        found = rebuild_fault(codec, foreign(-32001, data, codec=codec), REGISTRY, ours=True)
        assert type(found) is Overloaded
        assert found.certainty in (NOT_EXECUTED, UNKNOWN)

    @pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, -float("inf")])
    def test_a_wait_that_is_no_time_is_ignored(self, seconds: float) -> None:
        found = rebuild_fault(MSGPACK, foreign(-32001, {"retry_after": seconds}, codec=MSGPACK), {}, ours=True)
        assert found.retry_after is None

    @pytest.mark.parametrize("code", [12345, -32050, 0, 2**63])
    def test_a_code_that_is_not_in_the_table_is_a_remote_error_of_unknown_outcome(self, code: int) -> None:
        found = rebuild_fault(JSON, foreign(code), {}, ours=True)
        assert type(found) is RemoteError
        assert (found.code, found.certainty) == (code, UNKNOWN)

    def test_a_registered_class_with_a_signature_of_its_own_does_not_hide_the_error(self) -> None:
        class Picky(ApplicationError):
            type = "picky"

            def __init__(self, sku: str, *, shelf: int) -> None:
                super().__init__(f"{sku} {shelf}")

        found = travel(ErrorBody(-32000, "none left", msgspec.convert({"type": "picky"}, type=describe_data())),
                       registry={"picky": Picky})  # fmt: skip
        assert isinstance(found, ApplicationError)
        assert (str(found), found.type) == ("none left", "picky")

    def test_a_protocol_error_may_say_that_it_was_executed(self) -> None:
        assert travel(TooLarge("the result", certainty=EXECUTED)).certainty is EXECUTED

    @given(st.integers(), st.text(max_size=5), st.binary(max_size=30), st.booleans())
    def test_nothing_that_a_server_says_raises(self, code: int, message: str, data: bytes, ours: bool) -> None:
        for codec in (JSON, MSGPACK):
            found = rebuild_fault(codec, ForeignError(code, message, msgspec.Raw(data)), REGISTRY, ours=ours)
            assert isinstance(found, RpcError)
            assert found.certainty in Certainty


def int_of(text: str) -> int:
    return int(text)


def describe_data() -> Any:
    return type(describe_fault(ValueError()).data)
