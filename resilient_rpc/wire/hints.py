"""What a reply says about its own caching: written by handlers, and read as the word of a stranger."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from resilient_rpc.call import CacheHints
from resilient_rpc.errors import ConfigurationError

MAX_AGE = 86_400.0
"""Seconds, a day: no hint keeps a value for longer."""
MAX_TAGS = 32
MAX_TAG = 200
"""Characters."""


def check_hints(max_age: Any, no_store: bool, tags: Any) -> CacheHints:
    """What a handler says; `ConfigurationError` for what is of the wrong type. A negative age is 0."""
    if max_age is not None and not _is_number(max_age):
        raise ConfigurationError(f"max_age={max_age!r}: give a number of seconds, or None")
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise ConfigurationError(f"tags={tags!r:.200}: give a collection of texts")
    named = tuple(tags)
    if len(named) > MAX_TAGS or not all(_is_tag(tag) for tag in named):
        raise ConfigurationError(
            f"tags={named!r:.200}: give at most {MAX_TAGS} texts of 1 to {MAX_TAG} printable characters"
        )
    return CacheHints(max_age=_bounded(max_age), no_store=bool(no_store), tags=named)


def merge_hints(one: CacheHints | None, other: CacheHints) -> CacheHints:
    """Both of them: the shorter age, the tags of both."""
    if one is None:
        return other
    ages = [hints.max_age for hints in (one, other) if hints.max_age is not None]
    tags = tuple(dict.fromkeys((*one.tags, *other.tags)))[:MAX_TAGS]
    return CacheHints(max_age=min(ages, default=None), no_store=one.no_store or other.no_store, tags=tags)


def read_hints(found: Any) -> CacheHints | None:
    """The hints in a reply. What makes no sense is left out, and what is too much is cut."""
    if not isinstance(found, dict):
        return None
    age, tags = found.get("max_age"), found.get("tags")
    named = tuple(tag for tag in tags[:MAX_TAGS] if _is_tag(tag)) if isinstance(tags, list) else ()
    return CacheHints(
        max_age=_bounded(age if _is_number(age) else None), no_store=found.get("no_store") is True, tags=named
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _bounded(age: float | None) -> float | None:
    if age is None:
        return None
    return float(min(max(age, 0), MAX_AGE))


def _is_tag(tag: Any) -> bool:
    return isinstance(tag, str) and 0 < len(tag) <= MAX_TAG and tag.isprintable()
