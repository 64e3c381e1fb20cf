"""A peer that cannot be had is said to be missing, with the reason; one that fails has the last word."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.peers import environments
from benchmarks.peers.environments import Environment
from benchmarks.process import party


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environments, "PLACE", tmp_path)
    monkeypatch.setattr(environments, "C_ECHO", tmp_path / "c" / "echo")
    return tmp_path


def test_without_an_interpreter_that_is_old_enough_it_names_the_one_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    wanted = Environment(requirements=("old",), check="old", newest=8)
    monkeypatch.setitem(environments.ENVIRONMENTS, "old", wanted)
    assert environments.ready("old") == ("", "it needs Python 3.8 or older, and there is none on PATH")


@pytest.mark.slow
def test_what_pip_refuses_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environments.ENVIRONMENTS, "bad", Environment(requirements=("./nowhere/",), check="bad"))
    found, why = environments.ready("bad")
    assert not found
    assert why.startswith("it could not be installed: ")
    assert "\n" not in why


def test_without_a_compiler_there_is_no_echo_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert environments.ready("c") == ("", "there is no C compiler")


def test_a_compiler_that_fails_is_quoted_without_paths(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gcc = place / "gcc"
    gcc.write_text("#!/bin/sh\necho '/home/me/echo.c:6:10: fatal error: amqp.h: No such file' >&2\nexit 1\n")
    gcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(place))
    assert environments.ready("c") == ("", "it needs librabbitmq-dev: amqp.h: No such file")


@pytest.mark.slow
def test_a_peer_that_ends_tells_what_it_said_last() -> None:
    with (
        party("nameko-client", "--url", "amqp://nowhere", "--service", "s", how=sys.executable) as child,
        pytest.raises(RuntimeError, match=r"nameko-client ended with 1: .* No module named 'eventlet'"),
    ):
        child.hear("begin")
