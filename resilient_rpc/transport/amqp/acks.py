"""Acks of one channel, in as few frames as their order allows."""

from __future__ import annotations

from collections.abc import Callable

Send = Callable[[int, bool], None]


class Acks:
    """Gathers what a tick acks. What is done from the oldest delivery on without a gap is one ack with `multiple`.

    A broker works on every ack by itself, about as long as on a delivery; a busy server's acks come in order but for a
    few. Tags are the channel's: they count from 1, without a gap.
    """

    __slots__ = ("_due", "_later", "_low", "_send", "_settled", "_waiting")

    def __init__(self, later: Callable[[Callable[[], None]], object], send: Send) -> None:
        """`later`: the loop's call_soon; `send`: one frame, tag and `multiple`."""
        self._later, self._send = later, send
        self._low = 1
        """The oldest tag that is not settled."""
        self._waiting: set[int] = set()
        self._settled: set[int] = set()
        """Tags above the oldest whose ack or nack has been sent."""
        self._due = False

    def add(self, tag: int) -> None:
        """Ack it in this tick."""
        self._waiting.add(tag)
        if not self._due:
            self._due = True
            self._later(self.flush)

    def skip(self, tag: int) -> None:
        """It was settled otherwise (nack)."""
        self._settled.add(tag)

    def flush(self) -> None:
        """Send what was gathered."""
        self._due = False
        waiting, settled, low = self._waiting, self._settled, self._low
        last = count = 0
        while True:
            if low in waiting:
                waiting.discard(low)
                last, count = low, count + 1
            elif low in settled:
                settled.discard(low)
            else:
                break
            low += 1
        self._low = low
        if count:
            self._send(last, count > 1)
        for tag in sorted(waiting):  # done before an older one
            self._send(tag, False)
            settled.add(tag)
        waiting.clear()
