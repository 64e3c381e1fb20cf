from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from benchmarks.__main__ import parser
from resilient_rpc import cli
from tests.docs.blocks import DOCS, PAGES, README, ROOT, Block, blocks_of, links_of
from tests.docs.runner import Reader

PYTHON = [block for page in PAGES for block in blocks_of(page, "python")]
SHELL = [block for page in PAGES for block in blocks_of(page, "sh")]
COMMANDS = typer.main.get_command(cli.app)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
TOLD_ELSEWHERE = {"README.md", "interop.md", "tutorial.md", "tutorial-servers.md", "write-a-policy.md"}
IN_MEMORY = [
    "index.md",
    "admission.md",
    "discovery.md",
    "events.md",
    "exactly-once.md",
    "policies.md",
    "plugins.md",
    "replies-and-naming.md",
    "scaling.md",
    "server-policies.md",
    "services.md",
    "testing.md",
    "wire-protocol.md",
    "write-a-store.md",
    *sorted(f"policies/{page.name}" for page in DOCS.glob("policies/*.md")),
]
ON_A_BROKER = ["cli.md", "how-a-call-travels.md"]


def _where(block: Block) -> str:
    return block.where


def test_there_are_pages() -> None:
    assert README in PAGES
    assert len(PAGES) >= 10
    assert PYTHON
    assert SHELL


@pytest.mark.parametrize("block", PYTHON, ids=_where)
def test_every_python_block_compiles(block: Block) -> None:
    compile(block.body, block.where, "exec", dont_inherit=True)


@pytest.mark.parametrize("block", PYTHON, ids=_where)
def test_every_name_that_is_imported_from_the_library_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.body)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resilient_rpc"):
            module = __import__(node.module or "", fromlist=["*"])
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{node.module} has no {missing}"


@pytest.mark.parametrize("block", SHELL, ids=_where)
def test_every_command_exists(block: Block) -> None:
    files = {other.title for other in PYTHON}
    for line in block.body.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        match words[0]:
            case "make":
                assert words[1] in TARGETS, line
            case "resilient-rpc":
                _check_command(words[1:], line)
            case "python":
                assert words[1] in files, line
            case "export":
                assert "=" in words[1], line
            case ".":
                assert words[1:] == [".venv/bin/activate"], line
            case "pip":
                assert words[1:] == ["install", _distribution()], line
            case other:
                pytest.fail(f"{other!r}: nothing checks this command")


def _check_command(words: list[str], line: str) -> None:
    command: Any = COMMANDS  # typer hides click's groups behind its own type
    for word in words:
        if not hasattr(command, "commands"):
            break
        assert word in command.commands, line
        command = command.commands[word]
    known = {option for parameter in command.params for option in parameter.opts}
    if words[0] == "bench":  # it hands its words to the suite
        known = set(parser()._option_string_actions)
    assert {word for word in words if word.startswith("--")} <= known, line


def _distribution() -> str:
    name: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    return name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in links_of(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        if anchor:
            assert anchor in _anchors(target), link


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_no_address_of_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert not re.search(r"/(home|root|tmp)/", text)
    assert not re.search(r"\b(10|127|192\.168)\.\d+\.\d+\.\d+", text)


def test_every_page_with_output_is_followed_by_a_test() -> None:
    followed = TOLD_ELSEWHERE | set(IN_MEMORY) | set(ON_A_BROKER)
    with_output = {_path(page) for page in PAGES if any(block.title == "Output" for block in blocks_of(page))}
    assert with_output <= followed


def _path(page: Path) -> str:
    return page.name if page == README else page.relative_to(DOCS).as_posix()


@pytest.mark.parametrize("name", IN_MEMORY)
def test_a_page_does_what_it_says(name: str, tmp_path: Path, service: str) -> None:
    with Reader(tmp_path, service=service) as reader:
        reader.follow(blocks_of(DOCS / name))
    assert reader.outputs


@pytest.mark.timeout(240)  # a page starts many processes, one after the other
@pytest.mark.parametrize("name", ON_A_BROKER)
def test_a_page_does_what_it_says_on_rabbitmq(name: str, tmp_path: Path, amqp_url: str, service: str) -> None:
    with Reader(tmp_path, service=service, amqp_url=amqp_url) as reader:
        reader.follow(blocks_of(DOCS / name))
    assert reader.outputs
