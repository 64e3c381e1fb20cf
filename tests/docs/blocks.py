"""The pages, and what stands in them: fenced blocks, links, tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^```(?P<info>[^`\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block. `title`: what the reader sees above it, such as the name of a file."""

    page: Path
    line: int
    language: str
    title: str
    body: str

    @property
    def where(self) -> str:
        """For the messages of tests."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, language: str | None = None) -> list[Block]:
    """The blocks of a page in order; of one language, if it is named."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        name, _, rest = match["info"].strip().partition(" ")
        title = re.search(r'title="([^"]*)"', rest)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page=page, line=line, language=name, title=title[1] if title else "", body=match["body"]))
    return [block for block in found if language in {None, block.language}]


def links_of(page: Path) -> list[str]:
    """The targets of all links that stand outside of blocks."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [match["target"] for match in _LINK.finditer(text)]


def rows_of(page: Path, heading: str = "") -> list[list[str]]:
    """The cells of all table rows below a heading (of any level), without the head rows; backticks are taken off."""
    section = _FENCE.sub("", page.read_text(encoding="utf-8"))
    if heading:
        parts = re.split(r"^#+ (.*)$", section, flags=re.MULTILINE)
        section = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    lines = section.splitlines()
    rows = [
        line
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not _is_rule(line) and not _is_rule(after)
    ]
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows]


def _is_rule(line: str) -> bool:
    return line.startswith("|") and set(line) <= set("|-: ")
