"""What the policy needs to know of a call that is being served, besides the call itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from resilient_rpc.context import Context
    from resilient_rpc.wire.codec import Codec


@runtime_checkable
class Served(Protocol):
    """One call on its way through a server; the server's own record of it."""

    began: int
    """How often a policy has let the handler begin."""
    ended: int
    """How often the handler has ended."""
    asking: bool
    """It waits for the store of `parking`."""
    replayed: bool
    """The caller is told that the answer is a repeated one."""

    @property
    def parking(self) -> object | None:
        """The policy that may have it wait without a task: no frame of anybody else's is around its own."""

    @property
    def params(self) -> Mapping[str, Any]:
        """The arguments that were sent, decoded, by name."""

    @property
    def running(self) -> bool:
        """Whether the handler runs on where nobody can stop it, whatever has become of the call."""

    @property
    def context(self) -> Context:
        """What the handler is given."""

    @property
    def codec(self) -> Codec:
        """What the reply is written in."""

    @property
    def places(self) -> int:
        """Calls that may wait without a slot."""

    @property
    def tenant(self) -> str:
        """Whose keys these are: nothing that a message says of itself."""

    def hold(self, retry_after: float) -> None:
        """From here on the outcome is recorded: who does not get it in time is told that it is in progress."""

    def step_out(self) -> None:
        """Give the slot to another call, and wait without one."""

    async def step_in(self) -> None:
        """Wait for a slot again; nothing where there is one."""
