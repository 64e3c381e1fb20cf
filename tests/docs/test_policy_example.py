"""The policy that write-a-policy.md writes, and what that page does with it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from resilient_rpc import Call, ConfigurationError, ConnectionLost, Handler, InvalidParams, NotConnected, Policy, Reply
from resilient_rpc.chain import compose
from resilient_rpc.errors import Overloaded, RpcError
from resilient_rpc.testing import ScriptedPeer, answer, check_policy
from resilient_rpc.testing.check import RULES
from tests.docs.blocks import DOCS, blocks_of
from tests.docs.runner import Reader
from tests.runtimes import Bench

PAGE = DOCS / "write-a-policy.md"
TESTING = DOCS / "testing.md"


@pytest.fixture(scope="module")
def example() -> Any:
    """The class, as the page has it."""
    (block,) = [block for block in blocks_of(PAGE, "python") if block.title == "one_more_try.py"]
    names: dict[str, Any] = {"__name__": "one_more_try"}
    exec(compile(block.body, block.where, "exec", dont_inherit=True), names)  # noqa: S102 - the page is ours
    return names["OneMoreTry"]


def _install(folder: Path) -> None:
    """What an installer makes of the page's pyproject.toml."""
    (block,) = blocks_of(PAGE, "toml")
    project = tomllib.loads(block.body)["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    info.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")


def test_the_page_does_what_it_says(tmp_path: Path, service: str) -> None:
    _install(tmp_path)
    with Reader(tmp_path, service=service) as reader:
        reader.follow(blocks_of(PAGE))
    assert reader.outputs == 5


@pytest.mark.parametrize("page", [PAGE, TESTING], ids=lambda page: page.name)
def test_the_tests_on_the_pages_pass(page: Path, tmp_path: Path) -> None:
    tests = [block for block in blocks_of(page, "python") if block.title.startswith("test_")]
    for block in blocks_of(page, "python"):
        if block.title:
            tmp_path.joinpath(block.title).write_text(block.body, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    command += ["-p", "no:resilient_rpc", "-p", "resilient_rpc.testing.pytest_plugin"]  # as installed, and if not
    done = subprocess.run(
        [*command, *[block.title for block in tests]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_twenty_lines(example: Any) -> None:
    (block,) = [block for block in blocks_of(PAGE, "python") if block.title == "one_more_try.py"]
    code = [line for line in block.body.splitlines() if line.strip() and '"""' not in line]
    assert len(code) == 20
    assert len(RULES) == 20, "the page says twenty"


def test_it_is_a_policy(example: Any) -> None:
    assert isinstance(example(), Policy)


def test_it_repeats_what_was_not_executed(runtime: Bench, example: Any) -> None:
    peer = ScriptedPeer(NotConnected("nobody there"), answer(1))
    assert runtime.call(compose([example(pause=2.0)], peer)).result == 1
    assert runtime.passed == 2.0
    assert [call.attempt for call in peer.calls] == [1, 2]


def test_it_waits_as_long_as_the_server_asks(runtime: Bench, example: Any) -> None:
    peer = ScriptedPeer(Overloaded("later", retry_after=7.0), answer(1))
    assert runtime.call(compose([example(pause=2.0)], peer)).result == 1
    assert runtime.passed == 7.0


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (InvalidParams("never fits"), {}),
        (ConnectionLost("who knows"), {}),
        (NotConnected("no time left"), {"timeout": 1.0}),
    ],
    ids=["no use", "not safe", "no time"],
)
def test_it_does_not_repeat(runtime: Bench, example: Any, error: RpcError, fields: dict[str, Any]) -> None:
    peer = ScriptedPeer(error)
    with pytest.raises(type(error)):
        runtime.call(compose([example(pause=2.0)], peer), **fields)
    assert runtime.passed == 0
    assert len(peer.calls) == 1


def test_it_checks_its_setting(example: Any) -> None:
    with pytest.raises(ConfigurationError, match="-1"):
        example(pause=-1)


def test_the_careless_one_breaks_the_rules_that_the_page_names() -> None:
    class Careless:
        colour_blind = False

        async def __call__(self, call: Call, proceed: Handler, /) -> Reply:
            try:
                return await proceed(call)
            except RpcError:
                await (asyncio.sleep(0.2) if self.colour_blind else call.runtime.sleep(0.2))
                return await proceed(call)

    found: list[str] = []
    for _ in range(4):
        with pytest.raises(AssertionError) as caught:
            check_policy(Careless, except_for=dict.fromkeys(found, "seen"), crowd=4)
        found.append(str(caught.value).split("`")[1])
    assert found == ["certainty", "safety", "attempts", "deadline"]
    Careless.colour_blind = True
    with pytest.raises(AssertionError, match="`one_colour`"):
        check_policy(Careless)
