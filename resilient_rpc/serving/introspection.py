"""What every server answers by itself: `rpc.ping`, `rpc.health`, `rpc.discover`.

Answered where the message is read, without a slot, so that a server whose slots are all taken still says how it is. No
policy and no record of keys is asked; limits, filters, `require_user_id` and `allow` hold as for any other call.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from resilient_rpc.call import NO_TAGS, READ_ONLY
from resilient_rpc.context import Context
from resilient_rpc.contract import DISCOVER, HEALTH, PING, Methods
from resilient_rpc.errors import Expired, InvalidParams, Refused, RpcError
from resilient_rpc.openrpc import describe
from resilient_rpc.serving.access import Allow, check_access
from resilient_rpc.serving.intake import id_of
from resilient_rpc.serving.job import Letter
from resilient_rpc.wire.codec import Codec
from resilient_rpc.wire.envelope import Incoming, Meta

MOST_PARAMS = 64
"""Bytes of params that are looked into: they have to be empty."""
_NO_META = Meta()


class Introspection:
    """Of one running server; on its loop."""

    def __init__(
        self,
        methods: Methods,
        server: str,
        *,
        health: Callable[[], Mapping[str, Any]],
        answer: Callable[[Letter, Any, Any], None],
        refuse: Callable[[Letter, Any, RpcError], None],
        allow: Allow | None = None,
    ) -> None:
        """`answer` and `refuse` take the letter, the id of the call, and what its caller is told."""
        self._methods, self._server, self._health, self._answer, self._refuse = methods, server, health, answer, refuse
        self._guards = (allow,) if allow is not None else ()
        self._methods_of_all = {PING: self._ping, HEALTH: self._whole_health, DISCOVER: self._discover}
        self._described: Letter | None = None
        self.refresh()

    def refresh(self) -> None:
        """Describe what is registered by now."""
        self._document, self.version = describe(self._methods)
        self._encoded: dict[str, msgspec.Raw] = {}

    def serve(self, letter: Letter, item: Incoming, deadline: float, arrived: float) -> bool:
        """Answer a call that names no method of the service; False: it names none of these either."""
        name = item.method.removeprefix(f"{self._methods.service}.")
        method = self._methods_of_all.get(name)
        if method is None:
            return False
        try:
            self._check(name, letter, item, deadline, arrived)
            result = method(letter)
        except RpcError as error:
            self._refuse(letter, id_of(item), error)
        else:
            self._answer(letter, id_of(item), result)
        return True

    def _check(self, name: str, letter: Letter, item: Incoming, deadline: float, arrived: float) -> None:
        if deadline <= arrived:
            raise Expired(f"{name}: its time was up before it arrived")
        if not _is_empty(letter.codec, item.params):
            raise InvalidParams(f"{name} takes no arguments")
        if self._guards:
            check_access(self._guards, _context(name, letter, item.meta or _NO_META, deadline))

    def _ping(self, _: Letter) -> dict[str, Any]:
        return {"service": self._methods.service, "server": self._server, "version": self.version}

    def _whole_health(self, letter: Letter) -> dict[str, Any]:
        return {**self._ping(letter), "host": socket.gethostname(), "pid": os.getpid(), **self._health()}

    def _discover(self, letter: Letter) -> msgspec.Raw:
        if letter is self._described:  # it is large, and a message of many would make a very large answer
            raise Refused(f"{DISCOVER}: once in a message")
        self._described = letter if letter.calls > 1 else None
        return self._encoded.get(letter.codec.content_type) or self._encode(letter.codec)

    def _encode(self, codec: Codec) -> msgspec.Raw:
        raw = self._encoded[codec.content_type] = msgspec.Raw(codec.encode(self._document))
        return raw


def _is_empty(codec: Codec, params: msgspec.Raw) -> bool:
    if not len(params):
        return True
    try:
        return len(params) <= MOST_PARAMS and not codec.anything.decode(params)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False


def _context(name: str, letter: Letter, meta: Meta, deadline: float) -> Context:
    return Context(
        name,
        deadline,
        READ_ONLY,
        attempt=meta.attempt,
        tags=meta.tags or NO_TAGS,
        trace=meta.trace,
        principal=letter.user or letter.principal,
        priority=letter.priority,
    )
