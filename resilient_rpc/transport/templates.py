"""The properties of requests, encoded once for all messages that differ in id and times only."""

from __future__ import annotations

from resilient_rpc.call import UNSAFE
from resilient_rpc.transport.batching import Route
from resilient_rpc.transport.properties import Template, encode_headers
from resilient_rpc.transport.tables import Header
from resilient_rpc.wire.control import LIVE
from resilient_rpc.wire.envelope import VERSION

MOST = 1_000
"""How many are kept: methods of a service are few, but their names may come from anywhere."""


class Templates:
    """Made when they are asked for. They hold the reply address, so a new session forgets them."""

    __slots__ = ("_app_id", "_liveness", "_made", "_user_id", "reply_to")

    def __init__(self, app_id: str | None, user_id: str | None = None, liveness: float | None = None) -> None:
        self._app_id, self._user_id, self._liveness, self.reply_to = app_id, user_id, liveness, ""
        self._made: dict[tuple[str, int, Route], Template] = {}

    def __len__(self) -> int:
        return len(self._made)

    def reset(self, reply_to: str) -> None:
        """Replies go there from now on."""
        self.reply_to = reply_to
        self._made.clear()

    def get(self, method: str, count: int, route: Route) -> Template:
        """For a message of `count` calls on a route, of which the first is to `method`."""
        key = (method, count, route)
        found = self._made.get(key)
        return found if found is not None else self._make(key)

    def _make(self, key: tuple[str, int, Route]) -> Template:
        method, count, route = key
        if len(self._made) >= MOST:
            self._made.clear()
        made = self._made[key] = Template(
            content_type=route.codec.content_type,
            headers=encode_headers(headers_of(method, count, route, self._liveness)),
            reply_to=self.reply_to,
            type=type_of(count),
            priority=route.priority or None,
            user_id=self._user_id,
            app_id=self._app_id,
        )
        return made


def headers_of(method: str, count: int, route: Route, liveness: float | None = None) -> dict[str, Header]:
    """What an operator, and a server before it decodes the body, needs to see of a message."""
    headers: dict[str, Header] = {"rpc-version": VERSION, "rpc-method": method, "rpc-calls": count}
    if route.safety is not UNSAFE:  # here too: a target that is not known yet is sent no `meta`
        headers["rpc-safety"] = route.safety.value
    if liveness is not None:
        headers[LIVE] = round(liveness * 1000)
    return headers


def type_of(count: int) -> str:
    """The property `type` of a message of so many calls."""
    return "rpc.call" if count == 1 else "rpc.batch"
