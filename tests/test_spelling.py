from __future__ import annotations

from resilient_rpc.spelling import choice, meant


def test_the_word_that_was_meant_is_named() -> None:
    assert meant("retri", ["breaker", "retry"]) == "did you mean 'retry'?"
    assert choice("retri", ["breaker", "retry"]) == "did you mean 'retry'? known: breaker, retry"


def test_nothing_is_guessed_where_nothing_is_alike() -> None:
    assert meant("xyz", ["breaker", "retry"]) == ""
    assert choice("xyz", ["breaker", "retry"]) == "known: breaker, retry"


def test_where_nothing_is_known_that_is_said() -> None:
    assert choice("retri", ()) == "known: none"
