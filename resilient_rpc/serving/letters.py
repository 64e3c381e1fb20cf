"""The messages that a server holds: taken and not done with, or answered a moment ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from resilient_rpc.serving.home import Home
from resilient_rpc.serving.inlet import InletLetter
from resilient_rpc.serving.job import Letter

REMEMBERED = 10_000
"""Answered messages whose ids are kept, for copies that come again because their ack was lost."""


class Letters:
    """Lives on the server's loop."""

    home: Home
    """Of what came from the queue of the service. It is known only after the way out is made, which reports to us."""

    settled: Callable[[], None]
    """Called whenever one is done with."""

    def __init__(self) -> None:
        self.held: dict[object, Letter] = {}
        self._recent: OrderedDict[object, None] = OrderedDict()

    def known(self, letter: Letter) -> bool:
        """A copy of what is running here, or was answered: its ack was lost with the session, nothing else."""
        if letter.ours:
            running = self.held.get(letter.key)
        else:
            running = next((known for known in self.held.values() if letter.is_copy_of(known)), None)
        if running is not None:
            if running.session is letter.session:  # a second copy, not the same one again
                letter.session.ack(letter.tag)
            else:
                running.session, running.tag = letter.session, letter.tag
            return True
        if letter.key in self._recent:
            letter.session.ack(letter.tag)
            return True
        return False

    def answered(self, letter: Letter) -> None:
        """All of a message is done with: ack, once what is dead of it is with the broker."""
        if letter.deaths:
            self.home_of(letter).dead.bury(letter)
            return
        key = letter.key
        if key is not letter:
            self._recent[key] = None
            if len(self._recent) > REMEMBERED:
                self._recent.popitem(last=False)
        self.settle(letter, ok=True)

    def settle(self, letter: Letter, ok: bool) -> None:
        """Nothing is left to do for a message, or another one stands for it; not ok: that could not be sent."""
        key = letter.key
        if self.held.get(key) is letter:
            del self.held[key]
        if ok:
            letter.session.ack(letter.tag)
        else:
            letter.session.nack(letter.tag, requeue=False)  # the broker's own way to the dead letters
        if letter.returns and (returns := self.home_of(letter).returns) is not None:
            returns.ended(letter)
        self.settled()

    def requeue(self, letter: Letter) -> None:
        """Another server is to have it."""
        self.held.pop(letter.key, None)
        letter.session.nack(letter.tag, requeue=True)

    def home_of(self, letter: Letter) -> Home:
        """What belongs to the queue that a message came from."""
        return letter.inlet.home if isinstance(letter, InletLetter) else self.home
