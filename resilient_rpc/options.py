"""What a client was configured with, checked; and the policies of one that names none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from resilient_rpc.call import UNSAFE, Safety
from resilient_rpc.errors import ConfigurationError, RemoteError
from resilient_rpc.policies import AttemptTimeout, CircuitBreaker, Retry
from resilient_rpc.policy import Policy
from resilient_rpc.settings import check_timeout
from resilient_rpc.transport.naming import Naming
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.wire.codec import JSON, Codec


def default_policies() -> list[Policy]:
    """What ``policies=None`` means. New ones each time: a client's state is its own."""
    return [Retry(), CircuitBreaker(), AttemptTimeout(limit=10.0, repeatable_only=True)]


@dataclass(frozen=True, kw_only=True)
class CallerOptions:
    """What a client was configured with."""

    policies: Sequence[Policy]
    timeout: float
    safety: Safety | Mapping[str, Safety]
    errors: Mapping[str, type[RemoteError]]
    codec: Codec = JSON
    links: int = 1
    link: LinkOptions = field(default_factory=LinkOptions)
    naming: Naming = field(default_factory=Naming)
    timeout_given: bool = True
    """False: `timeout` is what a client has that names none."""

    def __post_init__(self) -> None:
        check_timeout(self.timeout, "timeout")
        if type(self.links) is not int or self.links < 1:
            raise ConfigurationError(f"links={self.links!r}: give a whole number of at least 1")

    def safety_of(self, method: str) -> Safety:
        """The class of a method that neither the call nor a contract names."""
        if isinstance(self.safety, Safety):
            return self.safety
        return self.safety.get(method, UNSAFE)

    def names(self, method: str) -> bool:
        """Whether the client was told the class of a method."""
        return self.safety is not UNSAFE if isinstance(self.safety, Safety) else method in self.safety
