"""Does with a page what a reader does: writes its files, types its commands, and compares what is printed.

- A ``python`` block with a title is a file of that name; ``title="orders.py, continued"`` is appended to it.
- A ``sh`` block is typed line by line. ``resilient-rpc serve`` stays in the background; ``export`` counts from
  there on; what installs or builds is left to `test_pages.py`, which checks that such a command exists.
- A ``text`` block with the title "Output" is what the commands since the last one have printed.

The broker of the pages is replaced by that of the tests, and their service by one that nobody else uses.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.blocks import Block

PAGE_URL = "amqp://guest:guest@localhost/"
PAGE_SERVICE = "orders"
CONTINUED = ", continued"
NOT_RUN = {".", "make", "pip", "git", "cd"}
SECONDS = 40.0


class Reader:
    """Somebody who follows a page, in a folder of their own."""

    def __init__(self, folder: Path, *, service: str, amqp_url: str | None = None, url: str | None = None) -> None:
        self._folder, self._service, self._amqp_url = folder, service, amqp_url
        # Not measured for coverage: what pages show has tests of its own, and each process would take longer by half.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        self._environment = {**inherited, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}
        self._environment.pop("RESILIENT_RPC_URL", None)
        if url is not None:
            self._environment["RESILIENT_RPC_URL"] = url
        self._servers: list[subprocess.Popen[str]] = []
        self._printed = ""
        self.outputs = 0
        """How many blocks of output were compared."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for server in self._servers:
            server.terminate()
        for server in self._servers:
            try:
                code = server.wait(SECONDS)
            finally:
                server.kill()
                assert server.stdout is not None
                server.stdout.close()
            assert code == 0 or kind is not None, f"a server ended with {code}"

    def follow(self, blocks: Iterable[Block]) -> None:
        """Do what the blocks say, in order."""
        for block in blocks:
            try:
                self._do(block)
            except AssertionError as error:
                raise AssertionError(f"{block.where}: {error}") from None

    def _do(self, block: Block) -> None:
        if block.language == "python" and block.title:
            self._write(block)
        elif block.language == "sh":
            for line in block.body.splitlines():
                if line.strip() and not line.startswith("#"):
                    self._type(line)
        elif block.language == "text" and block.title == "Output":
            self.outputs += 1
            printed, self._printed = self._printed, ""
            assert printed == block.body

    def _write(self, block: Block) -> None:
        file = self._folder / block.title.removesuffix(CONTINUED)
        with file.open("a" if block.title.endswith(CONTINUED) else "w", encoding="utf-8") as out:
            out.write(self._ours(block.body, rf'(?<=[".]){PAGE_SERVICE}(?=[".])') + "\n\n")

    def _type(self, line: str) -> None:
        words = shlex.split(self._ours(line, rf"\b{PAGE_SERVICE}(?=\.|$)"), comments=True)
        if words[0] == "export":
            self._environment |= dict(word.split("=", 1) for word in words[1:])
        elif words[:2] == ["resilient-rpc", "serve"]:
            self._serve(words)
        elif words[0] not in NOT_RUN and words[:2] not in (["resilient-rpc", "demo"], ["resilient-rpc", "bench"]):
            self._run(words)

    def _serve(self, words: list[str]) -> None:
        server = subprocess.Popen(
            _command(words), cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, text=True
        )
        self._servers.append(server)
        assert server.stdout is not None
        first = server.stdout.readline()
        assert first.startswith("ready:"), f"{shlex.join(words)} printed {first!r} and not that it is ready"

    def _run(self, words: list[str]) -> None:
        done = subprocess.run(
            _command(words),
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        self._printed += done.stdout.replace(self._service, PAGE_SERVICE)

    def _ours(self, text: str, name: str) -> str:
        if PAGE_URL in text:
            assert self._amqp_url is not None, "the page uses a broker, and its test has none"
            text = text.replace(PAGE_URL, self._amqp_url)
        return re.sub(name, self._service, text)


def _command(words: list[str]) -> list[str]:
    if words[0] == "resilient-rpc":
        return [sys.executable, "-m", "resilient_rpc.cli", *words[1:]]
    assert words[0] == "python", f"a reader of the pages types {words[0]}"
    return [sys.executable, *words[1:]]
