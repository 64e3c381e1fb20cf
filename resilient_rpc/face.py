"""What both clients share: settings, statistics, events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar, overload

from resilient_rpc import forking
from resilient_rpc.call import UNSAFE, Safety
from resilient_rpc.caller import Caller
from resilient_rpc.chain import Plan
from resilient_rpc.chain.classes import check_classes
from resilient_rpc.chain.reload import hand_over
from resilient_rpc.discovering import DiscoveringCaller
from resilient_rpc.errors import ConfigurationError, RemoteError, UsageError
from resilient_rpc.events import ChainReloaded, Event, ReloadFailed
from resilient_rpc.hub import Events
from resilient_rpc.names import check_name
from resilient_rpc.options import CallerOptions, default_policies
from resilient_rpc.policy import Policy
from resilient_rpc.service import Service
from resilient_rpc.settings import check_flag, check_safety
from resilient_rpc.stats import CallStats, StatsSnapshot
from resilient_rpc.transport.batching import Batching
from resilient_rpc.transport.naming import Naming
from resilient_rpc.transport.open import open_transport
from resilient_rpc.transport.options import LinkOptions
from resilient_rpc.transport.reply_queues import Direct, ReplyStrategy
from resilient_rpc.typed import typed_service
from resilient_rpc.wire.codec import CODECS, JSON
from resilient_rpc.wire.filters import Filter, check_filters
from resilient_rpc.wire.limits import Limits

E = TypeVar("E", bound=Event)
T = TypeVar("T")


DEFAULT_TIMEOUT = 30.0
"""Seconds for the calls of a client that was given no timeout."""
CODEC_NAMES = {"json": JSON.content_type, "msgpack": "application/msgpack"}


class Face:
    """What both clients share: settings, statistics, events."""

    _awaits: ClassVar[bool]
    """Its calls are awaited."""

    def __init__(
        self,
        url: str,
        *,
        policies: Sequence[Policy] | None = None,
        timeout: float | None = None,
        safety: Safety | str | Mapping[str, Safety | str] = Safety.UNSAFE,
        discover: bool = False,
        errors: Iterable[type[RemoteError]] = (),
        codec: str = "json",
        batching: Batching | None = Batching(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        links: int = 1,
        max_pending: int = 250_000,
        prefix: str = "rpc.",
        version: str | None = None,
        environment: str | None = None,
        replies: ReplyStrategy = Direct(),  # noqa: B008 - frozen
        correlation: str = "sequence",
        app_id: str | None = None,
        user_id: bool | str = False,
        lane: bool = True,
        filters: Sequence[Filter] = (),
        liveness: float | None = 10.0,
        when_no_server: str = "wait",
    ) -> None:
        safeties = _safeties(safety)
        self._transport = open_transport(url, lane=lane)
        self._plan = _plan(policies, safeties)
        self._options = CallerOptions(
            policies=self._plan.policies,
            timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
            timeout_given=timeout is not None,
            safety=safeties,
            errors=_registry(errors),
            codec=CODECS[_content_type(codec)],
            links=links,
            link=LinkOptions(
                batching=batching,
                limits=limits,
                max_pending=max_pending,
                app_id=app_id,
                user_id=_named_user(user_id, self._transport.user),
                filters=check_filters(filters),
                liveness=liveness,
                replies=replies,
                correlation=correlation,
                when_no_server=when_no_server,
            ),
            naming=Naming(prefix=prefix, version=version, environment=environment),
        )
        self._events = Events()
        self._stats = CallStats()
        self._discover = check_flag(discover, "discover")
        self._plain: set[str] = set()
        self._caller: Caller | None = None
        self._newest: Caller | None = None
        self._reloading = threading.Lock()
        self._closed = False
        forking.register(self)

    def after_fork(self) -> None:
        """The connections are the parent's; the child makes its own."""
        self._caller = self._newest = None
        self._reloading = threading.Lock()
        self._stats = CallStats()

    def on(self, event_type: type[E], hook: Callable[[E], object]) -> Callable[[], None]:
        """Have `hook` called with every event of a type; it must not wait. Returns what ends the subscription."""
        return self._events.on(event_type, hook)

    def describe(self, method: str | None = None) -> list[str]:
        """The policies with their settings, the outermost first; those of one method or service, when it is given."""
        return self._plan.describe(method)

    def reload(self, policies: Sequence[Policy] | None = None) -> None:
        """Take over another chain (None: the default one), from any thread; calls under way end on the one they have.

        State is kept: a policy takes over that of the one of its class and `name`, wherever it stood. A chain that is
        wrong raises `ConfigurationError`, and nothing changes. Announced by `ChainReloaded` or `ReloadFailed`.
        """
        if self._closed:
            raise UsageError("the client is closed")
        with self._reloading:
            before, failed = self._plan, self._replace_plan(policies)
            after = self._plan
        if failed is not None:
            self._events.emit(ReloadFailed(error=failed, kept=tuple(before.describe())))
            raise failed
        self._events.emit(ChainReloaded(before=tuple(before.describe()), after=tuple(after.describe())))

    def _replace_plan(self, policies: Sequence[Policy] | None) -> ConfigurationError | None:
        try:
            plan = _plan(policies, self._options.safety)
            hand_over(self._plan.policies, plan.policies)
        except ConfigurationError as error:
            return error
        self._plan = plan
        self._options = replace(self._options, policies=plan.policies)
        if self._newest is not None:
            self._newest.install(plan.policies)
        return None

    def stats(self) -> StatsSnapshot:
        """Counts, rates and times of the calls of this client."""
        return self._stats.snapshot()

    @overload
    def service(self, name: str, *, dialect: Literal["full", "plain"] | None = None) -> Service: ...

    @overload
    def service(
        self, name: str, contract: Callable[..., T], *, dialect: Literal["full", "plain"] | None = None
    ) -> T: ...

    def service(self, name: str, contract: Any = None, *, dialect: Literal["full", "plain"] | None = None) -> Any:
        """The methods of a service as attributes: ``orders = client.service("orders"); orders.price(sku="A1")``.

        `contract`: a class, say a Protocol, with the methods of the service: their arguments are bound to its names,
        results decoded into its types, and type checkers know them. With `AsyncClient` they are ``async def``.
        `remote` says of a method what its signature cannot; `Contract` brings `with_` into its type. Raises
        `ConfigurationError`, naming the method, for a contract that cannot be one.

        ``dialect="plain"`` declares, for all calls of this client to it, that its servers know JSON-RPC and nothing of
        this library: they are sent no `meta`, so no tags and no keys (a call with one is refused), and no batches.
        ``"full"`` takes that back; None leaves it as it is.
        """
        self._speak(check_name(name, "service"), dialect)
        call: Any = self.call  # type: ignore[attr-defined]  # both faces have it
        if contract is None:
            return Service(call, name)
        return typed_service(call, name, contract, self._options.codec, awaits=self._awaits)

    def _speak(self, service: str, dialect: Any) -> None:
        if dialect is None:
            return
        if dialect not in {"full", "plain"}:
            raise ConfigurationError(f"dialect={dialect!r:.100}: give 'full' or 'plain'")
        (self._plain.add if dialect == "plain" else self._plain.discard)(service)
        if self._newest is not None:
            self._newest.spell(service)

    def _new_caller(self) -> Caller:
        with self._reloading:  # none may begin with the chain of before while another one takes its place
            if self._closed:
                raise UsageError("the client is closed")
            kind = DiscoveringCaller if self._discover else Caller
            self._newest = kind(self._options, self._events, self._stats, self._plain)
            return self._newest


def _plan(policies: Iterable[Policy] | None, safety: Safety | Mapping[str, Safety]) -> Plan:
    if policies is not None and not isinstance(policies, Iterable):
        raise ConfigurationError(f"policies={policies!r:.200}: give a list of policies")
    plan = Plan(default_policies() if policies is None else policies)
    if safety is not UNSAFE:  # which is what nobody has declared: a call, or its contract, may say more
        check_classes(plan.policies, safety)
    return plan


def _named_user(user_id: Any, own: str | None) -> str | None:
    """What requests say of who sends them."""
    if isinstance(user_id, str) and user_id:
        return user_id
    if not isinstance(user_id, bool):
        raise ConfigurationError(f"user_id={user_id!r:.200}: give True, False, or the user's name")
    if user_id and own is None:
        raise ConfigurationError(
            "user_id=True: a certificate names the user; give what the broker calls it: user_id='...'"
        )
    return own if user_id else None


def _safeties(safety: Safety | str | Mapping[str, Safety | str]) -> Safety | dict[str, Safety]:
    if isinstance(safety, Mapping):
        return {method: check_safety(value) for method, value in safety.items()}
    return check_safety(safety)


def _registry(errors: Iterable[Any]) -> dict[str, type[RemoteError]]:
    found: dict[str, type[RemoteError]] = {}
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, RemoteError) and error.type):
            raise ConfigurationError(f"errors={error!r}: give subclasses of ApplicationError with a `type`")
        found[error.type] = error
    return found


def _content_type(codec: str) -> str:
    if codec not in CODEC_NAMES:
        raise ConfigurationError(f"codec={codec!r}: give one of {', '.join(CODEC_NAMES)}")
    return CODEC_NAMES[codec]
