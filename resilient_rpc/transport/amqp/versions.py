"""What a broker cannot be trusted with, by the version that it says it has.

A broker that is no RabbitMQ, or says nothing that can be read, is trusted: we know nothing against it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

Version = tuple[int, int]
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
_SILENT = (3, 12), (4, 2)
"""From the first to before the second: see `directreply`."""
_FORGETFUL = (3, 10), (4, 3)
"""From the first to before the second: see `Broker.marks`."""


@dataclass(frozen=True)
class Broker:
    """A RabbitMQ of this version; None: something else."""

    version: Version | None = None
    said: str = ""
    """As it says it itself."""

    @classmethod
    def of(cls, properties: Mapping[str, Any] | None) -> Self:
        """Read it off what a broker says of itself when a connection is opened."""
        product, said = ((properties or {}).get(name) for name in ("product", "version"))
        if product != "RabbitMQ" or not isinstance(said, str) or (found := _VERSION.match(said)) is None:
            return cls()
        return cls((int(found[1]), int(found[2])), f"RabbitMQ {said[:20]}")

    @property
    def drops_first_replies(self) -> bool:
        """Whether it drops direct replies for a moment after its start, though it accepts connections."""
        return self._within(_SILENT)

    @property
    def marks(self) -> bool:
        """Whether it marks what it delivers again from classic queues, come what may.

        Those before 4.3 count deliveries by the numbers of messages, and stop where a number is missing. It is missing
        for each transient message that waited when the broker was stopped in good order: 3.10.8 marks nothing in such
        a queue from then on; nor does 4.0.5, unless it takes the stop for a crash, and begins anew.
        """
        return not self._within(_FORGETFUL)

    def _within(self, versions: tuple[Version, Version]) -> bool:
        return self.version is not None and versions[0] <= self.version < versions[1]
