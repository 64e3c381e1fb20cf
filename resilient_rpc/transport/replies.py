"""Reads the replies that arrive at a link, and settles the calls that they answer. What answers none is counted."""

from __future__ import annotations

from collections.abc import Callable

from resilient_rpc import events
from resilient_rpc.errors import FilterRefused, ProtocolError
from resilient_rpc.hub import Events
from resilient_rpc.transport import failures, filtering
from resilient_rpc.transport.base import Delivery
from resilient_rpc.transport.batching import Target
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.transport.outstanding import Outstanding
from resilient_rpc.wire.codec import Codec, codec_for, read_answers
from resilient_rpc.wire.control import BEAT
from resilient_rpc.wire.envelope import Answer
from resilient_rpc.wire.filters import Filters


def _ignore(_delivery: Delivery, _target: Target) -> None:
    """Take any beat and do nothing."""


class Replies:
    """Of one link; on its loop."""

    def __init__(
        self,
        calls: Outstanding,
        options: LinkOptions,
        *,
        filters: Filters | None,
        hub: Events,
        now: Callable[[], float],
        stray: Callable[[int], None],
    ) -> None:
        self._calls, self._limits, self._filters = calls, options.limits, filters
        self._hub, self._now, self._count_stray = hub, now, stray
        self.beat: Callable[[Delivery, Target], None] = _ignore
        """Where beats go."""
        self.address = ""
        """Where they arrive, on the session there is now; empty: each at the queue that its delivery names."""

    def delivered(self, delivery: Delivery) -> None:
        """A reply."""
        properties = delivery.properties
        correlation = properties.get("correlation_id")
        calls = self._calls
        if not isinstance(correlation, str) or (target := calls.tokens.get(correlation.partition(".")[0])) is None:
            self._other(correlation, delivery)
            return
        try:
            if self._filters is not None:
                self._limits.check_body(len(delivery.body), "the reply")
                delivery, _ = filtering.incoming(self._filters, delivery, "reply", self.address or delivery.routing_key)
                properties = delivery.properties
            if properties.get("type") == BEAT:
                self.beat(delivery, target)
                return
            codec = codec_for(properties.get("content_type"), properties.get("content_encoding"))
            self._limits.check_body(len(delivery.body), "the reply")
            answers = read_answers(codec, delivery.body)
        except ProtocolError as error:
            self._unreadable(correlation, error)
            return
        modern = b"rpc-version" in properties.get("headers", b"")
        table, method, learn = calls.entries, "", None
        for answer in answers:
            entry = table.get(answer.id)  # type: ignore[arg-type]  # any id may come; others are not in it
            if entry is None or entry.route.target is not target:
                self._unmatched(answer, correlation, codec, modern=modern)
                continue
            del table[entry.id]
            entry.bucket.pop(entry.id, None)
            if calls.ended is not None:
                calls.ended(entry)
            if entry.method != method:
                method = entry.method
                target.modern = modern and not target.plain
                learn = target.learner(method, self._now()) if modern else None
            if learn is not None:
                learn(answer)
            entry.modern, entry.codec = modern, codec
            entry.answer(answer)

    def _other(self, correlation: object, delivery: Delivery) -> None:
        """No reply to a call."""
        posts = self._calls.posts
        try:
            if posts is None or not isinstance(correlation, str) or not posts.delivered(correlation, delivery):
                self._stray(1)
        except ProtocolError as error:
            self._announce(error)

    def _unmatched(self, answer: Answer, correlation: str, codec: Codec, *, modern: bool) -> None:
        if answer.id is None and answer.error is not None:  # the server could not read the message that it answers
            found = self._calls.of_message(correlation)
            for entry in found:
                self._calls.drop(entry)
                entry.modern, entry.codec = modern, codec
                entry.answer(answer)
            if found:
                return
        self._stray(1)

    def _unreadable(self, correlation: str, error: ProtocolError) -> None:
        self._announce(error)
        self._calls.fail(self._calls.of_message(correlation), failures.unreadable(error))

    def _announce(self, error: ProtocolError) -> None:
        if isinstance(error, FilterRefused):
            self._hub.emit(events.MessageRefused(filter=error.filter, reason=str(error)))
        else:
            self._hub.emit(events.MalformedDropped(reason=str(error)))

    def _stray(self, count: int) -> None:
        self._count_stray(count)
        if self._hub.wants(events.LateReply):
            self._hub.emit(events.LateReply(count=count))
