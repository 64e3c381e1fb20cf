"""Services that know JSON-RPC and nothing of this library: what a call to them does without."""

from __future__ import annotations

from resilient_rpc.call import Call
from resilient_rpc.errors import ConfigurationError


def check_plain(call: Call) -> None:
    """Refuse a call to a plain service that makes no sense without `meta`: one with a key. Tags just stay here.

    Raises:
        ConfigurationError: it has a key.
    """
    if call.key is not None:
        raise ConfigurationError(
            f"{call.method}: a call with an idempotency key, to a service of the dialect 'plain', which has none"
        )
