"""Where the replies to a client arrive: ``Client(url, replies=Named(app="shop"))``. See each for what it is for."""

from __future__ import annotations

from resilient_rpc.transport.reply_queues import Direct, Exclusive, Named, PerCall, Pool

__all__ = ["Direct", "Exclusive", "Named", "PerCall", "Pool"]
