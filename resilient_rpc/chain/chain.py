"""The chain of a client: its policies, what it makes of each call, and how it is shown."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from resilient_rpc.chain.binding import bind
from resilient_rpc.chain.faults import Blame
from resilient_rpc.chain.guard import Guard, is_trusted
from resilient_rpc.chain.order import check_order, name_of, role_of
from resilient_rpc.chain.overrides import Override, plain, resolve
from resilient_rpc.remembered import Remembered

if TYPE_CHECKING:
    from resilient_rpc.call import Call, Reply
    from resilient_rpc.policy import Handler, Policy


class Plan:
    """Policies in order, the first outermost. A `for_` among them changes the chain of some calls.

    ConfigurationError when one is not a policy, or stands where it cannot do its work: a policy may name roles that it
    must stand `above` (outside of) or `below` (inside of), as a collection, or as a mapping from role to the reason;
    and, in `excludes`, roles that it cannot stand together with, each with the reason.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies = tuple(policies)
        self._base = plain(self.policies)
        check_order(self._base)
        self._changed = resolve(self.policies)

    def describe(self, method: str | None = None) -> list[str]:
        """Each policy with its settings, the outermost first; of `method` (or service) alone, when it is given."""
        if method is None:
            return [_describe(policy) for policy in self.policies]
        return [_describe(policy) for policy in _find(self._changed, method, self._base)]

    def outermost(self, method: str) -> Policy | None:
        """The first policy in the chain of a method; None: it has none."""
        return next(iter(_find(self._changed, method, self._base)), None)

    def find(self, method: str, role: str) -> Policy | None:
        """The outermost policy of this role in the chain of a method; None: there is none."""
        chain = _find(self._changed, method, self._base)
        return next((policy for policy in chain if role_of(policy) == role), None)

    def __str__(self) -> str:
        return " → ".join(self.describe()) or "no policies"


class Chain(Plan):
    """A plan carried out around `terminal`."""

    def __init__(self, policies: Iterable[Policy], terminal: Handler) -> None:
        super().__init__(policies)
        self._blame = Blame([*self._base, *(p for chain in self._changed.values() for p in chain)], terminal)
        self.handler: Handler = self._compose(self._base, terminal)
        if self._changed:
            changed = {pattern: self._compose(chain, terminal) for pattern, chain in self._changed.items()}
            self.handler = _choose(self.handler, changed)

    def contain(self, call: Call, error: BaseException) -> BaseException:
        """What the caller gets for something that is no `RpcError` and came out of the chain."""
        return self._blame.failed(call, error, None, None) if isinstance(error, Exception) else error

    def _compose(self, policies: Sequence[Policy], terminal: Handler) -> Handler:
        handler = terminal
        for policy in reversed(policies):
            handler = bind(policy, handler) if is_trusted(policy) else Guard(policy, handler, self._blame).handler
        return handler


def _choose(base: Handler, changed: Mapping[str, Handler]) -> Handler:
    routes: Remembered[Handler] = Remembered(lambda method: _find(changed, method, base))

    def handler(call: Call) -> Coroutine[Any, Any, Reply]:
        return routes[call.method](call)

    return handler


def _find(changed: Mapping[str, Any], method: str, base: Any) -> Any:
    """What stands for the method, else for its service, else `base`."""
    found = changed.get(method)
    return found if found is not None else changed.get(method.partition(".")[0], base)


def _describe(policy: Any) -> str:
    plain_repr = type(policy).__repr__ in (object.__repr__, type(name_of).__repr__)  # an address, not a setting
    return repr(policy) if isinstance(policy, Override) or not plain_repr else name_of(policy)
