"""JSON and MessagePack: bytes to values of a type, and back, within the limits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from resilient_rpc.errors import INVALID_REQUEST, ConfigurationError, MalformedMessage, UnsupportedContent
from resilient_rpc.wire.envelope import Answer, Incoming
from resilient_rpc.wire.limits import Limits

Decoder = msgspec.json.Decoder[Any] | msgspec.msgpack.Decoder[Any]
_REQUESTS = list[Incoming] | Incoming
_ANSWERS = list[Answer] | Answer


class Invalid(msgspec.Struct):
    """An item of a message that is not a JSON-RPC request; `id` if it could be read."""

    reason: str
    id: int | str | float | None = None


class _OnlyId(msgspec.Struct):
    id: int | str | float | None = None


class Codec(Protocol):
    """One content type. Knows the wire's shape of a batch, and nothing of transports."""

    content_type: str
    requests: Any
    """The decoder of a message of calls; made once, as looking a union up costs more than the decoding."""
    answers: Any
    """The decoder of a message of replies."""
    anything: Any
    """The decoder of a value whose type nobody declared."""

    def encode(self, value: Any) -> bytes:
        """Bytes of `value`; `UnsupportedContent` if its type cannot be encoded."""

    def join(self, items: Sequence[bytes]) -> bytes:
        """One array of values that are encoded already."""

    def decoder(self, type_: Any) -> Decoder:
        """A decoder for a type, made once; `ConfigurationError` if the type is not supported."""

    def check_depth(self, data: bytes, limits: Limits) -> None:
        """Raise `TooLarge` if the encoded value is nested too deeply."""


class JsonCodec:
    """``application/json``, the default."""

    content_type = "application/json"

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self.requests = msgspec.json.Decoder(_REQUESTS)
        self.answers = msgspec.json.Decoder(_ANSWERS)
        self.anything = msgspec.json.Decoder()

    def encode(self, value: Any) -> bytes:
        """See `Codec`."""
        try:
            return self._encode(value)
        except Exception as error:  # an attribute of a user's object may raise anything
            raise UnsupportedContent(f"cannot be encoded as JSON: {error}") from error

    def join(self, items: Sequence[bytes]) -> bytes:
        """See `Codec`."""
        return b"[" + b",".join(items) + b"]"

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - the codecs below live as long as the process
    def decoder(self, type_: Any) -> Decoder:
        """See `Codec`."""
        return _made(msgspec.json.Decoder, type_)

    def check_depth(self, data: bytes, limits: Limits) -> None:
        """See `Codec`."""
        limits.check_json_depth(data)


class MsgpackCodec:
    """``application/msgpack``: the same shapes as in JSON."""

    content_type = "application/msgpack"

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self.requests = msgspec.msgpack.Decoder(_REQUESTS)
        self.answers = msgspec.msgpack.Decoder(_ANSWERS)
        self.anything = msgspec.msgpack.Decoder()

    def encode(self, value: Any) -> bytes:
        """See `Codec`."""
        try:
            return self._encode(value)
        except Exception as error:
            raise UnsupportedContent(f"cannot be encoded as MessagePack: {error}") from error

    def join(self, items: Sequence[bytes]) -> bytes:
        """See `Codec`."""
        count = len(items)
        if count < 16:  # noqa: PLR2004 - MessagePack's own numbers
            head = bytes((0x90 | count,))
        elif count < 1 << 16:
            head = b"\xdc" + count.to_bytes(2, "big")
        else:
            head = b"\xdd" + count.to_bytes(4, "big")
        return head + b"".join(items)

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - as above
    def decoder(self, type_: Any) -> Decoder:
        """See `Codec`."""
        return _made(msgspec.msgpack.Decoder, type_)

    def check_depth(self, data: bytes, limits: Limits) -> None:
        """See `Codec`."""
        limits.check_msgpack_depth(data)


def _made(kind: type[Any], type_: Any) -> Decoder:
    try:
        decoder: Decoder = kind(type_)
    except TypeError as error:
        raise ConfigurationError(f"{type_!r} cannot be decoded from a message: {error}") from error
    return decoder


JSON = JsonCodec()
MSGPACK = MsgpackCodec()
CODECS: dict[str, Codec] = {JSON.content_type: JSON, MSGPACK.content_type: MSGPACK}
"""All there are. A message names one of them; it cannot bring its own."""


def codec_for(content_type: str | None, encoding: str | None = None) -> Codec:
    """The codec of a message that arrived; without a content type it is taken for JSON."""
    if encoding not in (None, "", "identity", "utf-8", "UTF-8"):
        raise UnsupportedContent(f"content encoding {encoding[:64]!r} is not accepted")
    if content_type is None:
        return JSON
    found = CODECS.get(content_type) or CODECS.get(content_type.partition(";")[0].strip().lower())
    if found is None:
        raise UnsupportedContent(f"content type {content_type[:64]!r} is not one of {', '.join(CODECS)}")
    return found


def read_requests(codec: Codec, body: bytes, limits: Limits) -> tuple[list[Incoming | Invalid], bool]:
    """The calls of a message, and whether they came as a batch.

    An item that is no request becomes an `Invalid`, beside the good ones. Raises `MalformedMessage` for a body that is
    not of its content type at all or an empty batch, `TooLarge` for too many items.
    """
    try:
        found = codec.requests.decode(body)
    except msgspec.ValidationError:
        return _read_each(codec, body, limits)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"not {codec.content_type}: {error}") from None
    if not isinstance(found, list):
        return [found], False
    _check_batch(found, limits)
    return found, True


def _read_each(codec: Codec, body: bytes, limits: Limits) -> tuple[list[Incoming | Invalid], bool]:
    """The careful way, when something does not fit: one item at a time."""
    try:
        raws = codec.decoder(list[msgspec.Raw]).decode(body)
    except msgspec.ValidationError:
        return [_read_one(codec, body)], False
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"not {codec.content_type}: {error}") from None
    _check_batch(raws, limits)
    return [_read_one(codec, bytes(raw)) for raw in raws], True


def _read_one(codec: Codec, body: bytes) -> Incoming | Invalid:
    try:
        found: Incoming = codec.decoder(Incoming).decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        try:
            known = codec.decoder(_OnlyId).decode(body).id
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            known = None
        return Invalid(f"not a JSON-RPC request: {error}", known)
    return found


def invalid_request(message: str) -> MalformedMessage:
    """The error for what is JSON or MessagePack, and not JSON-RPC."""
    error = MalformedMessage(message)
    error.code = INVALID_REQUEST
    return error


def _check_batch(items: Sequence[Any], limits: Limits) -> None:
    if not items:
        raise invalid_request("an empty batch")
    limits.check_items(len(items))


def read_answers(codec: Codec, body: bytes) -> list[Answer]:
    """The replies of a message. Raises `MalformedMessage`."""
    try:
        found = codec.answers.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"not a JSON-RPC reply: {error}") from None
    return found if isinstance(found, list) else [found]
