"""Policies and filters by name: those that come with the library, and those of installed packages.

A package offers one by an entry point; nothing of it is imported before its name is asked for::

    [project.entry-points."resilient_rpc.policies"]
    example = "resilient_rpc_example:Example"
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.policy import Policy
from resilient_rpc.spelling import choice

log = logging.getLogger(__name__)

BUILT_IN = "built in"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a name stands for."""

    name: str
    origin: str
    """``built in``, or the distributions that offer it, with version and object."""
    problem: str = ""
    """Why the name is not, or not only, what it seems: another distribution offers it as well."""


class Registry:
    """One kind of thing by name. Safe from any thread; a name that was installed meanwhile is found.

    Args:
        group: The entry-point group.
        noun: The kind, for messages.
        methods: What an object of this kind can do; a class without one of them is not accepted.
        package: The module whose classes of this kind are built in, by their names in snake case.
    """

    def __init__(self, group: str, noun: str, *, methods: tuple[str, ...], package: str | None = None) -> None:
        self.group, self.noun = group, noun
        self._methods, self._package = methods, package

    def known(self) -> dict[str, Known]:
        """All names with their origins, sorted. Imports no plug-in, and finds faults only in the names."""
        built_in, offered = self._built_in(), self._offered()
        return {name: _known(name, name in built_in, offered.get(name, [])) for name in sorted({*built_in, *offered})}

    def load(self, name: str) -> Callable[..., Any]:
        """The class (or the factory) of this name.

        A built-in name stands for what is built in, whatever is installed; that somebody else offers it is logged.

        Raises:
            ConfigurationError: nobody offers the name, or more than one distribution does; the plug-in cannot be
                imported, or is none of this kind. The message names the distribution.
        """
        if not isinstance(name, str):
            raise ConfigurationError(f"the name of a {self.noun} is a text, not {name!r:.200}")
        built_in, offered = self._built_in(), self._offered().get(name, [])
        if name in built_in:
            if offered:
                log.warning("%s", _known(name, True, offered).problem)
            return built_in[name]
        if not offered:
            raise ConfigurationError(self._unknown(name))
        if len(offered) > 1:
            raise ConfigurationError(f"{_known(name, False, offered).problem}; uninstall all but one")
        return self._import(offered[0])

    def make(self, name: str, settings: Mapping[str, Any]) -> Any:
        """An object of this kind, with these settings; ConfigurationError when it does not take them."""
        factory = self.load(name)
        if unknown := _unknown_setting(factory, settings):
            raise ConfigurationError(f"the {self.noun} {name!r} {unknown}")
        try:
            made = factory(**settings)
        except ConfigurationError:
            raise
        except TypeError as error:
            raise ConfigurationError(f"{self._named(name)} does not take these settings: {error}") from error
        except Exception as error:
            raise ConfigurationError(f"{self._named(name)} cannot be made: {type(error).__name__}: {error}") from error
        if isinstance(made, type) or self._missing(type(made)):
            raise ConfigurationError(f"{self._named(name)} is a function that made {made!r:.200}, which is none")
        return made

    def _named(self, name: str) -> str:
        offered = [] if name in self._built_in() else self._offered().get(name, [])
        return f"the {self.noun} {name!r}{''.join(f' of {_origin(point)}' for point in offered)}"

    def _built_in(self) -> dict[str, Callable[..., Any]]:
        if self._package is None:
            return {}
        module = importlib.import_module(self._package)
        objects = [getattr(module, name) for name in module.__all__]
        return {_snake(kind.__name__): kind for kind in objects if isinstance(kind, type) and not self._missing(kind)}

    def _offered(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            same = found.setdefault(point.name, [])
            if all(_origin(point) != _origin(other) for other in same):
                same.append(point)
        return found

    def _unknown(self, name: str) -> str:
        return f"there is no {self.noun} {name!r:.100}; {choice(_snake(name), self.known())}"

    def _import(self, point: EntryPoint) -> Callable[..., Any]:
        what = f"the {self.noun} {point.name!r} of {_origin(point)}"
        try:
            found = point.load()
        except (Exception, SystemExit) as error:
            raise ConfigurationError(f"{what} cannot be loaded: {type(error).__name__}: {error}") from error
        if not callable(found):
            raise ConfigurationError(f"{what} is {found!r}; expected a class, or a function that makes one")
        if isinstance(found, type) and (missing := self._missing(found)):
            raise ConfigurationError(f"{what} is no {self.noun}: {found.__name__} has no {missing}")
        factory: Callable[..., Any] = found
        return factory

    def _missing(self, kind: type) -> str:
        # Looked up in its bases: every class can be called itself, by way of its own type.
        lacking = [name for name in self._methods if not any(name in vars(base) for base in kind.__mro__)]
        return " and no ".join(lacking)


def _known(name: str, built_in: bool, offered: list[EntryPoint]) -> Known:
    origins = [_origin(point) for point in offered]
    if built_in:
        problem = f"the name {name!r} is built in, and {' and '.join(origins)} cannot have it" if origins else ""
        return Known(name=name, origin=BUILT_IN, problem=problem)
    problem = f"the name {name!r} is offered by {' and by '.join(origins)}" if len(origins) > 1 else ""
    return Known(name=name, origin=", ".join(origins), problem=problem)


def _origin(point: EntryPoint) -> str:
    whose = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown distribution"
    return f"{whose} ({point.value})"


def _unknown_setting(factory: Callable[..., Any], settings: Mapping[str, Any]) -> str:
    """What to say of the first setting that a class of data does not have; empty: none, or nobody knows."""
    if not (isinstance(factory, type) and dataclasses.is_dataclass(factory)):
        return ""
    known = [item.name for item in dataclasses.fields(factory) if item.init]
    unknown = next((setting for setting in settings if setting not in known), None)
    if unknown is None:
        return ""
    return f"has no setting {unknown!r:.100}; {choice(unknown, known)}"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")


policies = Registry("resilient_rpc.policies", "policy", methods=("__call__",), package="resilient_rpc.policies")
filters = Registry(
    "resilient_rpc.filters", "filter", methods=("outgoing", "incoming"), package="resilient_rpc.wire.compression"
)


def known_policies() -> dict[str, Known]:
    """The names of all policies that are built in or installed, with their origins. Imports no plug-in."""
    return policies.known()


def load_policy(name: str) -> Callable[..., Policy]:
    """The class (or the factory) of the policy of this name; see `Registry.load`."""
    return policies.load(name)


def policy(name: str, /, **settings: Any) -> Policy:
    """The policy of this name with these settings: ``policy("deadline", limit=20.0)``.

    What is positional in its class, such as a store, is given by its name. See `Registry.load` for the errors.
    """
    made: Policy = policies.make(name, settings)
    return made
