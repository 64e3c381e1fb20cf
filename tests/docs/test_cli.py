"""`cli.md` and `dead-letters.md`: commands, options and exit codes are those of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import typer.main

from resilient_rpc import cli
from resilient_rpc.cli.fail import FAILED, NOBODY_KNOWS, NOT_EXECUTED, USAGE
from resilient_rpc.transport import deadletters
from tests.docs.blocks import DOCS, rows_of


def test_the_exit_codes_are_those_of_the_command() -> None:
    assert [row[0] for row in rows_of(DOCS / "cli.md", "call")] == [
        str(code) for code in (0, FAILED, USAGE, NOT_EXECUTED, NOBODY_KNOWS)
    ]


def test_the_exit_codes_of_probes_are_those_of_the_commands() -> None:
    assert [row[0] for row in rows_of(DOCS / "cli.md", "ping, health")] == [str(code) for code in (0, FAILED, USAGE)]


def _commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield (*path, name), inner
        yield from _commands(inner, *path, name)


COMMANDS = dict(_commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_its_place_with_all_options(path: tuple[str, ...]) -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    heads = re.findall(r"(?m)^## (.*)$", text)
    assert path[0] in {name for head in heads for name in head.split(", ")}
    if path[0] == "dead":  # the subcommands have a page of their own
        text += (DOCS / "dead-letters.md").read_text(encoding="utf-8")
        assert path[-1] in text
    for parameter in COMMANDS[path].params:
        names = [*parameter.opts, *parameter.secondary_opts]
        assert parameter.param_type_name == "argument" or any(name in text for name in names), names


def test_the_exit_codes_and_headers_of_dead_letters_are_those_of_the_code() -> None:
    page = DOCS / "dead-letters.md"
    codes = [str(code) for code in (0, FAILED, USAGE, NOT_EXECUTED, NOBODY_KNOWS)]
    assert [row[0] for row in rows_of(page, "Look, send again, delete")] == codes
    names = {value for value in vars(deadletters).values() if isinstance(value, str) and value.startswith("rpc-dead-")}
    assert {row[0] for row in rows_of(page, "The label")} == names - {deadletters.PREFIX}
    reasons = {reason for row in rows_of(page, "Reasons") for reason in row[0].replace("`", "").split(", ")}
    assert reasons | {"expired"} == set(get_args(deadletters.Reason))
