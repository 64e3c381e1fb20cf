"""Signatures that were seen, for as long as they are valid: what comes a second time is a replay."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Seen:
    """Remembers at most `most` signatures, in groups that expire together. Safe from any thread, and without a lock.

    When it is full the group that would expire first is forgotten, and that is logged once: its messages could be
    replayed until they expire.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._groups: dict[int, dict[bytes, object]] = {}
        self._count = 0
        self._warned = False

    def __len__(self) -> int:
        return sum(map(len, list(self._groups.values())))

    def first(self, mac: bytes, expires: float, now: float) -> bool:
        """Whether this is the first time; remembered until `expires`, which is the same whenever it is asked."""
        key = int(expires) + 1
        group = self._groups.get(key)
        if group is None:
            self._forget(now)
            group = self._groups.setdefault(key, {})
        mine = object()
        if group.setdefault(mac, mine) is not mine:  # one step: of two threads, one is the first
            return False
        self._count += 1  # may miss one in a race: it bounds memory, and is counted anew in `_forget`
        if self._count > self._most:
            self._make_room(now)
        return True

    def _forget(self, now: float) -> None:
        for key in [key for key in list(self._groups) if key < now]:
            self._groups.pop(key, None)
        self._count = len(self)

    def _make_room(self, now: float) -> None:
        self._forget(now)
        while self._count > self._most and len(self._groups) > 1:
            if not self._warned:
                self._warned = True
                log.warning("more than %d signatures are valid: the oldest could be replayed", self._most)
            self._groups.pop(min(list(self._groups)), None)
            self._count = len(self)
