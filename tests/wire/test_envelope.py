from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from resilient_rpc.call import Safety
from resilient_rpc.wire.codec import JSON, MSGPACK
from resilient_rpc.wire.envelope import (
    Answer,
    ErrorBody,
    ErrorData,
    Failure,
    Incoming,
    Meta,
    ReplyMeta,
    Request,
    Result,
)


def shown(value: Any) -> Any:
    return json.loads(JSON.encode(value))


def test_a_request_is_json_rpc_and_nothing_else() -> None:
    assert shown(Request("price", {"sku": "A1"}, 7)) == {
        "jsonrpc": "2.0",
        "method": "price",
        "params": {"sku": "A1"},
        "id": 7,
    }


def test_what_is_not_given_is_not_sent() -> None:
    assert shown(Request("ping", UNSET)) == {"jsonrpc": "2.0", "method": "ping"}


def test_meta_carries_only_what_was_said() -> None:
    assert shown(Meta("k", 1500, 1_700_000_000_000, 2, Safety.DEDUP, {"traceparent": "00"}, {"a": "b"})) == {
        "key": "k",
        "ttl": 1500,
        "at": 1_700_000_000_000,
        "attempt": 2,
        "safety": "dedup",
        "trace": {"traceparent": "00"},
        "tags": {"a": "b"},
    }
    assert shown(Meta()) == {}


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_the_server_reads_what_the_client_wrote(codec: Any) -> None:
    found = codec.requests.decode(codec.encode(Request("a.b", [1, "x"], 3, Meta(ttl=5, safety=Safety.READ_ONLY))))
    assert (found.method, found.id) == ("a.b", 3)
    assert codec.decoder(Any).decode(found.params) == [1, "x"]
    assert (found.meta.ttl, found.meta.safety, found.meta.attempt) == (5, Safety.READ_ONLY, 1)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_the_client_reads_what_the_server_wrote(codec: Any) -> None:
    good = codec.answers.decode(codec.encode(Result({"a": 1}, 5, ReplyMeta(12, 3, server="s"))))
    assert (good.id, codec.decoder(Any).decode(good.result), good.error) == (5, {"a": 1}, None)
    assert (good.meta.t, good.meta.room, good.meta.server, good.meta.replayed) == (12, 3, "s", False)
    bad = codec.answers.decode(codec.encode(Failure(ErrorBody(-32000, "no", ErrorData(type="t", executed=None)), "x")))
    assert (bad.id, bad.result, bad.error.code, bad.error.message, bad.meta) == ("x", UNSET, -32000, "no", None)


def test_a_failure_shows_whether_it_was_executed_even_when_nobody_knows() -> None:
    assert shown(ErrorData(executed=None)) == {"executed": None}
    assert shown(ErrorData()) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":null,"error":null}', (1, True)),
        (b'{"jsonrpc":"2.0","id":1,"result":null}', (1, True)),
        (b'{"jsonrpc":"2.0","id":1}', (1, False)),
        (b'{"jsonrpc":"2.0","result":3,"more":{"x":[]}}', (None, True)),
    ],
)
def test_replies_of_other_libraries_are_read(text: bytes, expected: tuple[Any, bool]) -> None:
    found: Answer = JSON.answers.decode(text)
    assert (found.id, isinstance(found.result, Raw), found.error) == (*expected, None)


@pytest.mark.parametrize("version", [b'"1.0"', b"2.0", b"null", b"[]"])
def test_another_version_of_json_rpc_is_refused(version: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        JSON.requests.decode(b'{"jsonrpc":' + version + b',"method":"m","id":1}')


def test_a_notification_is_told_from_a_call_with_a_null_id() -> None:
    without: Incoming = JSON.requests.decode(b'{"jsonrpc":"2.0","method":"m"}')
    null: Incoming = JSON.requests.decode(b'{"jsonrpc":"2.0","method":"m","id":null}')
    assert without.id is UNSET
    assert null.id is None
