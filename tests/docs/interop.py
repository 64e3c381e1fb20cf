"""Runs the programs of docs/interop.md, in whatever language, against a broker of the tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pika

from tests.docs.blocks import DOCS, blocks_of

PAGE = DOCS / "interop.md"
READY = "awaiting requests"
NAMES = ("orders", "stock", "fibonacci")
SECONDS = 40.0
SAMPLES = {block.title: block.body for block in blocks_of(PAGE) if block.title}


class Page:
    """The programs of the page in a folder, with a broker, and names of services that nobody else uses."""

    def __init__(self, folder: Path, *, amqp_url: str, service: str) -> None:
        self.folder, self._url, self._service = folder, amqp_url, service

    def write(self, title: str) -> Path:
        """A program of the page."""
        text = SAMPLES[title]
        for name in NAMES:
            for before, after in ('""', '".', "..", '."'):
                text = text.replace(f"{before}{name}{after}", f"{before}{name}{self._service}{after}")
        text = text.replace('"rpc_queue"', f'"rpc.stock{self._service}"')
        text = text.replace("amqp://guest:guest@localhost/", self._url)
        text = text.replace("amqp://guest:guest@localhost", self._url.rstrip("/"))
        path = self.folder / title
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *command: str) -> str:
        """What it prints."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=SECONDS, env=_environment(), check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def serving(self, command: Sequence[str], ready: str = READY) -> Iterator[None]:
        """For as long as a server runs."""
        server = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
        )
        assert server.stdout is not None
        try:
            said = ""
            while not said.rpartition("\n")[2].startswith(ready):
                line = server.stdout.readline()
                assert line, f"{command} ended: {said}"
                said += "\n" + line.rstrip()
            yield
        finally:
            server.terminate()
            server.wait(SECONDS)
            server.stdout.close()

    @contextlib.contextmanager
    def our_server(self, title: str = "service.py") -> Iterator[None]:
        """One of the page."""
        name = self.write(title).stem
        with self.serving([sys.executable, "-m", "resilient_rpc.cli", "serve", f"{name}:server"], "ready:"):
            yield

    def ask(self) -> None:
        """Our client of the page gets from whatever serves what the page says."""
        assert self.run(sys.executable, str(self.write("ask.py"))) == SAMPLES["ask.py prints"]

    def clean(self) -> None:
        """Remove the queues."""
        with pika.BlockingConnection(pika.URLParameters(self._url)) as connection:
            for name in NAMES:
                for end in ("", ".dead", ".expired"):
                    connection.channel().queue_delete(f"rpc.{name}{self._service}{end}")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
