"""Replies that share a message: those to one link, as many as may and as fit. Nothing here sends them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from resilient_rpc.serving.job import Letter
from resilient_rpc.transport.batching import Batching
from resilient_rpc.wire.codec import Codec
from resilient_rpc.wire.envelope import VERSION
from resilient_rpc.wire.filters import Message

Answered = tuple[Letter, bytes]
"""A letter, and the encoded reply to one of its calls."""
HEADERS = {"rpc-version": VERSION}
TYPE = "rpc.reply"


class Parcel:
    """One reply message: what it answers, and what it takes to send it again."""

    __slots__ = ("body", "codec", "letters", "tries")

    def __init__(self, letters: Sequence[Letter], body: bytes, codec: Codec) -> None:
        self.letters, self.body, self.codec = letters, body, codec
        self.tries = 0

    @property
    def target(self) -> str:
        """The address."""
        return self.letters[-1].reply_to


def joined(inbox: deque[Answered], batching: Batching | None) -> Iterator[Parcel]:
    """All of the inbox, which is empty afterwards; None: a message for each reply."""
    if len(inbox) == 1:
        letter, data = inbox.popleft()
        yield Parcel((letter,), data, letter.codec)
        return
    for answers in _by_link(inbox):
        yield from _packed(answers, batching)


def _by_link(inbox: deque[Answered]) -> Iterable[list[Answered]]:
    """One link's token stands before the dot of its correlation ids, and so in the address of a letter."""
    groups: dict[tuple[Codec, tuple[str, str], str | None, tuple[str, ...]], list[Answered]] = {}
    last: Letter | None = None
    found: list[Answered] = []
    while inbox:
        answered = inbox.popleft()
        letter = answered[0]
        if letter is not last:
            last = letter
            found = groups.setdefault((letter.codec, letter.address, letter.principal, letter.accepts), [])
        found.append(answered)
    return groups.values()


def _packed(answers: list[Answered], batching: Batching | None) -> Iterator[Parcel]:
    most, most_bytes = (batching.max_calls, batching.max_bytes) if batching is not None else (1, 0)
    codec = answers[0][0].codec
    letters: list[Letter] = []
    bodies: list[bytes] = []
    size = 0
    for letter, data in answers:
        if letters and (len(letters) >= most or size + len(data) > most_bytes):
            yield Parcel(letters, bodies[0] if len(bodies) == 1 else codec.join(bodies), codec)
            letters, bodies, size = [], [], 0
        letters.append(letter)
        bodies.append(data)
        size += len(data) + 1
    yield Parcel(letters, bodies[0] if len(bodies) == 1 else codec.join(bodies), codec)


def shown(letter: Letter, body: bytes, correlation: str, now: int) -> Message:
    """What filters are shown of a parcel that ends with this letter; its properties are those of the templates."""
    return Message(
        direction="reply",
        body=body,
        target=letter.reply_to,
        content_type=letter.codec.content_type,
        headers=HEADERS,
        correlation_id=correlation,
        type=TYPE,
        timestamp=now,
        message_id=correlation,
        principal=letter.principal,
        accepts=letter.accepts,
    )
