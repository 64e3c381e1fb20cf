"""What an execution holds: its record, for a store that writes the answer in a transaction of the handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient_rpc.policies.idempotency.replies import Kept, keep_result

if TYPE_CHECKING:
    from resilient_rpc.policies.idempotency.policy import Idempotency
    from resilient_rpc.stores.base import RecordKey, Store
    from resilient_rpc.wire.codec import Codec


class Claim:
    """Of one execution; the handler has it as `ctx.claim`."""

    __slots__ = ("_codec", "_fingerprint", "_limit", "epoch", "key", "store", "ttl", "written")

    def __init__(self, rules: Idempotency, key: RecordKey, fingerprint: bytes, epoch: int, codec: Codec) -> None:
        self.store: Store = rules.store
        """Where the record is."""
        self.key = key
        self.epoch = epoch
        self.ttl = rules.ttl
        """Seconds for which the answer is to be kept."""
        self.written = False
        """True once a transaction has the answer in it: if the handler fails then, it may be committed all the same."""
        self._fingerprint, self._codec, self._limit = fingerprint, codec, rules.max_result_bytes

    def kept(self, result: Any) -> Kept:
        """The answer as it is kept: what the policy itself would record for this result."""
        return keep_result(self._fingerprint, self._codec, result, self._limit)
