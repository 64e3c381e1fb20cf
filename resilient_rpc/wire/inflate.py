"""Content encodings: how bytes are made smaller, and made large again without becoming larger than they may."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from resilient_rpc.errors import ConfigurationError, MalformedMessage, TooLarge

MAX_WINDOW_LOG = 23
"""8 MiB: what RFC 8878 asks every reader of zstandard to bear, and no sender to exceed."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """One way to write a body, by the name that stands in the property `content_encoding`."""

    name: str
    compress: Callable[[bytes, int], bytes]
    """From a body and a level to fewer bytes, or to more."""
    inflate: Callable[[bytes, int], bytes]
    """Back, to at most so many bytes. Raises `TooLarge`, and `MalformedMessage` for what is cut off, damaged or longer
    than one stream."""


def encoding(name: str) -> Encoding:
    """The encoding of this name: ``deflate`` or ``zstd``.

    Raises:
        ConfigurationError: there is none, or a package is needed for it.
    """
    if name == "deflate":
        return Encoding(name=name, compress=zlib.compress, inflate=_inflate_deflate)
    if name == "zstd":
        return _zstd()
    raise ConfigurationError(f"no content encoding {name!r:.100}; there are 'deflate' and 'zstd'")


def _inflate_deflate(data: bytes, most: int) -> bytes:
    reader = zlib.decompressobj()
    try:
        body = reader.decompress(data, most + 1)  # one more: at the limit itself the end would not be seen
    except zlib.error as error:
        raise MalformedMessage(f"not deflate: {error}") from None
    return _whole(body, most, ended=reader.eof, rest=bool(reader.unused_data))


def _zstd() -> Encoding:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415 - only for those who use it
        else:
            from backports import zstd  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ConfigurationError("zstd needs a package: pip install 'resilient-rpc[zstd]'") from error
    options = {int(zstd.DecompressionParameter.window_log_max): MAX_WINDOW_LOG}

    def inflate(data: bytes, most: int) -> bytes:
        reader = zstd.ZstdDecompressor(options=options)
        try:
            body = reader.decompress(data, most + 1)
        except zstd.ZstdError as error:
            raise MalformedMessage(f"not zstd: {error}") from None
        return _whole(body, most, ended=reader.eof, rest=bool(reader.unused_data))

    return Encoding(name="zstd", compress=zstd.compress, inflate=inflate)


def _whole(body: bytes, most: int, *, ended: bool, rest: bool) -> bytes:
    if len(body) > most:
        raise TooLarge(f"inflated, the message is over the limit of {most} bytes")
    if not ended:
        raise MalformedMessage("the compressed message is cut off")
    if rest:
        raise MalformedMessage("something follows the compressed message")
    return body
