from __future__ import annotations

import zlib
from typing import Any

import pytest

from resilient_rpc import Compression, ConfigurationError, Message, registry
from resilient_rpc.errors import MalformedMessage, TooLarge
from resilient_rpc.wire.compression import ACCEPTS
from resilient_rpc.wire.inflate import encoding

BODY = b'{"sku": "A1"}' * 100
BOTH = ("zstd", "deflate")


def request(body: bytes = BODY, **more: Any) -> Message:
    return Message(direction="request", body=body, target="rpc.orders", headers={"rpc-version": "1"}, **more)


def reply(body: bytes = BODY, **more: Any) -> Message:
    return Message(direction="reply", body=body, target="address", **more)


def test_a_request_is_compressed_and_says_what_its_sender_takes() -> None:
    sent = Compression(min_size=0).outgoing(request())
    assert sent.content_encoding == "deflate"
    assert zlib.decompress(sent.body) == BODY
    assert sent.headers == {"rpc-version": "1", ACCEPTS: "deflate"}


def test_requests_use_the_first_algorithm() -> None:
    sent = Compression(algorithms=BOTH, min_size=0).outgoing(request())
    assert (sent.content_encoding, sent.headers[ACCEPTS]) == ("zstd", "zstd, deflate")


def test_it_begins_at_its_size() -> None:
    squeeze = Compression(min_size=1000)
    assert squeeze.outgoing(request(b"x" * 1000)).content_encoding == "deflate"
    below = squeeze.outgoing(request(b"x" * 999))
    assert (below.content_encoding, below.body) == (None, b"x" * 999)
    assert below.headers[ACCEPTS] == "deflate"


def test_what_becomes_no_smaller_is_sent_as_it_is() -> None:
    assert Compression(min_size=0).outgoing(request(b"x")).content_encoding is None


def test_what_has_an_encoding_already_is_left_alone() -> None:
    message = request(content_encoding="br")
    assert Compression(min_size=0).outgoing(message).body is message.body
    assert Compression().incoming(message) is message


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [((), None), (("deflate",), "deflate"), (("zstd",), "zstd"), (("deflate", "zstd"), "zstd"), (("br",), None)],
)
def test_a_reply_is_compressed_only_as_its_reader_can_read_it(accepts: tuple[str, ...], expected: str | None) -> None:
    sent = Compression(algorithms=BOTH, min_size=0).outgoing(reply(accepts=accepts))
    assert sent.content_encoding == expected
    assert ACCEPTS not in sent.headers


@pytest.mark.parametrize("algorithm", BOTH)
def test_what_arrives_is_inflated(algorithm: str) -> None:
    squeezed = encoding(algorithm).compress(BODY, 1)
    for made in (request, reply):
        seen = Compression(algorithms=BOTH).incoming(made(squeezed, content_encoding=algorithm))
        assert (seen.body, seen.content_encoding) == (BODY, None)


def test_an_encoding_that_is_not_configured_is_not_inflated() -> None:
    squeezed = encoding("zstd").compress(BODY, 1)
    seen = Compression().incoming(request(squeezed, content_encoding="zstd"))
    assert (seen.body, seen.content_encoding) == (squeezed, "zstd")  # which the codec refuses


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("deflate", ("deflate",)),
        ("deflate,zstd", ("zstd", "deflate")),
        (" zstd , br", ("zstd",)),
        ("br", ()),
        ("", ()),
        (None, ()),
        (7, ()),
        ([b"zstd"], ()),
        ("zstd, " * 40, ()),
    ],
)
def test_what_the_other_side_takes_is_read_with_care(told: Any, expected: tuple[str, ...]) -> None:
    message = request().replace(headers={ACCEPTS: told})
    assert Compression(algorithms=BOTH).incoming(message).accepts == expected


def test_a_reply_says_nothing_of_what_its_sender_takes() -> None:
    assert Compression().incoming(reply().replace(headers={ACCEPTS: "deflate"})).accepts == ()


def test_what_is_too_large_inflated_is_refused() -> None:
    squeeze = Compression(max_size=1000)
    fits = request(zlib.compress(b"x" * 1000), content_encoding="deflate")
    assert len(squeeze.incoming(fits).body) == 1000
    with pytest.raises(TooLarge):
        squeeze.incoming(request(zlib.compress(b"x" * 1001), content_encoding="deflate"))


def test_what_is_damaged_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        Compression().incoming(request(b"text", content_encoding="deflate"))


def test_a_higher_level_makes_it_smaller() -> None:
    body = bytes(range(256)) * 40 + b'{"sku": "A1", "qty": 2}' * 200
    sizes = [len(Compression(level=level, min_size=0).outgoing(request(body)).body) for level in (1, 9)]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithms": ()}, {"algorithms": "deflate"}, {"algorithms": ["deflate", "deflate"]}, {"algorithms": ["br"]},
        {"min_size": -1}, {"min_size": 1.5}, {"max_size": 0}, {"max_size": True}, {"level": 0}, {"level": 10},
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"encoding|" + next(iter(wrong))):
        Compression(**wrong)


def test_it_is_found_by_its_name() -> None:
    made = registry.filters.make("compression", {"min_size": 5})
    assert isinstance(made, Compression)
    assert made.min_size == 5
    assert registry.filters.known()["compression"].origin == "built in"
