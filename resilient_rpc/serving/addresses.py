"""Where a reply may be sent: `reply_to` is written by whoever sent the message, and we publish with our own rights."""

from __future__ import annotations

import re
from collections.abc import Sequence

from resilient_rpc.serving.doubts import Bans

MAX_ADDRESS = 255
_DIRECT = re.compile(r"amq\.rabbitmq\.reply-to\.[A-Za-z0-9+/=_-]{1,160}\.[A-Za-z0-9+/=_-]{1,64}")
"""A well-formed direct reply-to address: a broker before 4.2 closes the connection of whoever publishes to another."""
_GENERATED = re.compile(r"amq\.gen-[A-Za-z0-9_-]{1,64}")
_NAMED = re.compile(r"[A-Za-z0-9_.:-]+")
DEFAULT_PREFIXES = ("rpc.reply.",)


class Addresses:
    """Decides which reply addresses are accepted: direct reply-to, broker-made names, and names with a known prefix."""

    def __init__(self, prefixes: Sequence[str] = DEFAULT_PREFIXES) -> None:
        self._prefixes = tuple(prefixes)
        self._good: set[str] = set()
        self.bans = Bans(self._good.clear)
        """What is refused in spite of its form."""

    def accept(self, address: object) -> bool:
        """Whether a reply may go there."""
        if type(address) is not str:
            return False
        if address in self._good:
            return True
        if len(address) > MAX_ADDRESS:
            return False
        good = bool(
            _DIRECT.fullmatch(address)
            or _GENERATED.fullmatch(address)
            or (address.startswith(self._prefixes) and _NAMED.fullmatch(address))
        ) and not self.bans.stand(address)
        if good:
            if len(self._good) >= 10_000:  # noqa: PLR2004 - callers come and go
                self._good.clear()
            self._good.add(address)
        return good
