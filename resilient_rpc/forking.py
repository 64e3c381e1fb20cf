"""What a child process does with the state it has inherited: each object that shares state renews itself."""

from __future__ import annotations

import itertools
import logging
import os
import weakref
from typing import Protocol

log = logging.getLogger(__name__)


class Forked(Protocol):
    """An object whose locks, waiters or connections must not survive a fork."""

    def after_fork(self) -> None:
        """Begin anew, in the child: new locks, nobody waiting, nothing in flight. Must not block or use a loop."""


# Numbered, so that a child renews in the order in which things were made; by identity, so that nothing need be hashed.
_numbers = itertools.count()
_known: weakref.WeakValueDictionary[int, Forked] = weakref.WeakValueDictionary()


def register(thing: Forked) -> None:
    """Have `thing.after_fork()` called in every child process from now on. Held weakly: nothing need be taken back."""
    _known[next(_numbers)] = thing


def _renew() -> None:
    for thing in list(_known.values()):
        try:
            thing.after_fork()
        except Exception:
            log.exception("after a fork, %r could not be renewed", thing)


os.register_at_fork(after_in_child=_renew)
