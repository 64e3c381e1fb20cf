"""`reference/`: every public name stands there once, and nothing else does."""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from typing import Any

import pytest

import resilient_rpc
from resilient_rpc import errors, events, policies, replies, stores, testing
from tests.docs.blocks import DOCS, rows_of

REFERENCE = sorted((DOCS / "reference").glob("*.md"))
SHOWN = [name for page in REFERENCE for name in re.findall(r"(?m)^::: (\S+)$", page.read_text(encoding="utf-8"))]


def _found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _kinds(module: Any, base: type) -> dict[str, Any]:
    """What a module without `__all__` defines for its users: all classes of one tree."""
    return {name: kind for name, kind in vars(module).items() if inspect.isclass(kind) and issubclass(kind, base)}


PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (resilient_rpc, policies, stores, replies, testing)
    for name in module.__all__
} | {
    f"{module.__name__}.{name}": kind
    for module, base in ((errors, errors.RpcError), (events, events.Event))
    for name, kind in _kinds(module, base).items()
}


@pytest.mark.parametrize("path", PUBLIC)
def test_every_public_name_stands_in_the_reference(path: str) -> None:
    assert any(_found(shown) is PUBLIC[path] for shown in SHOWN)


@pytest.mark.parametrize("path", SHOWN)
def test_what_stands_there_can_be_imported_from_there_by_users(path: str) -> None:
    assert path in PUBLIC
    assert Counter(SHOWN)[path] == 1
    assert sum(_found(other) is PUBLIC[path] for other in SHOWN) == 1, "twice, under two names"


def test_the_list_of_the_pages_is_complete() -> None:
    listed = {re.findall(r"\((\S+)\)", row[0])[0] for row in rows_of(DOCS / "reference" / "index.md")}
    assert listed == {page.name for page in REFERENCE} - {"index.md"}
