"""Names of events, and patterns of them as AMQP has them: `*` stands for one word, `#` for any number of words."""

from __future__ import annotations

from typing import Any

from resilient_rpc.errors import ConfigurationError
from resilient_rpc.names import MAX_NAME, is_name

ONE, ANY = "*", "#"
_RANKS = {ONE: 1, ANY: 2}


def check_topic(pattern: Any) -> str:
    """Return it if it is the name of an event, or a pattern of such names; `ConfigurationError` otherwise."""
    words = pattern.split(".") if isinstance(pattern, str) else [""]
    if len(".".join(words)) > MAX_NAME or not all(word in _RANKS or is_name(word) for word in words):
        raise ConfigurationError(
            f"event {str(pattern)[:MAX_NAME]!r}: give words of letters, digits and underscores that begin with a "
            f"letter, joined by dots; '*' stands for one of them, '#' for any number; at most {MAX_NAME} characters"
        )
    checked: str = pattern
    return checked


def is_pattern(topic: str) -> bool:
    """Whether it stands for more than one name."""
    return not _RANKS.keys().isdisjoint(topic.split("."))


def matches(pattern: str, name: str) -> bool:
    """Whether a topic exchange sends what is published as `name` to a queue that is bound by `pattern`."""
    words = name.split(".") if name else []
    # How many words the pattern can have used up so far: one pass, whatever the pattern is.
    reached = {0}
    for part in pattern.split("."):
        if part == ANY:
            reached = set(range(min(reached), len(words) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(words) and part in (ONE, words[at])}
        if not reached:
            return False
    return len(words) in reached


def rank(pattern: str) -> list[int]:
    """For sorting: the more definite of two patterns first, word by word."""
    return [_RANKS.get(word, 0) for word in pattern.split(".")]
