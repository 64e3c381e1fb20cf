"""LeasingPublisher: a reply queue for each message."""

from __future__ import annotations

from resilient_rpc.transport.memory.publisher import MemoryPublisher
from resilient_rpc.transport.memory.reply_boxes import ReplyBoxes, generated_name


class LeasingPublisher(MemoryPublisher):
    """`transport.base.Leasing` on a bus."""

    boxes: ReplyBoxes

    def lease(self) -> str:
        """See `transport.base.Leasing`."""
        name = generated_name()
        with self._turn:
            if self._end is None:
                self.do(self.boxes.add, name)
        return name

    def release(self, address: str) -> None:
        """See `transport.base.Leasing`."""
        with self._turn:
            if self._end is None:
                self.do(self.boxes.remove, address)
