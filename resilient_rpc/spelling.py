"""What a message says of a word that nobody knows: which one was meant, perhaps, and which there are."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def meant(word: str, known: Collection[str]) -> str:
    """``did you mean 'deadline'?``; empty when nothing known is like `word`."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def choice(word: str, known: Collection[str]) -> str:
    """As `meant`, and then all that are known, in their order."""
    return f"{meant(word, known)} known: {', '.join(known) or 'none'}".lstrip()
