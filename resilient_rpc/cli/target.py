"""From ``module:server`` to the server."""

from __future__ import annotations

import importlib
import logging
import operator
import sys
from pathlib import Path
from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.server import Server

log = logging.getLogger(__name__)


def load_server(target: str) -> Server:
    """Import what `target` names, from the current directory or an installed package.

    ``module:name`` is a `Server`, or a function without arguments that makes one. Raises `ConfigurationError`, in one
    line, for all that can be wrong with it.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise ConfigurationError(f"{target!r}: give it as module:server, such as shop.orders:server")
    found = _attribute(_import(module_name), module_name, name)
    if callable(found) and not isinstance(found, Server):
        found = _make(found, target)
    if not isinstance(found, Server):
        what = type(found).__name__
        raise ConfigurationError(f"{target} is of type {what}, not a Server nor a function that makes one")
    return found


def _import(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        log.debug("importing %s failed", name, exc_info=True)
        raise ConfigurationError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error


def _attribute(module: Any, module_name: str, name: str) -> Any:
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        raise ConfigurationError(f"{module_name!r} has no {name!r}") from None


def _make(factory: Any, target: str) -> Any:
    try:
        return factory()
    except Exception as error:
        log.debug("%s() failed", target, exc_info=True)
        raise ConfigurationError(f"{target}() failed: {type(error).__name__}: {error}") from error
