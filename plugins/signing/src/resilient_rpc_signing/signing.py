"""Signing: the filter."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from resilient_rpc import ConfigurationError, Message, Refused
from resilient_rpc_signing.canonical import HEADER, KEY_ID, Signature, canonical, parse
from resilient_rpc_signing.seen import Seen

SHORTEST = 32
"""Bytes of a key: as many as the hash has."""


@dataclass(frozen=True, eq=False)
class Signing:
    """Signs what is sent with HMAC-SHA256, and refuses what arrives without a good signature.

    Signed are the body and what decides its fate: content type and encoding, queue, reply address, correlation id,
    type, expiration, timestamps, priority, the headers of the library, the key's id, and whether it is a request or a
    reply. A reply answers the request whose correlation id it is signed with, and is signed with that request's key.

    The id of the key that a request was signed with is its `Message.principal`, and so the handler's
    `Context.principal`. Raises `Refused` for a message that is not accepted: the text says why.
    """

    keys: Mapping[str, bytes] = field(repr=False)
    """Keys by id, each of at least 32 random bytes (``secrets.token_bytes(32)``). All of them are accepted."""
    signs: str = field(default="", kw_only=True)
    """The id of the key that signs. It may be left out where there is only one key."""
    require: bool = field(default=True, kw_only=True)
    """False accepts what is not signed at all, while signing is being introduced. A bad signature is always refused."""
    window: float = field(default=60.0, kw_only=True)
    """Seconds by which clocks may differ: a message may be so much from the future, or older than its time to live."""
    max_age: float = field(default=0.0, kw_only=True)
    """Seconds, beyond the window, that a request without a time to live may have waited in its queue."""
    remember: int = field(default=1_000_000, kw_only=True)
    """Signatures of requests that are kept while they are valid, about 150 bytes each; what comes again is refused."""
    clock: Callable[[], float] = field(default=time.time, repr=False, kw_only=True)
    """Unix time, seconds."""
    _seen: Seen = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_keys(self.keys)
        object.__setattr__(self, "keys", dict(self.keys))
        signs: Any = self.signs or (next(iter(self.keys)) if len(self.keys) == 1 else "")
        if signs not in self.keys:
            raise ConfigurationError(f"Signing.signs={self.signs!r}: give one of {', '.join(sorted(self.keys))}")
        object.__setattr__(self, "signs", signs)
        if type(self.require) is not bool:
            raise ConfigurationError(f"Signing.require={self.require!r}: give True or False")
        for name, least in (("window", 1.0), ("max_age", 0.0)):
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
                raise ConfigurationError(f"Signing.{name}={value!r}: give seconds, at least {least:g}")
        if type(self.remember) is not int or self.remember < 1:
            raise ConfigurationError(f"Signing.remember={self.remember!r}: give a whole number of at least 1")
        if not callable(self.clock):
            raise ConfigurationError(f"Signing.clock={self.clock!r}: give a function that returns Unix time")
        object.__setattr__(self, "_seen", Seen(self.remember))

    def outgoing(self, message: Message, /) -> Message:
        """The message with its signature; a reply with the key of who asked, so that tenants need not share one."""
        asked = message.principal if message.direction == "reply" else None
        key_id = asked if asked is not None and asked in self.keys else self.signs
        at = int(self.clock() * 1000)
        try:
            mac = hmac.digest(self.keys[key_id], canonical(message, key_id, at), "sha256")
        except ValueError as error:
            raise ConfigurationError(f"a header of the message: {error}") from None
        return message.replace(headers={**message.headers, HEADER: str(Signature(key_id, at, mac))})

    def incoming(self, message: Message, /) -> Message:
        """The message as it is, with the id of its key as its principal. Raises `Refused`."""
        text = message.headers.get(HEADER)
        if text is None and not self.require:
            return message
        if text is None:
            raise Refused(f"the {message.direction} is not signed")
        signature = parse(text)
        if signature is None:
            raise Refused("the signature is malformed")
        self._check(message, signature)
        return message.replace(principal=signature.key_id)

    def _check(self, message: Message, signature: Signature) -> None:
        key_id, at, mac = signature
        key = self.keys.get(key_id)
        if key is None:
            raise Refused(f"signed with the key {key_id!r}, which is not known here")
        try:
            expected = hmac.digest(key, canonical(message, key_id, at), "sha256")
        except ValueError as error:
            raise Refused(f"a header of the message: {error}") from None
        if not hmac.compare_digest(expected, mac):
            raise Refused(f"the signature with the key {key_id!r} does not match the message")
        self._check_time(message, signature)

    def _check_time(self, message: Message, signature: Signature) -> None:
        now, made = self.clock(), signature.at / 1000
        waited = self.max_age if message.direction == "request" else 0.0
        expires = made + self.window + (waited if message.expiration is None else message.expiration / 1000)
        if made - now > self.window:
            raise Refused(f"signed {made - now:.0f} s from now: the clocks differ by more than {self.window:g} s")
        if now > expires:
            raise Refused(f"signed {now - made:.0f} s ago: too old by {now - expires:.0f} s")
        if message.direction == "reply":  # a call takes one reply: the second finds no call
            return
        if not self._seen.first(signature.mac, expires, now) and not message.redelivered:
            raise Refused("the request was seen before: it is a replay")


def _check_keys(keys: Any) -> None:
    if not isinstance(keys, Mapping) or not keys:
        raise ConfigurationError("Signing.keys: give a map from key ids to keys, with at least one")
    for key_id, key in keys.items():
        if not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
            raise ConfigurationError(
                f"Signing.keys: {str(key_id)[:80]!r} is no key id; use 1 to 64 letters, digits, '.', '-' and '_'"
            )
        if not isinstance(key, bytes):
            raise ConfigurationError(f"Signing.keys[{key_id!r}]: give bytes, not {type(key).__name__}")
        if len(key) < SHORTEST:
            raise ConfigurationError(f"Signing.keys[{key_id!r}]: {len(key)} bytes; give at least {SHORTEST}")
