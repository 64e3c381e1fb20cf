"""Acks of one channel, in as few frames as their order allows."""

from __future__ import annotations

from collections.abc import Callable

Send = Callable[[int, bool], None]
LEISURE = 0.02
"""Seconds that a rejection waits for acks to go with: nobody waits for it, and alone it costs a system call."""


class Acks:
    """Gathers what a tick acks. What is done from the oldest delivery on without a gap is one ack with `multiple`.

    A broker works on every ack by itself, about as long as on a delivery; a busy server's acks come in order but for a
    few. Tags are the channel's: they count from 1, without a gap.
    """

    __slots__ = ("_due", "_later", "_low", "_reject", "_rejected", "_send", "_settled", "_some_time", "_waiting")

    def __init__(
        self,
        later: Callable[[Callable[[], None]], object],
        send: Send,
        *,
        some_time: Callable[[float, Callable[[], None]], object] = lambda _seconds, flush: flush(),
        reject: Callable[[int], None] = lambda _tag: None,
    ) -> None:
        """`later`: the loop's call_soon; `send`: one frame, tag and `multiple`.

        `some_time`: its call_later; `reject`: one frame that has the broker bury a message. For those who `reject`.
        """
        self._later, self._send, self._some_time, self._reject = later, send, some_time, reject
        self._rejected: list[int] = []
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

    def reject(self, tag: int) -> None:
        """Have the broker bury it, with the next acks."""
        self._rejected.append(tag)
        if len(self._rejected) == 1:
            self._some_time(LEISURE, self.flush)

    def skip(self, tag: int) -> None:
        """It was settled otherwise (nack)."""
        self._settled.add(tag)

    def flush(self) -> None:
        """Send what was gathered."""
        self._due = False
        if self._rejected:  # first: an ack with `multiple` would take them along
            for tag in self._rejected:
                self._reject(tag)
            self._settled.update(self._rejected)
            self._rejected.clear()
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
