"""Compression: the filter that makes large messages smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.wire.filters import Message
from resilient_rpc.wire.inflate import Encoding, encoding
from resilient_rpc.wire.limits import MIB

__all__ = ["Compression"]
ACCEPTS = "rpc-accept-encoding"
"""The header in which a request says what its sender can inflate, as HTTP's ``Accept-Encoding`` without weights."""
MAX_LEVEL = 9
_MAX_ACCEPTS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Compression:
    """Compresses large messages, and inflates those that arrive, up to a limit.

    Give it to the servers first, then to the clients: a server compresses a reply only for who has said in the request
    that it can inflate it, but a compressed request is refused (`UnsupportedContent`, not executed) by a server
    without this filter. What is not compressed is always accepted. Beside `Signing` it stands first:
    ``filters=[Compression(), Signing(keys)]``, so that nothing is inflated that nobody has signed.

    Raises `TooLarge` for what is too large when it is inflated, `MalformedMessage` for what is damaged, cut off or
    followed by something.
    """

    algorithms: Sequence[str] = ("deflate",)
    """Content encodings that are inflated, of ``deflate`` (zlib) and ``zstd`` (``pip install 'resilient-rpc[zstd]'``).
    Requests are compressed by the first, replies by the first that the caller knows."""
    min_size: int = 16_384
    """Bytes of a body from which on it is compressed; it is sent as it is where that makes it no smaller."""
    max_size: int = 4 * MIB
    """Bytes of a body that arrives, inflated, at most. `Limits.max_body` holds besides."""
    level: int = 1
    """1 (quick) to 9 (small)."""
    _encodings: dict[str, Encoding] = field(init=False, repr=False)
    _accepts: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names: Any = self.algorithms
        if not isinstance(names, tuple | list) or not names or len(set(names)) < len(names):
            raise ConfigurationError(
                f"Compression.algorithms={names!r:.200}: give 'deflate', 'zstd' or both, in a list"
            )
        object.__setattr__(self, "_encodings", {name: encoding(name) for name in names})
        object.__setattr__(self, "_accepts", ", ".join(names))
        for name, least, most in (("min_size", 0, None), ("max_size", 1, None), ("level", 1, MAX_LEVEL)):
            value: Any = getattr(self, name)
            if type(value) is not int or value < least or (most is not None and value > most):
                limit = f"from {least} to {most}" if most is not None else f"of at least {least}"
                raise ConfigurationError(f"Compression.{name}={value!r}: give a whole number {limit}")

    def outgoing(self, message: Message, /) -> Message:
        """A request with what its sender accepts; the body compressed, if that is worth it and may be."""
        if message.direction == "request":
            message = message.replace(headers={**message.headers, ACCEPTS: self._accepts})
            chosen = next(iter(self._encodings.values()))
        else:
            known = [each for name, each in self._encodings.items() if name in message.accepts]
            if not known:
                return message
            chosen = known[0]
        if len(message.body) < self.min_size or message.content_encoding is not None:
            return message
        body = chosen.compress(message.body, self.level)
        if len(body) >= len(message.body):
            return message
        return message.replace(body=body, content_encoding=chosen.name)

    def incoming(self, message: Message, /) -> Message:
        """The message inflated, with what its sender accepts. An encoding that is not configured is left as it is."""
        accepts = self._accepted(message) if message.direction == "request" else ()
        found = self._encodings.get(message.content_encoding or "")
        if found is None:
            return message.replace(accepts=accepts) if accepts else message
        body = found.inflate(message.body, self.max_size)
        return message.replace(body=body, content_encoding=None, accepts=accepts)

    def _accepted(self, message: Message) -> tuple[str, ...]:
        told = message.headers.get(ACCEPTS)
        if not isinstance(told, str) or len(told) > _MAX_ACCEPTS:
            return ()
        names = {name.strip() for name in told.split(",")}
        return tuple(name for name in self._encodings if name in names)
